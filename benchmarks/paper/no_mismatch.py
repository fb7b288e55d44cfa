"""A model fitted to what a model of its kind generated (App. A, "No model mismatch")."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.paper import measures
from benchmarks.paper.methods import Bench, fitted, refitted, settings_of
from metadyn.inference.forecast import forecast
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts, Windows


def generated(
    bench: Bench, generator: TrainedModel, seed: int
) -> list[tuple[TrialCounts, TrialCounts, np.ndarray]]:
    """What the generator makes of each training session: trials to fit and trials to test, and the
    embedding they follow.

    A trial starts from the state inferred of a simulated one, and goes on with the model's own
    process noise.
    """
    rng, made = np.random.default_rng(seed), []
    contexts = bench.plan("limit-cycles-20").contexts
    for row, sample in enumerate(bench.simulated("limit-cycles-20", seed).training):
        embedding, _ = measures.embedding_of(generator, sample.given)
        sd = (
            (0.5 * generator.module.likelihood.log_var[row, : sample.given.n_units])
            .exp()
            .numpy(force=True)
        )
        parts = []
        for counts in (sample.given, sample.test):
            options = {
                "context": contexts[0],
                "steps": contexts[-1] + 50,
                "samples": 1,
                "embedding": embedding,
            }
            means = (
                forecast(generator, counts, **options, seed=seed)["rate_samples"].values[0]
                * generator.bin_width
            )
            parts.append(
                as_trials(counts, means + sd * rng.standard_normal(means.shape, np.float32))
            )
        made.append((*parts, embedding))
    return made


def as_trials(like: TrialCounts, values: np.ndarray) -> TrialCounts:
    """Other observations (trial, time, unit) of the units of a session."""
    start, n_bins = like.windows.start, np.full(len(values), values.shape[1])
    windows = Windows(start, n_bins, like.bin_width, like.windows.table, like.windows.trial_row)
    return replace(
        like,
        counts=values.astype(np.float32),
        observed=np.ones(values.shape[:2], bool),
        windows=windows,
    )


def no_mismatch(bench: Bench, seed: int, method: str) -> dict:
    """Fig 9: a model fitted to what a model of its kind generated, beside the generator itself."""
    name = "limit-cycles-20"
    plan = bench.plan(name)

    def compute() -> dict:
        generator = fitted(bench, name, "low_rank", seed)
        made = generated(bench, generator, seed)
        given = [each for each, _, _ in made]
        models = {"low_rank": refitted(bench, name, seed, generator, given), "generator": generator}
        found: dict = {"true_embedding": [embedding.tolist() for _, _, embedding in made]}
        for key, model in models.items():
            found[key] = {
                test.session: measures.model_r2(
                    model, test, test.counts, plan.contexts, plan.horizons
                )
                for _, test, _ in made
            }
        found["embedding"] = [
            measures.embedding_of(models["low_rank"], test)[0].tolist() for _, test, _ in made
        ]
        return found

    found = bench.cache.piece(
        f"no-mismatch/seed{seed}", settings_of(bench, name, "low_rank", seed), compute
    )
    own, true = (np.array(found[key])[:, 0] for key in ("embedding", "true_embedding"))
    figures = {"abs_spearman": measures.abs_spearman(own, true)} if method == "low_rank" else {}
    return {"sessions": {"train": found[method]}, "figures": figures}
