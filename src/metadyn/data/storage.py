"""Arrays that stay on disk, mapped: the system has in memory what is looked at, and lets go of it
where it needs the room."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import IO

import numpy as np

from metadyn.errors import refusals_told

Storage = Callable[
    [np.ndarray], np.ndarray
]  # where a large array is kept: `in_memory`, or `on_disk` of a folder


def in_memory(values: np.ndarray) -> np.ndarray:
    """The array as it is."""
    return values


def on_disk(values: np.ndarray, folder: Path) -> np.ndarray:
    """The array, to be read only, in a file of the folder that has no name: it is gone when nobody
    holds it any more, or the process is killed. Raises WriteError where the system refuses."""
    with disk_errors(folder), TemporaryFile(dir=folder) as file:
        write_array(values, file)
        return np.memmap(file, values.dtype, "r", shape=values.shape)


def write_array(values: np.ndarray, file: IO[bytes]) -> None:
    """The bytes of an array; OSError where there is no room, of which `np.save` says nothing when
    the array is small."""
    file.write(np.ascontiguousarray(values).data)
    file.flush()


def is_on_disk(values: np.ndarray) -> bool:
    """Whether the array is mapped from a file, as `on_disk` returns it."""
    return isinstance(values, np.memmap)


def disk_errors(folder: Path) -> AbstractContextManager[None]:
    """A context in which an OSError becomes a WriteError that names the folder."""
    problem = "the counts cannot be kept on disk while the model is trained"
    remedy = (
        "room on that disk, a model folder on another one (`output`), "
        "or more of them in memory (`memory`, in GiB)"
    )
    return refusals_told(folder, problem, remedy)


def existing_folder(folder: Path | None) -> Path:
    """The folder, or where it would be made; without one, where the system has its temporary
    files."""
    wanted = Path(gettempdir()) if folder is None else folder.absolute()
    return next(each for each in (wanted, *wanted.parents) if each.exists())
