"""The main job on sessions whose truth is known: simulate, fit, align a new one, annotate; all held
against the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metadyn.config import AlignConfig, Config, DataConfig, ModelConfig, TrainingConfig
from metadyn.data.synthetic import SimulatedSpikes, simulate
from metadyn.records import TrialCounts

SESSIONS, TRIALS, TEST, BINS, SHOTS = 8, 40, 10, 120, 8
NEW_SPEED = 3.3  # between two of the training speeds
CONTEXTS, HORIZONS = (50, 70, 90), (10, 20, 30)  # bins; the longest of both make a whole trial
CONFIG = Config(
    data=DataConfig(),
    model=ModelConfig(latent_dim=2, embedding_dim=1, hidden=(32, 32)),
    training=TrainingConfig(
        pretrain_steps=200,
        steps=300,
        crop_bins=(60, 120),
        tail_bins=20,
        coordinated_dropout=0.25,  # two latents of many units: nothing to learn by heart
        kl_ramp=250,
        kl_weight=1.0,
        test_fraction=0.0,  # test trials are set apart below
    ),
    align=AlignConfig(steps=150),
)


@dataclass(frozen=True)
class DemoResult:
    """What the demo found. r² of forecast rates against true rates (session, horizon), test trials;
    the last session is the one aligned from SHOTS trials, which shared dynamics were not fitted to
    (NaN)."""

    sessions: list[str]
    speeds: np.ndarray
    embeddings: np.ndarray
    low_rank: np.ndarray
    shared: np.ndarray
    spearman: float
    files: list[Path]
    model: object
    example: dict[str, np.ndarray]


def forecast_r2(
    trained, truth: SimulatedSpikes, counts: TrialCounts, trials: np.ndarray
) -> np.ndarray:
    """At-K r² of rates (horizon,), contexts together: 1 − Σ(λ − λ̂)² / Σ(λ − λ̄)², λ̄ a trial's
    mean rate (model.md)."""
    from metadyn.inference.forecast import forecast

    error, total = np.zeros(len(HORIZONS)), np.zeros(len(HORIZONS))
    rates = truth.rates[trials]
    for context in CONTEXTS:
        predicted = forecast(trained, counts.select(trials), context=context, steps=max(HORIZONS))[
            "rate_mean"
        ].values
        for i, horizon in enumerate(HORIZONS):
            true = rates[:, context + horizon - 1]
            error[i] += ((true - predicted[:, horizon - 1]) ** 2).sum()
            total[i] += ((true - rates.mean(1)) ** 2).sum()
    return 1 - error / total


def demo(
    folder: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    report: Callable = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Everything from NWB files of simulated spikes to annotated NWB files, below `folder`."""
    from scipy.stats import spearmanr

    from metadyn.inference.infer import infer
    from metadyn.nwb.simulate import write_simulated
    from metadyn.pipeline.align import align
    from metadyn.pipeline.annotation import annotate
    from metadyn.pipeline.fit import fit
    from metadyn.pipeline.inputs import Recording, read_counts

    def training(step) -> None:
        if step.stage != "verdict":  # the demo's own comes at its end, against the truth
            report(step)

    folder = Path(folder)
    say(f"simulating {SESSIONS} sessions of different speed, and a ninth of a speed between them")
    truths = simulate("limit-cycle", n_sessions=SESSIONS, n_trials=TRIALS, n_bins=BINS, seed=seed)
    new = simulate(
        "limit-cycle", parameters=[NEW_SPEED], n_trials=TRIALS, n_bins=BINS, seed=seed + 1000
    )[0]
    truths.append(replace(new, key="limit-cycle-new"))
    paths = [write_simulated(truth, folder / "sessions") for truth in truths]
    counts = [
        read_counts(Recording(path, truth.key), CONFIG.data)
        for path, truth in zip(paths, truths, strict=True)
    ]
    train, test = np.arange(TRIALS - TEST), np.arange(TRIALS - TEST, TRIALS)

    models = {}
    for conditioning in ("low_rank", "shared"):
        say(f"training the {conditioning.replace('_', '-')} model")
        config = CONFIG.model_copy(
            update={
                "model": CONFIG.model.model_copy(update={"conditioning": conditioning}),
                "training": CONFIG.training.model_copy(update={"seed": seed}),
            }
        )
        known = [each.select(train) for each in counts[:-1]]
        models[conditioning] = fit(
            known, folder / f"model-{conditioning}", config, device=device, report=training
        )
    say(f"aligning the ninth session from {SHOTS} trials")
    model = align(
        models["low_rank"],
        counts[-1].select(train[:SHOTS]),
        folder / "model-aligned",
        CONFIG,
        device=device,
        report=training,
    )
    say("annotating and validating all nine files")
    named = [f"{truth.key}={path}" for truth, path in zip(truths, paths, strict=True)]
    files = annotate(
        model, named, folder / "annotated", context=CONTEXTS[0], steps=max(HORIZONS), overwrite=True
    )

    speeds = np.array([truth.parameters["speed"] for truth in truths])
    low_rank = np.array(
        [forecast_r2(model, truth, each, test) for truth, each in zip(truths, counts, strict=True)]
    )
    shared = np.full_like(low_rank, np.nan)
    shared[:-1] = [
        forecast_r2(models["shared"], *pair, test)
        for pair in zip(truths[:-1], counts[:-1], strict=True)
    ]
    embeddings = np.array(
        [infer(model, each.select(test))["session_embedding_mean"].values[0] for each in counts]
    )
    return DemoResult(
        [truth.key for truth in truths],
        speeds,
        embeddings,
        low_rank,
        shared,
        float(spearmanr(embeddings, speeds).statistic),
        files,
        model,
        example(model, truths[-1], counts[-1].select(test), int(test[0])),
    )


def example(
    model, truth: SimulatedSpikes, counts: TrialCounts, trial: int
) -> dict[str, np.ndarray]:
    """One test trial of the new session: the unit that changes most, its spikes, true and forecast
    rate."""
    from metadyn.inference.forecast import forecast

    context = CONTEXTS[0]
    ahead = forecast(model, counts.select([0]), context=context, steps=BINS - context, samples=64)
    unit = int(truth.rates[trial].std(0).argmax())
    samples = ahead["rate_samples"].values[:, 0, :, unit]
    return {
        "time": (np.arange(BINS) + 0.5) * counts.bin_width,
        "counts": counts.counts[0, :, unit] / counts.bin_width,
        "true": truth.rates[trial, :, unit],
        "ahead": ahead["time"].values,
        "mean": ahead["rate_mean"].values[0, :, unit],
        "low": np.quantile(samples, 0.05, axis=0),
        "high": np.quantile(samples, 0.95, axis=0),
    }
