"""Checkpoints: each in a new folder, then an atomic pointer; a crash at any moment leaves the last one loadable.

MODEL/best        the name of the folder to load
MODEL/latest      the name of the folder to resume from
MODEL/step-000600/{model.safetensors, state.safetensors, config.toml, metrics.json}
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import tomli_w
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from metadyn.errors import ModelFileError
from metadyn.model.trained import ARCHITECTURE, TrainedModel, session_entries
from metadyn.records import ModelFile


def write_durably(path: Path, content: bytes) -> None:
    """Write, flush to disk, and only then give the file its name."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def toml_ready(config: dict) -> dict:
    """TOML has no null: absent stays absent."""
    return {key: toml_ready(value) if isinstance(value, dict) else value for key, value in config.items() if value is not None}


def write_checkpoint(folder: Path, name: str, model: bytes, state: dict[str, Tensor], config: dict, metrics: dict) -> str:
    """A new folder with the four files, which nothing points to yet; returns its name."""
    partial = folder / f".{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_durably(partial / "model.safetensors", model)
    write_durably(partial / "state.safetensors", save(state))
    write_durably(partial / "config.toml", tomli_w.dumps(toml_ready(config)).encode())
    write_durably(partial / "metrics.json", json.dumps(metrics, indent=1).encode())
    target = free_name(folder, name)
    os.replace(partial, target)
    return target.name


def free_name(folder: Path, name: str) -> Path:
    """A folder that is not there yet: one that a pointer names is never touched."""
    names = itertools.chain([name], (f"{name}-{again}" for again in itertools.count(2)))
    return next(folder / each for each in names if not (folder / each).exists())


def point(folder: Path, pointer: str, name: str) -> None:
    """Let a pointer name a checkpoint, and drop the checkpoints that no pointer names."""
    write_durably(folder / pointer, name.encode())
    named = {(folder / each).read_text() for each in ("best", "latest") if (folder / each).exists()}
    for checkpoint in folder.glob("step-*"):
        if checkpoint.name not in named:
            shutil.rmtree(checkpoint, ignore_errors=True)


def pointed(folder: Path, pointer: str) -> Path:
    """The checkpoint that a pointer names; a ModelFileError where there is none."""
    try:
        return folder / (folder / pointer).read_text().strip()
    except OSError as problem:
        raise ModelFileError(
            "this folder holds no model", file=folder, found=str(problem), remedy=f"metadyn fit FILES -o {folder}"
        ) from problem


def read_state(checkpoint: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metrics that a resumed run starts from."""
    return load((checkpoint / "state.safetensors").read_bytes()), json.loads((checkpoint / "metrics.json").read_text())


def save_model(trained: TrainedModel, folder: str | Path) -> Path:
    """Write a finished model as a checkpoint folder that `load_model` reads; returns the folder."""
    folder = Path(folder)
    file = trained.file()
    name = f"step-{file.digest[7:13]}"
    settings = {"model": trained.config.model_dump(mode="json"), "data": trained.data}
    name = write_checkpoint(folder, name, file.weights, {}, settings, {})
    for pointer in ("best", "latest"):
        point(folder, pointer, name)
    return folder


def load_model(folder: str | Path) -> TrainedModel:
    """The best checkpoint of a model folder."""
    return TrainedModel.from_file(read_model_file(pointed(Path(folder), "best") / "model.safetensors"))


def read_model_file(path: Path) -> ModelFile:
    """A model.safetensors file with the configuration in its header."""
    try:
        with safe_open(path, "np") as tensors:
            config = json.loads((tensors.metadata() or {})["metadyn"])
        return ModelFile(config.get("architecture", ARCHITECTURE), config, path.read_bytes(), "", session_entries(config))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as problem:
        raise ModelFileError(
            "the model file is damaged", file=path, found=str(problem), remedy="train or copy it anew"
        ) from problem
