"""The package's main job on simulated sessions, each step compared with the truth.

Eight sessions of one family of dynamics differ in speed. A model with embedding-conditioned
(low-rank) dynamics and one with shared dynamics are trained on them; the first is then aligned to a
ninth session, of a speed between theirs, from a few trials. All nine files are annotated. Scores
are of test trials, which neither training nor alignment has seen.

Command: `metadyn demo -o demo`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from metadyn.config import AlignConfig, Config, DataConfig, ModelConfig, TrainingConfig
from metadyn.data.synthetic import SimulatedSpikes, simulate
from metadyn.records import TrialCounts

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel
    from metadyn.training.execution.loop import StepReport

# Training sessions; trials of each, of which the last TEST are for tests; bins of 20 ms in a trial;
# trials that the ninth session is aligned from
SESSIONS, TRIALS, TEST, BINS, SHOTS = 8, 40, 10, 120, 8
# Indices of the trials that models are trained on, and of those that only scores are made of
TRAINING_TRIALS, TEST_TRIALS = np.arange(TRIALS - TEST), np.arange(TRIALS - TEST, TRIALS)
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
    """The results of the demo; the last session is the one aligned from SHOTS trials.

    Parameters
    ----------
    sessions : keys of the nine sessions.
    speeds : true speed of each (session,).
    embeddings : posterior mean of each session's embedding, from its test trials (session,).
    low_rank : r² of forecast rates against true rates, on test trials (session, horizon), with
        embedding-conditioned dynamics.
    shared : the same with shared dynamics; NaN in the last row, a session which they were not
        fitted to.
    spearman : rank correlation of embeddings and speeds.
    files : the annotated NWB files.
    model : the aligned model, which knows all nine sessions.
    example : arrays of one forecast, see `example`.
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


@dataclass(frozen=True)
class DemoSession:
    """A simulated session, the NWB file that it was written to, and the counts read back from it.

    Parameters
    ----------
    truth : spikes, and the rates and the speed behind them.
    path : the NWB file.
    counts : (trial, bin, unit) as `fit` takes them.
    """

    truth: SimulatedSpikes
    path: Path
    counts: TrialCounts


def demo(
    folder: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    report: Callable[[StepReport], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Simulate, train, align, annotate and score; everything is kept below a folder.

    Parameters
    ----------
    folder : for sessions/, model-low_rank/, model-shared/, model-aligned/ and annotated/.
    seed : of simulation and training.
    device : auto, cpu or cuda.
    report : called with each step of training and alignment.
    say : called with a line for a person before each part.

    Raises
    ------
    ConfigError : the folder holds models already.
    WriteError : the folder cannot be written. (Simulated and annotated files in it are replaced.)
    """
    from metadyn.pipeline.annotation import annotate

    def training(step: StepReport) -> None:
        if step.stage != "verdict":  # the demo's own comes at its end, against the truth
            report(step)

    folder = Path(folder)
    say(f"simulating {SESSIONS} sessions of different speed, and a ninth of a speed between them")
    sessions = simulated_sessions(folder / "sessions", seed)
    low_rank, shared = trained_models(sessions[:-1], folder, seed, device, training, say)
    say(f"aligning the ninth session from {SHOTS} trials")
    model = aligned_model(low_rank, sessions[-1], folder / "model-aligned", device, training)
    say("annotating and validating all nine files")
    files = annotate(
        model,
        [f"{each.truth.key}={each.path}" for each in sessions],
        folder / "annotated",
        context=CONTEXTS[0],
        steps=max(HORIZONS),
        overwrite=True,
    )
    return compare_with_truth(sessions, model, shared, files)


def simulated_sessions(folder: Path, seed: int) -> list[DemoSession]:
    """The sessions of the demo, written as NWB files below a folder and read back from there.

    All follow a limit cycle, at speeds evenly spread; the last one is the new session.
    """
    from metadyn.nwb.simulate import write_simulated
    from metadyn.pipeline.inputs import Recording, read_counts

    limit_cycle = partial(simulate, "limit-cycle", n_trials=TRIALS, n_bins=BINS)
    truths = limit_cycle(n_sessions=SESSIONS, seed=seed)
    # A seed of its own: other units and other noise than those of the training sessions
    new = limit_cycle(parameters=[NEW_SPEED], seed=seed + 1000)[0]
    truths.append(replace(new, key="limit-cycle-new"))
    sessions = []
    for truth in truths:
        path = write_simulated(truth, folder)
        counts = read_counts(Recording(path, truth.key), CONFIG.data)
        sessions.append(DemoSession(cast(SimulatedSpikes, truth), path, counts))
    return sessions


def trained_models(
    sessions: list[DemoSession],
    folder: Path,
    seed: int,
    device: str,
    report: Callable[[StepReport], None],
    say: Callable[[str], None],
) -> tuple[TrainedModel, TrainedModel]:
    """The model with low-rank and the one with shared dynamics, fitted to the same trials.

    Parameters
    ----------
    sessions : of which the first TRIALS - TEST trials are trained on.
    folder : keeps the models in model-low_rank/ and model-shared/.
    seed, device, report, say : as of `demo`.

    Raises
    ------
    ConfigError : a folder holds a model already.
    """
    from metadyn.pipeline.fit import fit

    counts = [each.counts.select(TRAINING_TRIALS) for each in sessions]
    models = []
    for conditioning in ("low_rank", "shared"):
        say(f"training the {conditioning.replace('_', '-')} model")
        model_config = CONFIG.model.model_copy(update={"conditioning": conditioning})
        training_config = CONFIG.training.model_copy(update={"seed": seed})
        config = CONFIG.model_copy(update={"model": model_config, "training": training_config})
        target = folder / f"model-{conditioning}"
        models.append(fit(counts, target, config, device=device, report=report))
    return models[0], models[1]


def aligned_model(
    model: TrainedModel,
    session: DemoSession,
    folder: Path,
    device: str,
    report: Callable[[StepReport], None],
) -> TrainedModel:
    """The model aligned to a session from its first SHOTS trials; the dynamics stay as they are."""
    from metadyn.pipeline.align import align

    few = session.counts.select(TRAINING_TRIALS[:SHOTS])
    return align(model, few, folder, CONFIG, device=device, report=report)


def compare_with_truth(
    sessions: list[DemoSession], model: TrainedModel, shared: TrainedModel, files: list[Path]
) -> DemoResult:
    """Embeddings beside true speeds, and forecasts of both models beside true rates.

    Parameters
    ----------
    sessions : all nine, the new one last.
    model : knows all of them.
    shared : with shared dynamics; knows all but the last.
    files : the annotated files, which are passed on.
    """
    from scipy.stats import spearmanr

    from metadyn.inference.infer import infer

    speeds = np.array([each.truth.parameters["speed"] for each in sessions])
    low_rank_r2 = np.array([forecast_r2(model, each, TEST_TRIALS) for each in sessions])
    shared_r2 = np.full_like(low_rank_r2, np.nan)  # (session, horizon)
    shared_r2[:-1] = [forecast_r2(shared, each, TEST_TRIALS) for each in sessions[:-1]]
    inferred = [infer(model, each.counts.select(TEST_TRIALS)) for each in sessions]
    embeddings = np.array([each["session_embedding_mean"].values[0] for each in inferred])
    return DemoResult(
        sessions=[each.truth.key for each in sessions],
        speeds=speeds,
        embeddings=embeddings,
        low_rank=low_rank_r2,
        shared=shared_r2,
        spearman=float(spearmanr(embeddings, speeds).statistic),
        files=files,
        model=model,
        example=example(model, sessions[-1], int(TEST_TRIALS[0])),
    )


def forecast_r2(model: TrainedModel, session: DemoSession, trials: np.ndarray) -> np.ndarray:
    """r² of forecast rates at each of HORIZONS (horizon,), over trials, units and CONTEXTS.

    1 − Σ(λ − λ̂)² / Σ(λ − λ̄)²: λ the true rate at that bin, λ̂ its forecast, λ̄ the mean of the
    true rate over the trial. 1 is the truth, 0 what the mean rate of the very trial gives.

    Parameters
    ----------
    model : knows the session.
    session : with the true rates.
    trials : indices of the trials to forecast.
    """
    from metadyn.inference.forecast import forecast

    counts = session.counts.select(trials)
    rates = session.truth.rates[trials]  # (trial, time, unit)
    mean_rates = rates.mean(1)
    error, total = np.zeros(len(HORIZONS)), np.zeros(len(HORIZONS))
    for context in CONTEXTS:
        ahead = forecast(model, counts, context=context, steps=max(HORIZONS))
        predicted = ahead["rate_mean"].values  # (trial, step, unit)
        for i, horizon in enumerate(HORIZONS):
            true = rates[:, context + horizon - 1]
            error[i] += ((true - predicted[:, horizon - 1]) ** 2).sum()
            total[i] += ((true - mean_rates) ** 2).sum()
    return 1 - error / total


def example(model: TrainedModel, session: DemoSession, trial: int) -> dict[str, np.ndarray]:
    """One trial of the unit whose true rate changes most in it: spikes, true and forecast rate.

    Parameters
    ----------
    model : knows the session.
    session : with the true rates.
    trial : index of a test trial.

    Returns
    -------
    time : centres of the trial's bins [s] (bin,).
    counts, true : spikes per second in each bin, and the true rate [Hz] (bin,).
    ahead : centres of the bins after the context [s] (step,).
    mean, low, high : the forecast rate, and the 5 % and 95 % quantiles of 64 sampled paths [Hz]
        (step,).
    """
    from metadyn.inference.forecast import forecast

    context = CONTEXTS[0]
    test = session.counts.select(np.array([trial]))
    ahead = forecast(model, test, context=context, steps=BINS - context, samples=64)
    unit = int(session.truth.rates[trial].std(0).argmax())
    samples = ahead["rate_samples"].values[:, 0, :, unit]  # (sample, step)
    return {
        "time": (np.arange(BINS) + 0.5) * test.bin_width,
        "counts": test.counts[0, :, unit] / test.bin_width,
        "true": session.truth.rates[trial, :, unit],
        "ahead": ahead["time"].values,
        "mean": ahead["rate_mean"].values[0, :, unit],
        "low": np.quantile(samples, 0.05, axis=0),
        "high": np.quantile(samples, 0.95, axis=0),
    }
