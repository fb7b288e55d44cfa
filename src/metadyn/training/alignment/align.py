"""Align a new session to a trained model: its own read-in, likelihood and process noise; all else
stays as it is (Vermani et al., arXiv:2410.05454, section D.1).

First analytically: a readout for the model's latents, found by condition labels or by a search for
placement and embedding, and the read-in of a training session behind it. Then, where validation
trials say that it helps, some steps on the ELBO.
"""

from __future__ import annotations

from dataclasses import replace

from metadyn.config import AlignConfig, TrainingConfig
from metadyn.errors import DataError, ModelFileError
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.initialise import (
    analytic_init,
    initialise_session,
    warn_of_labels,
)
from metadyn.training.alignment.new_session import new_session_model, with_new_session
from metadyn.training.alignment.placement import Placement
from metadyn.training.calibrate import calibrated
from metadyn.training.execution.batch import DeviceTrials
from metadyn.training.execution.devices import find_device
from metadyn.training.execution.loop import Progress, Reporter, run, silent
from metadyn.training.objective import crop_range
from metadyn.training.sessions import split_sessions
from metadyn.training.task import make_task

# Of fewer trials none can be spared to choose the number of steps or the noise of forecasts
MIN_TRIALS_TO_VALIDATE = 4
VALIDATION_FRACTION = 0.25  # of the trials, to choose the number of steps


def align(
    trained: TrainedModel,
    counts: TrialCounts,
    config: AlignConfig,
    *,
    device: str = "auto",
    report: Reporter = silent,
) -> TrainedModel:
    """The model with one more session, fitted to its few trials; nothing that the sessions share is
    changed.

    Of 20 trials or more `config.test_fraction` is kept aside for scores. Without `config.steps`, a
    quarter of the others chooses the number of ELBO steps, and all of them are then used. Labels
    that the model does not know are warned of.

    Raises
    ------
    ModelFileError : the model knows a session of that name.
    DataError : the counts are of other bins.
    """
    check_new(trained, counts)
    warn_of_labels(trained, counts)
    trained = replace(trained, module=trained.module.to(find_device(device)))
    parts = split_sessions([counts], 0.0, config.seed, test=config.test_fraction)
    counts = parts.train[0]
    training = training_of(trained, config)
    steps = config.steps
    if steps is None:
        steps = choose_steps(trained, counts, training, report)
    final = training.model_copy(update={"steps": steps, "validate_every": max(steps, 1)})
    module, placement, _ = fit_new_session(trained, counts, counts, final, report)
    aligned = with_new_session(trained, module, counts, placement, parts.gaps[0])
    if counts.n_trials < MIN_TRIALS_TO_VALIDATE:
        return aligned
    return calibrated(aligned, [counts], report)


def check_new(trained: TrainedModel, counts: TrialCounts) -> None:
    """Raise where the model knows the session already, or was made for other bins."""
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


def training_of(trained: TrainedModel, config: AlignConfig) -> TrainingConfig:
    """How the new session is trained: as the others were, but by Adam on the ELBO alone."""
    changed = {
        "optimiser": "adam",
        "pretrain_steps": 0,
        "kl_ramp": 0,
        "validate_every": 25,
        "steps": config.max_steps,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
    }
    return trained.training.model_copy(update=changed)


def choose_steps(
    trained: TrainedModel, counts: TrialCounts, training: TrainingConfig, report: Reporter
) -> int:
    """How many ELBO steps score best on some of the trials; none where too few can be spared."""
    if counts.n_trials < MIN_TRIALS_TO_VALIDATE:
        return 0
    parts = split_sessions([counts], VALIDATION_FRACTION, training.seed)
    _, _, progress = fit_new_session(trained, parts.train[0], parts.validation[0], training, report)
    return progress.best_step


def fit_new_session(
    trained: TrainedModel,
    counts: TrialCounts,
    held_out: TrialCounts,
    training: TrainingConfig,
    report: Reporter,
) -> tuple[MetaSSM, Placement | None, Progress]:
    """First weights and ELBO steps on some trials, scored on those held out.

    Returns the module after the last step, its placement if one was searched for, and the progress,
    whose best step is 0 where the first weights scored best.
    """
    init, placement = analytic_init(trained, counts, report)
    module = new_session_model(trained, counts.n_units, placement)
    device = module.log_q.device
    trials = DeviceTrials.of([counts], device)
    unseen = DeviceTrials.of([held_out], device)
    config = trained.config
    if placement is not None:  # one embedding of the session, not one for each trial
        config = config.model_copy(update={"pooling": "mean"})
    task = make_task(module, trials, unseen, config, training, crop_range(training, [counts]))

    def score() -> float:
        return sum(task.validate().values())

    initialise_session(trained, module, init, placement, score, report)
    progress = Progress(best_score=score())
    run(task, progress, report=report, save=silent)
    return module, placement, progress
