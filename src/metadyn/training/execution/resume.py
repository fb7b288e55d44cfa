"""What a run leaves on disk, and how it goes on from there.

The files of a checkpoint are those of `metadyn.training.execution.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from metadyn.model.file_names import name_in_file
from metadyn.model.trained import TrainedModel
from metadyn.training.execution.checkpoint import (
    damage_as_error,
    point,
    pointed,
    read_model_file,
    read_state,
    write_checkpoint,
)
from metadyn.training.execution.loop import Progress, restore
from metadyn.training.execution.optim import optimiser_state
from metadyn.training.execution.run_record import RunRecord
from metadyn.training.execution.step import Task


def metrics_of(progress: Progress, record: RunRecord) -> dict:
    """What metrics.json holds: how far the run is, and its record."""
    return {
        "step": progress.step,
        "step_size": progress.step_size,
        "best_step": progress.best_step,
        "best_score": progress.best_score if progress.best else None,
        "history": progress.history,
        **asdict(record),
    }


def checkpointer(
    task: Task, trained: TrainedModel, folder: Path, record: RunRecord
) -> Callable[[Progress], None]:
    """A function save(progress) that writes a checkpoint, which `latest` then names.

    It holds the weights, the optimiser's state and the best weights so far. A step's random numbers
    follow from seed and step, so these two are the random state. Of several processes the first
    writes for all what one process would.

    task: what is trained.
    trained: the model of all sessions, which gets the task's weights.
    record: the settings and data of the run.
    """
    processes = task.processes

    def save(progress: Progress) -> None:
        # Every process takes part in these, as each has its own sessions
        state = processes.gather_sessions(optimiser_state(task.optimiser, task.parameters))
        best = processes.gather_sessions(progress.best)
        collect(task, trained)
        if processes.rank:
            return
        tensors = {f"optimiser/{key}": value for key, value in state.items()}
        tensors |= {f"best/{key}": value for key, value in best.items()}
        tensors["step"] = torch.tensor(progress.step)
        tensors["seed"] = torch.tensor(task.seed)
        name = write_checkpoint(
            folder,
            f"step-{progress.step:06d}",
            trained.file().weights,
            tensors,
            record.settings,
            metrics_of(progress, record),
        )
        point(folder, "latest", name)
        # A run without a validation yet has its first checkpoint as the best
        if progress.best_step == progress.step or not (folder / "best").exists():
            point(folder, "best", name)

    return save


def collect(task: Task, trained: TrainedModel) -> None:
    """Give the trained model the weights of the sessions of all processes."""
    if task.module is not trained.module:
        trained.module.load_state_dict(task.processes.gather_sessions(task.module.state_dict()))


def resumed(task: Task, folder: Path) -> Progress:
    """Put weights and optimiser of the last checkpoint into the task; returns the progress of then.

    Raises ModelFileError where the checkpoint is damaged.
    """
    checkpoint = pointed(folder, "latest")
    tensors, metrics = read_state(checkpoint)
    before = read_model_file(checkpoint / "model.safetensors")
    with damage_as_error(checkpoint):
        weights = load(before.weights)
        # A file has the names of version 0.1.0
        own = {name: weights[name_in_file(name)] for name in task.parameters}
        state = task.processes.select_sessions(with_prefix(tensors, "optimiser/"))
        restore(task, task.processes.select_sessions(own), state)
        return progress_of(metrics, task.processes.select_sessions(with_prefix(tensors, "best/")))


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def progress_of(metrics: dict, best: dict[str, Tensor]) -> Progress:
    """The inverse of `metrics_of`."""
    score = metrics["best_score"]
    return Progress(
        step=metrics["step"],
        step_size=metrics["step_size"],
        best_score=float("-inf") if score is None else score,
        best_step=metrics["best_step"],
        best=best,
        history=metrics["history"],
    )


def put_best(task: Task, progress: Progress) -> None:
    """Put the weights of the best validation into the task."""
    with torch.no_grad():
        for name, value in progress.best.items():
            task.parameters[name].copy_(value)


def finish(trained: TrainedModel, folder: Path, record: RunRecord, progress: Progress) -> None:
    """Write the finished model, which `best` then names; `latest` stays what a resumed run starts
    from."""
    name = f"step-{progress.best_step:06d}-best"
    name = write_checkpoint(
        folder, name, trained.file().weights, {}, record.settings, metrics_of(progress, record)
    )
    point(folder, "best", name)
