"""Fit one model to many sessions, in four steps: split and check the sessions, initialise networks
from the data, train them, summarise and store the model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.execution.devices import find_device
from metadyn.training.execution.distributed import join_processes
from metadyn.training.execution.loop import Progress, Reporter, run, silent
from metadyn.training.execution.resume import checkpointer, collect, finish, put_best, resumed
from metadyn.training.execution.run_record import RunRecord, check_same, record_run
from metadyn.training.execution.step import Task
from metadyn.training.health import warning_reporter
from metadyn.training.networks import Initialiser, find_initialiser
from metadyn.training.objective import crop_range
from metadyn.training.sessions import check_sessions, choose_storage, limit_latents, split_sessions
from metadyn.training.summary import summarise


def fit(
    sessions: list[TrialCounts],
    config: ModelConfig,
    training: TrainingConfig,
    *,
    data: dict | None = None,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    report: Reporter = silent,
) -> TrainedModel:
    """Train a model on binned sessions (sections 3.2 and D.1) and return its best checkpoint.

    sessions: of one bin width, with keys that differ.
    config: the model; fewer latents if a session has fewer units and their number was not set.
    training: steps, batches and what is kept aside.
    data: the options that the bins were made with, kept with the model.
    folder: where checkpoints are kept, if anywhere.
    resume: go on from the last checkpoint in the folder.
    device: "auto", "cpu", "cuda" or another of torch's.
    report: called with the progress of every tenth step.

    Processes that torchrun started share the sessions among them, and all return the same model.
    Raises DataError for sessions that do not fit together, ConfigError for more processes than
    sessions, DeviceError for a device that does not exist, TrainingError when the loss stays NaN or
    the run in the folder had other settings or data, KeyboardInterrupt after a checkpoint.
    """
    processes, where = join_processes(len(sessions), config, partial(find_device, device))
    report = report if processes.rank == 0 else silent
    going_on = folder if resume else None  # the folder of the run that goes on

    # 1. Split and check the sessions
    check_sessions(sessions, config)
    storage = choose_storage(sessions, folder)
    parts = split_sessions(
        sessions, training.validation_fraction, training.seed, storage, training.test_fraction
    )
    config = limit_latents(config, parts.train)
    record = record_run(sessions, config, training, data or {}, digests=folder is not None)
    if going_on is not None:
        check_same(going_on, parts.train, record)

    # 2. Initialise
    crops = crop_range(training, sessions)
    initial = find_initialiser(parts, config, training, crops, storage, where, processes, report)
    if going_on is None:
        task, progress = initial.best_task(report)
    else:
        task = initial.task(training.seed)
        progress = resumed(task, going_on)
    trained = initial.model(task, data or {})

    # 3. Train
    train(task, progress, trained, initial, folder, record, report)

    # 4. Summarise and store
    trained = summarise(trained, parts, storage, report)
    if folder and processes.rank == 0:
        finish(trained, folder, record, progress)
    return trained


def train(
    task: Task[MetaSSM],
    progress: Progress,
    trained: TrainedModel,
    initial: Initialiser,
    folder: Path | None,
    record: RunRecord,
    report: Reporter,
) -> None:
    """Run the stages that are left, put back the best weights, and give them to the model.

    task, progress: what is to be trained, and how far it is.
    trained: the model that gets the weights of all sessions.
    initial: has the trials that train, of which warnings are made.
    folder, record: where checkpoints are kept with the record of the run, if anywhere.
    """
    reporter = warning_reporter(
        report, task.module, initial.trials, initial.training, initial.crops[1]
    )
    save = checkpointer(task, trained, folder, record) if folder else silent
    run(task, progress, report=reporter, save=save)
    put_best(task, progress)
    collect(task, trained)
