"""Align a new session to a trained model: its own read-in, likelihood and process noise; all else
stays as it is (App. D.1).

First analytically: a readout in the model's frame, found by condition labels or by a search for
placement and embedding, and the read-in of a training session behind it. Then, where validation
trials say that it helps, some steps on the ELBO.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from metadyn.config import AlignConfig, TrainingConfig
from metadyn.errors import DataError, ModelFileError
from metadyn.inference.session_embedding import with_embedding
from metadyn.model.build import build_model
from metadyn.model.encoders import KnownEmbedding
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.per_session import declarations
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry, TrialCounts
from metadyn.training.alignment.initialise import analytic_init, install, warn_of_labels
from metadyn.training.alignment.search import Placement
from metadyn.training.calibrate import calibrated, typical_scale
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.devices import find_device
from metadyn.training.execution.loop import Progress, StepReport, run
from metadyn.training.objective import crop_range
from metadyn.training.sessions import split_sessions
from metadyn.training.task import make_task

MIN_TRIALS_TO_VALIDATE = (
    4  # trials: below, none can be spared to choose the number of steps or the noise of forecasts
)


def solo(trained: TrainedModel, n_units: int, placement: Placement | None = None) -> MetaSSM:
    """A model of one new session round the shared parts, which are frozen; with the embedding of
    the placement, if it has one."""
    module = build_model(trained.config, [n_units], seed=trained.training.seed)
    declared = declarations(module)
    shared = {
        name: value
        for name, value in trained.module.state_dict().items()
        if not declared[name].per_session
    }
    module.load_state_dict(shared, strict=False)
    with torch.no_grad():
        module.log_q.copy_(
            trained.module.log_q.mean(0, keepdim=True)
        )  # the others' average, or what all share
    if placement is not None and len(placement.embedding_mean):
        mean, sd = (
            torch.as_tensor(placement.embedding_mean),
            torch.as_tensor(placement.embedding_sd),
        )
        module.embedding_encoder = KnownEmbedding(mean, 2 * sd.log())
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(declared[name].per_session)
    return module.to(trained.module.log_q.device)


def train_on(
    trained: TrainedModel,
    counts: TrialCounts,
    held_out: TrialCounts,
    training: TrainingConfig,
    report: Callable[[StepReport], None],
) -> tuple[MetaSSM, Placement | None, Progress]:
    """Start and ELBO steps on some trials: the module after the last step, its placement if one was
    searched, and which step scored best on `held_out` (0: the start)."""
    start, placement = analytic_init(trained, counts, report)
    module = solo(trained, counts.n_units, placement)
    trials, unseen = (DeviceTrials.of([each], module.log_q.device) for each in (counts, held_out))
    config = (
        trained.config
        if placement is None
        else trained.config.model_copy(update={"pooling": "mean"})
    )  # one e, not one a trial
    task = make_task(module, trials, unseen, config, training, crop_range(training, [counts]))

    def score() -> float:
        return sum(task.validate().values())

    install(trained, module, start, placement, score, report)
    progress = Progress(best_score=score())
    run(task, progress, report=report, save=lambda _: None)
    return module, placement, progress


def chosen_steps(
    trained: TrainedModel, counts: TrialCounts, training: TrainingConfig, report
) -> int:
    """How many ELBO steps to take, from validation trials among those given; none where none can be
    spared."""
    if counts.n_trials < MIN_TRIALS_TO_VALIDATE:
        return 0
    parts = split_sessions([counts], 0.25, training.seed)
    _, _, progress = train_on(trained, parts.train[0], parts.validation[0], training, report)
    return progress.best_step


def extended(
    trained: TrainedModel,
    module: MetaSSM,
    counts: TrialCounts,
    placement: Placement | None,
    gap: float = 0.0,
) -> TrainedModel:
    """The trained model with one more session, whose embedding is the placement's, or what its
    trials tell the encoder."""
    entry = SessionEntry.of(counts, gap=gap)
    sessions = (*trained.sessions, replace(entry, noise_scale=typical_scale(trained.sessions)))
    merged = build_model(trained.config, [each.n_units for each in sessions])
    declared = declarations(merged)
    old, new = trained.module.state_dict(), module.state_dict()
    state = {
        name: stacked(old[name], new[name], value, declared[name].padding)
        if declared[name].per_session
        else old[name]
        for name, value in merged.state_dict().items()
    }
    merged.load_state_dict(state)
    merged = replace(trained, module=merged.to(trained.module.log_q.device), sessions=sessions)
    if placement is None:
        return with_embedding(merged, counts)
    told = (
        tuple(map(float, values)) for values in (placement.embedding_mean, placement.embedding_sd)
    )
    known = replace(
        sessions[-1], **dict(zip(("embedding_mean", "embedding_sd"), told, strict=True))
    )
    return replace(merged, sessions=(*trained.sessions, known))


def stacked(old: Tensor, new: Tensor, like: Tensor, padding: float) -> Tensor:
    """Old rows and the new one, padded to the shape of `like`."""
    out = torch.full_like(like, padding, device=old.device)
    out[tuple(slice(size) for size in old.shape)] = old
    out[(slice(len(old), None), *[slice(size) for size in new.shape[1:]])] = new
    return out


def align(
    trained: TrainedModel,
    counts: TrialCounts,
    config: AlignConfig,
    *,
    device: str = "auto",
    report: Callable[[StepReport], None] = lambda _: None,
) -> TrainedModel:
    """The model with one more session, fitted to its few trials; nothing that the sessions share is
    changed.

    Of 20 trials or more `config.test_fraction` is kept aside for scores. Without `config.steps`, a
    quarter of the others chooses the number of ELBO steps, and all of them are then used. Labels
    that the model does not know are warned of. Raises ModelFileError when the model knows a session
    of that name, DataError for other bins.
    """
    if counts.session in [entry.key for entry in trained.sessions]:
        raise ModelFileError(
            f"the model already knows a session {counts.session!r}",
            remedy="another name for the file: metadyn align MODEL NAME=FILE",
        )
    if abs(counts.bin_width - trained.bin_width) > 1e-9:
        raise DataError(
            "the model was made for other bins",
            found=f"{counts.bin_width} s, not {trained.bin_width} s",
        )
    warn_of_labels(trained, counts)
    trained = replace(trained, module=trained.module.to(find_device(device)))
    parts = split_sessions([counts], 0.0, config.seed, test=config.test_fraction)
    counts = parts.train[0]
    update = {
        "optimiser": "adam",
        "pretrain_steps": 0,
        "kl_ramp": 0,
        "validate_every": 25,
        "steps": config.max_steps,
    }
    update |= {"learning_rate": config.learning_rate, "seed": config.seed}
    training = trained.training.model_copy(update=update)
    steps = (
        chosen_steps(trained, counts, training, report) if config.steps is None else config.steps
    )
    final = training.model_copy(update={"steps": steps, "validate_every": max(steps, 1)})
    module, placement, _ = train_on(trained, counts, counts, final, report)
    aligned = extended(trained, module, counts, placement, parts.gaps[0])
    return (
        calibrated(aligned, [counts], report)
        if counts.n_trials >= MIN_TRIALS_TO_VALIDATE
        else aligned
    )
