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
from metadyn.nwb.addresses import Asset, located
from metadyn.nwb.remote import RemoteFile
from metadyn.nwb.zarr import is_zarr, refuse_to_read


@contextmanager
def open_nwb(source: str | PathLike | Asset | NWBFile) -> Iterator[NWBFile]:
    """The NWB file at a path or an address, closed at the end; an open NWBFile is handed on and stays open.

    Raises DataError when it is no readable NWB 2 file in HDF5, RemoteError when it cannot be fetched.
    """
    if isinstance(source, NWBFile):
        yield source
        return
    source = located(source)
    check_is_nwb2(source)
    with open_hdf5(source) as file:
        io, nwbfile = _read(file, source)
        try:
            yield nwbfile
        finally:
            io.close()


@contextmanager
def open_hdf5(source: Path | Asset) -> Iterator[h5py.File]:
    """The HDF5 file at a path or an address, for reading; what went wrong on the net is said, whatever is made of it."""
    if isinstance(source, Path):
        with h5py.File(source, "r") as file:
            yield file
        return
    with RemoteFile(source) as remote:
        try:
            with h5py.File(remote, "r") as file:
                yield file
        except Exception:
            if remote.failure:
                raise remote.failure from None
            raise


def _read(file: h5py.File, source: Path | Asset) -> tuple[NWBHDF5IO, NWBFile]:
    try:
        with warnings.catch_warnings():  # pynwb warns of what a file's writers did; a reader cannot mend it
            warnings.simplefilter("ignore")
            io = NWBHDF5IO(file=file, mode="r", load_namespaces=True)
            return io, io.read()
    except Exception as error:  # whatever pynwb stumbles over, the file is what the user must look at
        found = f"{type(error).__name__}: {str(error)[:300]}"
        raise DataError("pynwb cannot read the file", file=source, found=found, remedy=f"pynwb-validate {source}") from error


def check_is_nwb2(source: Path | Asset) -> None:
    """Raise DataError unless this is an HDF5 file that says it is NWB 2."""
    if isinstance(source, Path):
        _check_is_file(source)
    version = _nwb_version(source)
    if version is None or not version.startswith("2"):
        found = "HDF5 without an nwb_version" if version is None else f"nwb_version {version}"
        raise DataError("not an NWB 2 file", file=source, found=found, remedy="give an NWB 2 file, or convert it (NeuroConv)")


def _check_is_file(path: Path) -> None:
    if is_zarr(path):
        raise refuse_to_read(path)
    if path.is_dir():
        found = "a folder; name the .nwb files in it"
        raise DataError("not an NWB file", file=path, found=found, remedy=f"{path}/*.nwb")
    if not path.exists():
        raise DataError("no such file", file=path, remedy="check the path; relative paths start at the working directory")


def _nwb_version(source: Path | Asset) -> str | None:
    try:
        with open_hdf5(source) as file:
            version = file.attrs.get("nwb_version")
            if version is None and "nwb_version" in file:  # NWB 1 kept it in a dataset
                version = file["nwb_version"][()]
    except OSError as error:
        remedy = "give an NWB 2 file in HDF5; if it is one, download or copy it again"
        raise DataError("not a readable HDF5 file", file=source, found=str(error)[:200], remedy=remedy) from error
    return version.decode() if isinstance(version, bytes) else None if version is None else str(version)
