"""Checkpoints: each in a new folder, then an atomic pointer; a crash at any moment leaves the last
one loadable.

    MODEL/best                 the name of the folder to load
    MODEL/latest               the name of the folder to resume from
    MODEL/step-000600/         model.safetensors, state.safetensors, config.toml, metrics.json
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from re import fullmatch
from tempfile import TemporaryFile

import tomli_w
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from metadyn.data.storage import existing_folder
from metadyn.errors import ModelFileError, refusals_told
from metadyn.model.trained import ARCHITECTURE, TrainedModel, session_entries
from metadyn.records import ModelFile


def refusals_as_error(path: Path) -> AbstractContextManager[None]:
    """Within it, what the system refuses is a WriteError about `path`.

    It refuses where the disk is full, or where one has no permission.
    """
    problem = "the model cannot be written; the checkpoints that were complete are kept"
    remedy = (
        "room on the disk, and `resume=True` where a run has begun; "
        "or another folder that you may write to (`output`)"
    )
    return refusals_told(path, problem, remedy)


def check_writable(folder: Path) -> None:
    """Write a byte, which vanishes, into the folder or where it would be made.

    So no training is in vain, and one that does not start leaves no empty folder. Raises WriteError
    where that fails.
    """
    with refusals_as_error(folder), TemporaryFile(dir=existing_folder(folder)) as probe:
        probe.write(b"0")


def write_durably(path: Path, content: bytes) -> None:
    """Write, flush to disk, and only then give the file its name.

    Raises WriteError where that fails; `path` is then as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    with refusals_as_error(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                # Before the name: after a crash of the machine it must not name an empty file
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def toml_ready(config: dict) -> dict:
    """The settings without those that are None, as TOML has no null.

    >>> toml_ready({"training": {"steps": 5, "crop_bins": None}})
    {'training': {'steps': 5}}
    """
    return {
        key: toml_ready(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if value is not None
    }


def write_checkpoint(
    folder: Path, name: str, model: bytes, state: dict[str, Tensor], config: dict, metrics: dict
) -> str:
    """Write a new folder with the four files, which nothing points to yet; returns its name.

    model: the bytes of a model file. state: the tensors that a resumed run starts from.

    Raises WriteError where the system refuses (disk full, no permission); the other checkpoints are
    as they were.
    """
    files = {
        "model.safetensors": model,
        "state.safetensors": save(state),
        "config.toml": tomli_w.dumps(toml_ready(config)).encode(),
        "metrics.json": json.dumps(metrics, indent=1).encode(),
    }
    # Under another name until it is complete, so that a crash leaves nothing that looks like one
    partial = folder / f".{name}.partial"
    with refusals_as_error(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            for file, content in files.items():
                write_durably(partial / file, content)
            target = free_name(folder, name)
            os.replace(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target.name


def free_name(folder: Path, name: str) -> Path:
    """A folder that is not there yet, as one that a pointer names is never touched: NAME, NAME-2,
    …"""
    names = itertools.chain([name], (f"{name}-{again}" for again in itertools.count(2)))
    return next(folder / each for each in names if not (folder / each).exists())


def point(folder: Path, pointer: str, name: str) -> None:
    """Let a pointer name a checkpoint, and delete checkpoints without a pointer, finished or not.

    Raises WriteError where the system refuses; the pointer then names what it named.
    """
    write_durably(folder / pointer, name.encode())
    with refusals_as_error(folder):
        named = {
            (folder / each).read_text() for each in ("best", "latest") if (folder / each).exists()
        }
    # Only now, when the pointer names the new one
    for checkpoint in [*folder.glob("step-*"), *folder.glob(".step-*.partial")]:
        if checkpoint.name not in named:
            shutil.rmtree(checkpoint, ignore_errors=True)


def pointed(folder: Path, pointer: str) -> Path:
    """The checkpoint that a pointer names; a ModelFileError where there is none."""
    try:
        name = (folder / pointer).read_text().strip()
        if not fullmatch(r"step-[\w-]+", name):
            raise ValueError(f"{pointer} names no checkpoint: {name[:100]!r}")
        return folder / name
    except (OSError, ValueError) as problem:
        raise ModelFileError(
            "this folder holds no model",
            file=folder,
            found=str(problem),
            remedy=f"metadyn fit FILES -o {folder}",
        ) from problem


def read_state(checkpoint: Path) -> tuple[dict[str, Tensor], dict]:
    """Tensors and metrics that a resumed run starts from.

    Raises ModelFileError where they are damaged.
    """
    with damage_as_error(checkpoint):
        tensors = load((checkpoint / "state.safetensors").read_bytes())
        metrics = json.loads((checkpoint / "metrics.json").read_text())
    return tensors, metrics


def save_model(trained: TrainedModel, folder: str | Path) -> Path:
    """Write a finished model as a checkpoint folder that `load_model` reads; returns the folder."""
    folder = Path(folder).expanduser()
    file = trained.file()
    name = f"step-{file.digest[7:13]}"
    settings = {"model": trained.config.model_dump(mode="json"), "data": trained.data}
    name = write_checkpoint(folder, name, file.weights, {}, settings, {})
    for pointer in ("best", "latest"):
        point(folder, pointer, name)
    return folder


def load_model(folder: str | Path) -> TrainedModel:
    """The best checkpoint of a model folder."""
    return TrainedModel.from_file(
        read_model_file(pointed(Path(folder), "best") / "model.safetensors")
    )


def read_model_file(path: Path) -> ModelFile:
    """A model.safetensors file with the configuration in its header. Raises ModelFileError where it
    is damaged."""
    with damage_as_error(path):
        with safe_open(path, "np") as tensors:
            config = json.loads((tensors.metadata() or {})["metadyn"])
        return ModelFile(
            config.get("architecture", ARCHITECTURE),
            config,
            path.read_bytes(),
            "",
            session_entries(config),
        )


@contextmanager
def damage_as_error(path: Path) -> Iterator[None]:
    """Within it, errors of reading bytes or settings are a ModelFileError about `path`.

    These are all that damaged files were found to raise.
    """
    try:
        yield
    except (
        OSError,
        SafetensorError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as problem:
        found = f"{type(problem).__name__}: {str(problem)[:300]}"
        raise ModelFileError(
            "the model file is damaged", file=path, found=found, remedy="train or copy it anew"
        ) from problem
