"""What a run leaves on disk, and how it goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load

from metadyn.model.trained import TrainedModel
from metadyn.training.begun import Begun
from metadyn.training.checkpoint import damage_told, point, pointed, read_model_file, read_state, write_checkpoint
from metadyn.training.loop import Progress, restore
from metadyn.training.optim import optimiser_state
from metadyn.training.step import Task


def metrics_of(progress: Progress, begun: Begun) -> dict:
    return {
        "step": progress.step,
        "step_size": progress.step_size,
        "best_step": progress.best_step,
        "best_score": progress.best_score if progress.best else None,
        "history": progress.history,
        **asdict(begun),
    }


def checkpointer(task: Task, trained: TrainedModel, folder: Path, begun: Begun) -> Callable[[Progress], None]:
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
        name = write_checkpoint(folder, name, trained.file().weights, tensors, begun.settings, metrics_of(progress, begun))
        point(folder, "latest", name)
        if progress.best_step == progress.step or not (folder / "best").exists():
            point(folder, "best", name)

    return save


def collect(task: Task, trained: TrainedModel) -> None:
    """Give the trained model the weights of the sessions of all processes."""
    if task.module is not trained.module:
        trained.module.load_state_dict(task.ranks.whole(task.module.state_dict()))


def resumed(task: Task, folder: Path) -> Progress:
    """Weights, optimiser and progress of the last checkpoint put back."""
    checkpoint = pointed(folder, "latest")
    tensors, metrics = read_state(checkpoint)
    before = read_model_file(checkpoint / "model.safetensors")
    with damage_told(checkpoint):
        return _put_back(task, load(before.weights), tensors, metrics)


def _put_back(task: Task, weights: dict, tensors: dict, metrics: dict) -> Progress:
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


def finish(trained: TrainedModel, folder: Path, begun: Begun, progress: Progress) -> None:
    """The finished model, which `best` then names; `latest` stays what a resumed run starts from."""
    name = f"step-{progress.best_step:06d}-best"
    name = write_checkpoint(folder, name, trained.file().weights, {}, begun.settings, metrics_of(progress, begun))
    point(folder, "best", name)
