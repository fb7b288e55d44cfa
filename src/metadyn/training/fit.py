"""Fit one model to many sessions: a start from the data, distillation, then the ELBO."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.splits import evenly, split_windows
from metadyn.data.storage import Keep, in_memory, is_on_disk, nearest, on_disk
from metadyn.errors import DataError
from metadyn.inference.infer import smoothed_latents
from metadyn.inference.session_embedding import with_embedding
from metadyn.model.build import build_model
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import declarations
from metadyn.model.trained import SharedLatents, TrainedModel
from metadyn.records import SessionEntry, TrialCounts
from metadyn.training.alignment.shared_latents import learn_frame
from metadyn.training.calibrate import calibrated
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.devices import find_device
from metadyn.training.execution.distributed import SingleProcess, joined
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.execution.loop import Progress, StepReport, reported, run
from metadyn.training.execution.optim import make_optimiser
from metadyn.training.execution.resume import checkpointer, collect, finish, put_best, resumed
from metadyn.training.execution.run_record import RunRecord, check_same, trial_digests
from metadyn.training.execution.schedules import cosine, ramp
from metadyn.training.execution.step import Task
from metadyn.training.health import warning_reporter
from metadyn.training.initial.initialise import find_starts, started_model
from metadyn.training.objective import crop_range, make_objective, tail_range
from metadyn.training.validation import validate

FAR_SEED = 1_000_000  # between the seeds of initial networks of one run


def keeper(sessions: list[TrialCounts], folder: Path | None) -> Keep:
    """On disk beside the model where that is where a session is, else in memory."""
    if any(is_on_disk(counts.counts) for counts in sessions):
        return partial(on_disk, folder=nearest(folder))
    return in_memory


@dataclass(frozen=True)
class Parts:
    """Trials of each session that train, and that choose the checkpoint (where none are spared, the
    same); what is in neither is the test part. `gaps`: time between parts [s], of each session."""

    train: list[TrialCounts]
    validation: list[TrialCounts]
    gaps: list[float]


def split_sessions(
    sessions: list[TrialCounts],
    validation: float,
    seed: int,
    keep: Keep = in_memory,
    test: float = 0.0,
) -> Parts:
    """The parts of each session by these fractions; see `metadyn.data.splits.split_windows`."""
    splits = [split_windows(counts.windows, validation, test, seed) for counts in sessions]
    pairs = []
    for counts, split in zip(sessions, splits, strict=True):
        chosen = (split.train, split.validation if validation else split.train)
        pairs.append([part.kept(keep) for part in of_trained_units(*map(counts.select, chosen))])
    return Parts(
        [train for train, _ in pairs],
        [held_out for _, held_out in pairs],
        [split.gap for split in splits],
    )


def of_trained_units(train: TrialCounts, held_out: TrialCounts) -> tuple[TrialCounts, TrialCounts]:
    """The same trials, without the units that were observed in none of those that train, of which
    nothing can be learnt."""
    seen = train.observed_entries.any((0, 1))
    if seen.all():
        return train, held_out
    found = f"{np.sum(~seen)} of {train.n_units} units were observed in none of the windows that train the model"
    warnings.warn(f"{train.source.uri or train.session}: {found}; left out", stacklevel=3)
    return train.select(units=seen), held_out.select(units=seen)


def check_sessions(sessions: list[TrialCounts], latent_dim: int) -> None:
    """Refuse what cannot be trained on together."""
    keys = [counts.session for counts in sessions]
    if not sessions:
        raise DataError("there is no session to train on", remedy="metadyn fit FILE … -o MODEL")
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise DataError(
            "two sessions have one key",
            found=", ".join(twice),
            remedy="name them: metadyn fit A=one.nwb B=two.nwb",
        )
    if len({round(counts.bin_width, 9) for counts in sessions}) > 1:
        raise DataError(
            "the sessions were binned differently",
            found=str([counts.bin_width for counts in sessions]),
        )
    for counts in sessions:
        longest = int(counts.windows.n_bins.max())
        if counts.n_trials < 2:
            raise DataError(
                "one window is not enough to train on",
                item=counts.session,
                found=f"1 window of {longest} bins",
                remedy=f"--max-bins {max(longest // 2, 1)}, which cuts it in two"
                if longest > 1
                else "more windows (--where)",
            )
        if counts.n_units < latent_dim:
            raise DataError(
                "a session has fewer units than the model has latents",
                item=counts.session,
                found=f"{counts.n_units} units, {latent_dim} latents",
                remedy=f"model.latent_dim = {max(1, counts.n_units)}, or a filter that keeps more units",
            )


def fitting(config: ModelConfig, sessions: list[TrialCounts]) -> ModelConfig:
    """The configuration with no more latents than the smallest session has units, unless their
    number was asked for."""
    fewest = min(counts.n_units for counts in sessions)
    if "latent_dim" in config.model_fields_set or config.latent_dim <= fewest:
        return config
    return config.model_copy(update={"latent_dim": fewest})


def task_of(
    model: MetaSSM,
    trials: DeviceTrials | HostTrials,
    validation: DeviceTrials | HostTrials,
    config: ModelConfig,
    training: TrainingConfig,
    crops: tuple[int, int],
) -> Task:
    """Distillation, if any, and ELBO on the parameters that are not frozen."""
    parameters = {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
    tails = tail_range(training, crops[1])
    by_rows = isinstance(trials, HostTrials)
    kind = training.optimiser
    return Task(
        module=model,
        parameters=parameters,
        optimiser=make_optimiser(
            parameters,
            training.learning_rate,
            training.weight_decay,
            kind,
            declarations(model),
            by_rows=by_rows,
        ),
        objective=make_objective(model, trials, config, training, crops, trials.static),
        validate=lambda: validate(model, validation, training, crops[1], tails, config.pooling),
        learning_rate=lambda step: (
            training.learning_rate * cosine(max(0, step - training.distil_steps), training.steps)
        ),
        kl_weight=lambda step: (
            training.kl_weight * ramp(step - training.distil_steps, training.kl_ramp)
        ),
        stage=lambda step: "distil" if step < training.distil_steps else "elbo",
        steps=training.distil_steps + training.steps,
        clip=training.clip,
        every=training.validate_every,
        seed=training.seed,
        processes=trials.processes,
        static=trials.static,
    )


def fit(
    sessions: list[TrialCounts],
    config: ModelConfig,
    training: TrainingConfig,
    *,
    data: dict | None = None,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    report: Callable[[StepReport], None] = lambda _: None,
) -> TrainedModel:
    """Train a model on binned sessions (sections 3.2 and D.1) and return its best checkpoint.

    `folder` keeps checkpoints, `resume` goes on from the last one; `data` are the options the bins
    were made with, kept with the model. Processes that torchrun started share the sessions among
    them, and all return the same model. Raises DataError for sessions that do not fit together,
    TrainingError when the loss stays NaN.
    """
    processes, where = joined(len(sessions), config, partial(find_device, device))
    report = report if processes.rank == 0 else lambda _: None
    return fit_here(
        sessions, config, training, data or {}, folder, resume, where, processes, report
    )


def trials_of(
    sessions: list[TrialCounts], latents: list[np.ndarray] | None, training, where, processes
) -> DeviceTrials | HostTrials:
    """All trials on the device, or on the host where a step takes few sessions."""
    if training.sessions_per_step is None:
        return DeviceTrials.of(sessions, where, latents, processes=processes)
    return HostTrials(
        sessions, where, min(training.sessions_per_step, len(sessions)), latents, processes
    )


def fit_here(
    sessions: list[TrialCounts],
    config: ModelConfig,
    training: TrainingConfig,
    data: dict,
    folder: Path | None,
    resume: bool,
    where: torch.device,
    processes: SingleProcess,
    report: Callable[[StepReport], None],
) -> TrainedModel:
    """`fit`, where this process is and among those there are."""
    check_sessions(sessions, config.latent_dim if "latent_dim" in config.model_fields_set else 1)
    keep = keeper(sessions, folder)
    parts = split_sessions(
        sessions, training.validation_fraction, training.seed, keep, training.test_fraction
    )
    train, held_out = parts.train, parts.validation
    config = fitting(config, train)
    settings = {
        "model": config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "data": data,
    }
    record = RunRecord(
        settings, {counts.session: trial_digests(counts) for counts in sessions} if folder else {}
    )
    going_on = resume and folder is not None
    if going_on:
        check_same(folder, train, record)
    starts = find_starts(train, config, training, keep, report)
    crops = crop_range(training, sessions)
    trials = trials_of(
        train,
        [start.latents for start in starts] if training.warm_start else None,
        training,
        where,
        processes,
    )
    validation = trials_of(looked_at(held_out, training), None, training, where, processes)

    def started(seed: int) -> Task:
        model = started_model(train, starts, config, training.model_copy(update={"seed": seed}))
        return task_of(
            processes.narrowed(model).to(where), trials, validation, config, training, crops
        )

    task, progress = (
        (started(training.seed), None) if going_on else best_distilled(started, training, report)
    )
    model = task.module
    entries = tuple(map(SessionEntry.of, train, held_out, parts.gaps))
    frame = learn_frame(
        train, [start.latents for start in starts], [start.weight for start in starts]
    )
    whole = (
        model
        if processes.size == 1
        else build_model(config, [counts.n_units for counts in train]).to(where)
    )
    trained = TrainedModel(whole, config, sessions[0].bin_width, entries, frame, training, data)

    progress = progress or resumed(task, folder)
    save = checkpointer(task, trained, folder, record) if folder else lambda _: None
    run(
        task,
        progress,
        report=warning_reporter(report, model, trials, config, training, crops[1]),
        save=save,
    )
    put_best(task, progress)
    collect(task, trained)
    for counts in reported(train, "embed", report):
        trained = with_embedding(trained, counts)
    trained = replace(trained, shared_latents=frame_of(trained, train, keep, report))
    trained = calibrated(trained, held_out, report)
    if folder and processes.rank == 0:
        finish(trained, folder, record, progress)
    return trained


def looked_at(held_out: list[TrialCounts], training: TrainingConfig) -> list[TrialCounts]:
    """Validation trials; of each session no more than a step takes, where a step takes few of many
    sessions."""
    if training.sessions_per_step is None:
        return held_out
    return [
        counts.select(evenly(counts.n_trials, training.trials_per_session)) for counts in held_out
    ]


def best_distilled(
    task_of_seed: Callable[[int], Task],
    training: TrainingConfig,
    report: Callable[[StepReport], None],
) -> tuple[Task, Progress]:
    """Of several initial networks, distilled, that whose forecasts validate best, to go on from: an
    embedding can fold while it forms. A single one is not distilled yet."""
    seeds = [training.seed + FAR_SEED * place for place in range(training.distil_starts)]
    if len(seeds) == 1 or not training.distil_steps:
        return task_of_seed(seeds[0]), Progress()
    tried = []
    for place, seed in enumerate(seeds):
        task, progress = task_of_seed(seed), Progress()
        run(
            replace(task, steps=training.distil_steps), progress, report=report, save=lambda _: None
        )
        score = progress.history[-1]["forecast"]
        tried.append((score, task, progress))
        said = (
            f"initial networks {place + 1} of {len(seeds)}: forecasts validate at {score:.3f} bits"
        )
        report(StepReport(training.distil_steps, training.distil_steps, "distil", message=said))
    _, task, progress = max(tried, key=lambda each: each[0])
    return task, progress


def frame_of(
    trained: TrainedModel,
    sessions: list[TrialCounts],
    keep: Keep,
    report: Callable[[StepReport], None],
) -> SharedLatents:
    """What the training trials have in common under the trained model."""
    latents = [
        keep(smoothed_latents(trained, counts)) for counts in reported(sessions, "frame", report)
    ]
    readouts = trained.module.likelihood.weight.numpy(force=True)
    return learn_frame(
        sessions, latents, [readouts[row, : counts.n_units] for row, counts in enumerate(sessions)]
    )
