"""What a run leaves on disk, and how it goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load

from metadyn.errors import TrainingError
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry
from metadyn.training.checkpoint import point, pointed, read_model_file, read_state, write_checkpoint
from metadyn.training.loop import Progress, restore
from metadyn.training.optim import optimiser_state
from metadyn.training.step import Task


def metrics_of(progress: Progress, settings: dict) -> dict:
    return {
        "step": progress.step,
        "step_size": progress.step_size,
        "best_step": progress.best_step,
        "best_score": progress.best_score if progress.best else None,
        "history": progress.history,
        "settings": settings,
    }


def checkpointer(task: Task, trained: TrainedModel, folder: Path, settings: dict) -> Callable[[Progress], None]:
    """save(progress) → a checkpoint of the weights, the optimiser and the best weights, which `latest` then names.

    A step's random numbers follow from seed and step, so these two are the random state. Of several processes the first
    writes for all what one process would.
    """
    ranks = task.ranks

    def save(progress: Progress) -> None:
        name = f"step-{progress.step:06d}"
        state = ranks.whole(optimiser_state(task.optimiser, task.parameters))
        best = ranks.whole(progress.best)
        collect(task, trained)
        if ranks.rank:
            return
        tensors = {f"optimiser/{key}": value for key, value in state.items()}
        tensors |= {f"best/{key}": value for key, value in best.items()}
        tensors["step"], tensors["seed"] = torch.tensor(progress.step), torch.tensor(task.seed)
        name = write_checkpoint(folder, name, trained.file().weights, tensors, settings, metrics_of(progress, settings))
        point(folder, "latest", name)
        if progress.best_step == progress.step or not (folder / "best").exists():
            point(folder, "best", name)

    return save


def collect(task: Task, trained: TrainedModel) -> None:
    """Give the trained model the weights of the sessions of all processes."""
    if task.module is not trained.module:
        trained.module.load_state_dict(task.ranks.whole(task.module.state_dict()))


def units_of(sessions: tuple[SessionEntry, ...]) -> list[tuple]:
    return [(entry.key, entry.unit_rows) for entry in sessions]


def resumed(task: Task, trained: TrainedModel, folder: Path, settings: dict) -> Progress:
    """Weights, optimiser and progress of the last checkpoint put back; refuses a run of other settings."""
    checkpoint = pointed(folder, "latest")
    tensors, metrics = read_state(checkpoint)
    before = read_model_file(checkpoint / "model.safetensors")
    if metrics.get("settings") != settings or units_of(before.sessions) != units_of(trained.sessions):
        raise TrainingError(
            "the run in this folder was started with other settings or files",
            file=folder,
            remedy="the settings of its config.toml, or another output folder",
        )
    weights = load(before.weights)
    parts = {
        prefix: {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)} for prefix in ("optimiser/", "best/")
    }
    ranks = task.ranks
    restore(task, ranks.part({name: weights[name] for name in task.parameters}), ranks.part(parts["optimiser/"]))
    score = metrics["best_score"]
    return Progress(
        metrics["step"],
        metrics["step_size"],
        float("-inf") if score is None else score,
        metrics["best_step"],
        ranks.part(parts["best/"]),
        metrics["history"],
    )


def put_best(task: Task, progress: Progress) -> None:
    """The weights of the best validation."""
    with torch.no_grad():
        for name, value in progress.best.items():
            task.parameters[name].copy_(value)


def finish(trained: TrainedModel, folder: Path, settings: dict, progress: Progress) -> None:
    """The finished model, which `best` then names; `latest` stays what a resumed run starts from."""
    name = f"step-{progress.best_step:06d}-best"
    name = write_checkpoint(folder, name, trained.file().weights, {}, settings, metrics_of(progress, settings))
    point(folder, "best", name)
