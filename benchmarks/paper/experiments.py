"""The experiments: what each measures of one method and one seed.

A measurement is {"sessions": {group: {session: {measure: value or one a draw}}}, "figures":
{figure: value}}. Groups are "train" (training sessions), a number (new sessions aligned from as
many trials) or "new" (new sessions, however aligned).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.paper import measures
from benchmarks.paper.embeddings import embedding_vs_bins, embedding_vs_trials
from benchmarks.paper.few_shot import few_shot
from benchmarks.paper.methods import MULTI_SESSION, Bench, fitted, settings_of
from benchmarks.paper.no_mismatch import no_mismatch
from benchmarks.paper.sets import SPIKES_A_BIN, draws
from metadyn.training.alignment.align import align

FAMILIAR = ("hopf", "duffing-hopf")  # sets whose models coverage is measured of


@dataclass(frozen=True)
class Experiment:
    """measure(bench, seed, method) → a measurement; `folders` of the cache are its own, to be
    removed with it."""

    about: str
    methods: tuple[str, ...]
    measure: Callable[[Bench, int, str], dict]
    folders: tuple[str, ...]


def motivating(bench: Bench, seed: int, method: str) -> dict:
    """Figs 2-3 and the one-shot of App. A: M = 2, M = 20, speed 4.1 from one trial."""
    one_shot = few_shot(bench, "limit-cycles-20", seed, method, (1,))
    sessions, figures = one_shot["sessions"], one_shot["figures"]
    figures = {f"M20_{name}": value for name, value in figures.items()}
    if "train" in sessions:
        sessions["M20"] = sessions.pop("train")
        pair = few_shot(bench, "limit-cycles-2", seed, method, ())
        sessions["M2"] = pair["sessions"]["train"]
    return {"sessions": sessions, "figures": figures}


def hopf(bench: Bench, seed: int, method: str) -> dict:
    """Fig 10, Table 2."""
    return few_shot(bench, "hopf", seed, method, bench.shots(1, 8))


def duffing_hopf(bench: Bench, seed: int, method: str) -> dict:
    """Fig 4, Table 1."""
    return few_shot(bench, "duffing-hopf", seed, method, bench.shots(1, 2, 4, 8, 16))


def rank(bench: Bench, seed: int, method: str) -> dict:
    """Fig 15: rank_1 is the low_rank model of `hopf`."""
    if method == "ceiling":
        return few_shot(bench, "hopf", seed, method, ())
    return few_shot(
        bench, "hopf", seed, "low_rank" if method == "rank_1" else method, bench.shots(8)
    )


def small_pretraining(bench: Bench, seed: int, method: str) -> dict:
    """Fig 17's question: does pretraining on few sessions suffice? `sessions_5` is low_rank trained
    on five of Hopf's."""
    shots = bench.shots(1, 8)
    if not method.startswith("sessions_"):
        return few_shot(bench, "hopf", seed, method, shots)
    name = method.replace("sessions_", "hopf-")
    return few_shot(bench, "hopf" if name == "hopf-21" else name, seed, "low_rank", shots)


def pooled_over_sessions(bench: Bench, name: str, method: str, seed: int) -> dict[str, float]:
    """{"pooled_k20": r² of forecasts over all training sessions together, …} of a method or the
    true dynamics."""
    plan = bench.plan(name)

    def compute() -> dict:
        trained = None if method == "ceiling" else fitted(bench, name, method, seed)
        kept = []
        for sample in bench.simulated(name, seed).training:
            steps = max(plan.horizons)
            if trained is None:
                paths = {at: sample.ahead(at, steps) for at in plan.contexts}
            else:
                paths = measures.predicted(trained, sample.test, plan.contexts, steps)
            kept.append((measures.target_of(sample), paths))
        return {
            f"pooled_k{k}": measures.pooled_r2(
                [measures.squares(target, paths, k) for target, paths in kept]
            )
            for k in plan.horizons
        }

    settings = (
        {"plan": repr(plan)} if method == "ceiling" else settings_of(bench, name, method, seed)
    )
    return bench.cache.piece(f"{name}/{method}-seed{seed}-pooled", settings, compute)


def poisson(bench: Bench, seed: int, method: str) -> dict:
    """Sparse spikes: forecasts of rates against the true rates, by session and over sessions
    together.

    Rates of the slowest limit cycle hardly move in a trial: by session its r² says little, and it
    weighs as much as the rest.
    """
    sessions, figures = {}, {}
    for n in (8, 20):
        for spikes in SPIKES_A_BIN:
            found = few_shot(bench, f"poisson-{n}-{spikes}", seed, method, ())
            sessions[f"M{n}_{spikes}"] = found["sessions"]["train"]
            pooled = pooled_over_sessions(bench, f"poisson-{n}-{spikes}", method, seed)
            figures |= {
                f"M{n}_{spikes}_{name}": value
                for name, value in (found["figures"] | pooled).items()
            }
    return {"sessions": sessions, "figures": figures}


def coverage(bench: Bench, seed: int, method: str) -> dict:
    """Forecast intervals of new sessions aligned from 8 trials: share of test observations inside,
    1 to 30 bins ahead.

    As `fit` calibrated them, and "uncalibrated", with the process noise of the ELBO.
    """
    n_shots, figures = bench.shots(8)[-1], {}
    for name in FAMILIAR:

        def compute(name: str = name) -> dict:
            trained, found = fitted(bench, name, method, seed), {}
            for sample in bench.simulated(name, seed).new:
                trials = draws(sample.given.n_trials, n_shots, 1, seed)[0]
                model = align(trained, sample.given.select(trials), bench.align(seed))
                contexts, n_samples = bench.plan(name).contexts, 50 if bench.quick else 200
                *others, entry = model.sessions
                found[sample.key] = {"noise_scale": entry.noise_scale}
                for prefix, scale in (("", entry.noise_scale), ("uncalibrated_", 1.0)):
                    told = replace(model, sessions=(*others, replace(entry, noise_scale=scale)))
                    covered = measures.interval_coverage(
                        told, sample, contexts, 30, seed, n_samples
                    )
                    found[sample.key] |= {prefix + kind: levels for kind, levels in covered.items()}
                bench.say(
                    f"coverage {name} seed {seed}: {sample.key} {found[sample.key]['observations']}"
                )
            return found

        settings = settings_of(bench, name, method, seed) | {
            "align": bench.align(seed).model_dump(exclude_unset=True)
        }
        found = bench.cache.piece(f"coverage/{name}-{method}-seed{seed}", settings, compute)
        figures[f"{name}_noise_scale"] = float(
            np.mean([each["noise_scale"] for each in found.values()])
        )
        for kind in (
            prefix + kind for prefix in ("", "uncalibrated_") for kind in ("observations", "means")
        ):
            levels = [each[kind] for each in found.values()]
            figures[f"{name}_{kind}"] = {
                level: float(np.mean([each[level] for each in levels])) for level in levels[0]
            }
    return {"sessions": {}, "figures": figures}


EXPERIMENTS = {
    "motivating": Experiment(
        motivating.__doc__,
        (*MULTI_SESSION, "single", "ceiling"),
        motivating,
        ("limit-cycles-2", "limit-cycles-20"),
    ),
    "no-mismatch": Experiment(
        no_mismatch.__doc__, ("low_rank", "generator"), no_mismatch, ("no-mismatch",)
    ),
    "hopf": Experiment(hopf.__doc__, (*MULTI_SESSION, "single", "ceiling"), hopf, ("hopf",)),
    "duffing-hopf": Experiment(
        duffing_hopf.__doc__, (*MULTI_SESSION, "single", "ceiling"), duffing_hopf, ("duffing-hopf",)
    ),
    "embedding-vs-bins": Experiment(
        embedding_vs_bins.__doc__, ("low_rank",), embedding_vs_bins, ("embedding-vs-bins",)
    ),
    "embedding-vs-trials": Experiment(
        embedding_vs_trials.__doc__,
        ("low_rank", "product"),
        embedding_vs_trials,
        ("embedding-vs-trials",),
    ),
    "rank": Experiment(rank.__doc__, ("rank_1", "rank_2", "rank_4", "ceiling"), rank, ()),
    "small-pretraining": Experiment(
        small_pretraining.__doc__,
        ("sessions_2", "sessions_5", "sessions_10", "sessions_21", "single", "ceiling"),
        small_pretraining,
        ("hopf-2", "hopf-5", "hopf-10"),
    ),
    "poisson": Experiment(
        poisson.__doc__,
        ("low_rank", "shared", "ceiling"),
        poisson,
        tuple(f"poisson-{n}-{spikes}" for n in (8, 20) for spikes in SPIKES_A_BIN),
    ),
    "coverage": Experiment(coverage.__doc__, ("low_rank",), coverage, ("coverage",)),
}
