"""`metadyn.demo`: simulate, fit, align a new session and annotate, all compared with the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metadyn.config import AlignConfig, Config, DataConfig, ModelConfig, TrainingConfig
from metadyn.data.synthetic import SimulatedSpikes, simulate
from metadyn.records import TrialCounts

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel
    from metadyn.training.execution.loop import StepReport

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
    """The findings of the demo; sessions in the order of their files, the aligned one last.

    speeds, embeddings (session,); low_rank, shared (session, horizon): r² of forecast rates of
    test trials against the true rates. The last session is aligned from SHOTS trials; shared
    dynamics were not fitted to it (NaN).
    """

    sessions: list[str]
    speeds: np.ndarray
    embeddings: np.ndarray
    low_rank: np.ndarray
    shared: np.ndarray
    spearman: float
    files: list[Path]
    model: TrainedModel
    example: dict[str, np.ndarray]


def forecast_r2(
    trained: TrainedModel, truth: SimulatedSpikes, counts: TrialCounts, trials: np.ndarray
) -> np.ndarray:
    """r² of forecast rates (horizon,), all contexts together.

    1 − Σ(λ − λ̂)² / Σ(λ − λ̄)² over trials and units at each horizon, where λ̄ is the mean true
    rate of a unit in a trial.
    """
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
    report: Callable[[StepReport], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Simulate, fit, align and annotate, from NWB files of spikes to annotated ones.

    Parameters
    ----------
    folder : for files and models.
    seed : of the simulation and the training.
    device : auto, cpu or cuda.
    report : called with the progress of training.
    say : called with a sentence at each stage.

    Returns
    -------
    Embeddings, forecasts and files, held against the simulated truth.
    """
    from metadyn.pipeline.align import align
    from metadyn.pipeline.annotation import annotate
    from metadyn.pipeline.fit import fit
    from metadyn.pipeline.inputs import Recording, read_counts

    def training(step: StepReport) -> None:
        if step.stage != "verdict":  # the demo's own comes at its end, against the truth
            report(step)

    folder = Path(folder)
    say(f"simulating {SESSIONS} sessions of different speed, and a ninth of a speed between them")
    truths, paths = simulated(folder / "sessions", seed)
    counts = [
        read_counts(Recording(path, truth.key), CONFIG.data)
        for path, truth in zip(paths, truths, strict=True)
    ]
    train, test = np.arange(TRIALS - TEST), np.arange(TRIALS - TEST, TRIALS)
    models = {}
    for conditioning in ("low_rank", "shared"):
        say(f"training the {conditioning.replace('_', '-')} model")
        models[conditioning] = fit(
            [each.select(train) for each in counts[:-1]],
            folder / f"model-{conditioning}",
            configured(conditioning, seed),
            device=device,
            report=training,
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
    return compared(model, models["shared"], truths, counts, test, files)


def simulated(folder: Path, seed: int) -> tuple[list[SimulatedSpikes], list[Path]]:
    """The sessions of the demo, the new one last, and their files below `folder`."""
    from metadyn.nwb.simulate import write_simulated

    limit_cycle = partial(simulate, "limit-cycle", n_trials=TRIALS, n_bins=BINS)
    known = limit_cycle(n_sessions=SESSIONS, seed=seed)
    (new,) = limit_cycle(parameters=[NEW_SPEED], seed=seed + 1000)
    every = [*known, replace(new, key="limit-cycle-new")]
    truths = [each for each in every if isinstance(each, SimulatedSpikes)]
    return truths, [write_simulated(truth, folder) for truth in truths]


def configured(conditioning: str, seed: int) -> Config:
    """The demo's configuration with this conditioning and seed."""
    model = CONFIG.model.model_copy(update={"conditioning": conditioning})
    training = CONFIG.training.model_copy(update={"seed": seed})
    return CONFIG.model_copy(update={"model": model, "training": training})


def compared(
    model: TrainedModel,
    shared_model: TrainedModel,
    truths: list[SimulatedSpikes],
    counts: list[TrialCounts],
    test: np.ndarray,
    files: list[Path],
) -> DemoResult:
    """Embeddings beside true speeds, and forecasts of both models beside true rates."""
    from scipy.stats import spearmanr

    from metadyn.inference.infer import infer

    speeds = np.array([truth.parameters["speed"] for truth in truths])
    pairs = list(zip(truths, counts, strict=True))
    low_rank = np.array([forecast_r2(model, *pair, test) for pair in pairs])
    shared = np.full_like(low_rank, np.nan)
    shared[:-1] = [forecast_r2(shared_model, *pair, test) for pair in pairs[:-1]]
    means = [infer(model, each.select(test))["session_embedding_mean"] for each in counts]
    embeddings = np.array([mean.values[0] for mean in means])
    return DemoResult(
        sessions=[truth.key for truth in truths],
        speeds=speeds,
        embeddings=embeddings,
        low_rank=low_rank,
        shared=shared,
        spearman=float(spearmanr(embeddings, speeds).statistic),
        files=files,
        model=model,
        example=example(model, truths[-1], counts[-1].select(test), int(test[0])),
    )


def example(
    model: TrainedModel, truth: SimulatedSpikes, counts: TrialCounts, trial: int
) -> dict[str, np.ndarray]:
    """A test trial of the new session: spikes and rates of the unit that varies most."""
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
