"""Scores of training sessions, and of new sessions by the number of trials that aligned them, kept
in the cache."""

from __future__ import annotations

import numpy as np

from benchmarks.paper import measures
from benchmarks.paper.methods import Bench, best_of, fitted, model_config, settings_of
from benchmarks.paper.sets import Sample, draws
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.align import align


def scored(
    bench: Bench, name: str, trained: TrainedModel | None, sample: Sample
) -> dict[str, float]:
    """Reconstruction and forecasts of a session's test trials; without a model, all that
    exploded."""
    plan = bench.plan(name)
    if trained is None:
        keys = ["rec", *[f"{at}k{k}" for k in plan.horizons for at in ("", "at_")]]
        return dict.fromkeys(keys, float("-inf"))
    return measures.model_r2(
        trained, sample.test, measures.target_of(sample), plan.contexts, plan.horizons
    )


def training_scores(bench: Bench, name: str, method: str, seed: int) -> dict:
    """Scores of each training session, with its embedding and parameters."""

    def compute() -> dict:
        trained, found = fitted(bench, name, method, seed), {}
        for sample in bench.simulated(name, seed).training:
            mean, _ = measures.embedding_of(trained, sample.test)
            found[sample.key] = {
                "scores": scored(bench, name, trained, sample),
                "embedding": mean.tolist(),
                "parameters": list(sample.truth.parameters.values()),
            }
        return found

    return bench.cache.piece(
        f"{name}/{method}-seed{seed}-train", settings_of(bench, name, method, seed), compute
    )


def ceiling(bench: Bench, name: str, seed: int) -> dict:
    """Scores of the true dynamics, of training and new sessions."""
    plan = bench.plan(name)

    def of(samples: list[Sample]) -> dict:
        return {
            sample.key: measures.ceiling_r2(
                sample, measures.target_of(sample), plan.contexts, plan.horizons
            )
            for sample in samples
        }

    def compute() -> dict:
        sessions = bench.simulated(name, seed)
        return {"train": of(sessions.training), "new": of(sessions.new)}

    return bench.cache.piece(f"{name}/ceiling-seed{seed}", {"plan": repr(plan)}, compute)


def aligned(
    bench: Bench, name: str, method: str, seed: int, given: TrialCounts
) -> TrainedModel | None:
    """A method's model of a new session of these trials: aligned, or for `single` fitted to them
    alone."""
    if method == "single":
        return best_of(given, model_config(bench.plan(name), method), bench.single(name, seed))
    return align(fitted(bench, name, method, seed), given, bench.align(seed))


def new_scores(bench: Bench, name: str, method: str, seed: int, n_shots: int) -> dict:
    """{session: {measure: one value a draw of n_shots trials}} of the new sessions."""
    single = method == "single"
    settings = settings_of(bench, name, method, seed) | {"shots": n_shots, "draws": bench.n_draws}
    settings |= (
        {"candidates": [each.model_dump(exclude_unset=True) for each in bench.single(name, seed)]}
        if single
        else {"align": bench.align(seed).model_dump(exclude_unset=True)}
    )

    def compute() -> dict:
        found = {}
        for sample in bench.simulated(name, seed).new:
            runs = []
            for trials in draws(sample.given.n_trials, n_shots, bench.n_draws, seed):
                trained = aligned(bench, name, method, seed, sample.given.select(trials))
                runs.append(scored(bench, name, trained, sample))
                bench.say(
                    f"{name} {method} seed {seed}: {sample.key} from {n_shots} trials, k20 "
                    f"{runs[-1]['k20']:.3f}"
                )
            found[sample.key] = {measure: [run[measure] for run in runs] for measure in runs[0]}
        return found

    return bench.cache.piece(f"{name}/{method}-seed{seed}-new-{n_shots:02d}", settings, compute)


def embedding_figures(train: dict, prefix: str = "") -> dict[str, float]:
    """How well one-dimensional embeddings order the sessions by their parameter."""
    embeddings = np.array([each["embedding"] for each in train.values()])
    parameter = np.array([each["parameters"][0] for each in train.values()])
    if embeddings.shape[1] > 1 or len(parameter) < 3:
        return {}
    return {
        f"{prefix}abs_spearman": measures.abs_spearman(embeddings[:, 0], parameter),
        f"{prefix}spearman_e0": measures.spearman_from_e0(embeddings[:, 0], parameter),
    }


def scores_only(train: dict) -> dict:
    return {key: each["scores"] for key, each in train.items()}


def few_shot(bench: Bench, name: str, seed: int, method: str, shots: tuple[int, ...]) -> dict:
    """Training sessions, and new ones by the number of trials that aligned them."""
    if method == "ceiling":
        return {"sessions": ceiling(bench, name, seed), "figures": {}}
    sessions, figures = {}, {}
    if method != "single":
        train = training_scores(bench, name, method, seed)
        sessions["train"] = scores_only(train)
        figures = {} if method == "shared" else embedding_figures(train)
    for n_shots in shots:
        sessions[str(n_shots)] = new_scores(bench, name, method, seed, n_shots)
    return {"sessions": sessions, "figures": figures}
