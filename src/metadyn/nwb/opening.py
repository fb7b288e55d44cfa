"""Opening an NWB file for reading: lazily, quietly, and with an error a person can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import h5py
from pynwb import NWBHDF5IO, NWBFile

from metadyn.errors import DataError
from metadyn.nwb.zarr import is_zarr, refuse_to_read


@contextmanager
def open_nwb(source: str | PathLike | NWBFile) -> Iterator[NWBFile]:
    """The NWB file at a path, closed at the end; an open NWBFile is handed on and stays open.

    Raises DataError when the path is no readable NWB 2 file in HDF5.
    """
    if isinstance(source, NWBFile):
        yield source
        return
    check_is_nwb2(Path(source))
    io, nwbfile = _read(Path(source))
    try:
        yield nwbfile
    finally:
        io.close()


def _read(path: Path):
    io = None
    try:
        with warnings.catch_warnings():  # pynwb warns of what a file's writers did; a reader cannot mend it
            warnings.simplefilter("ignore")
            io = NWBHDF5IO(str(path), mode="r", load_namespaces=True)
            return io, io.read()
    except Exception as error:  # whatever pynwb stumbles over, the file is what the user must look at
        if io is not None:
            io.close()
        found = f"{type(error).__name__}: {str(error)[:300]}"
        raise DataError("pynwb cannot read the file", file=path, found=found, remedy=f"pynwb-validate {path}") from error


def check_is_nwb2(path: Path) -> None:
    """Raise DataError unless the path is an HDF5 file that says it is NWB 2."""
    if is_zarr(path):
        raise refuse_to_read(path)
    if path.is_dir():
        found = "a folder; name the .nwb files in it"
        raise DataError("not an NWB file", file=path, found=found, remedy=f"{path}/*.nwb")
    if not path.exists():
        raise DataError("no such file", file=path, remedy="check the path; relative paths start at the working directory")
    version = _nwb_version(path)
    if version is None or not version.startswith("2"):
        found = "HDF5 without an nwb_version" if version is None else f"nwb_version {version}"
        raise DataError("not an NWB 2 file", file=path, found=found, remedy="give an NWB 2 file, or convert it (NeuroConv)")


def _nwb_version(path: Path) -> str | None:
    try:
        with h5py.File(path, "r") as file:
            version = file.attrs.get("nwb_version")
            if version is None and "nwb_version" in file:  # NWB 1 kept it in a dataset
                version = file["nwb_version"][()]
    except OSError as error:
        remedy = "give an NWB 2 file in HDF5; if it is one, download or copy it again"
        raise DataError("not a readable HDF5 file", file=path, found=str(error)[:200], remedy=remedy) from error
    return version.decode() if isinstance(version, bytes) else None if version is None else str(version)
