"""Opening an NWB file for reading: lazily, quietly, and with an error a person can act on."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path

import h5py
from pynwb import NWBHDF5IO, NWBFile

from metadyn.errors import DataError, MetadynError
from metadyn.nwb.addresses import Asset, located
from metadyn.nwb.constructing import read_objects
from metadyn.nwb.hindrances import load_extensions, load_filters, not_opened, not_read
from metadyn.nwb.presence import check_here, files_below
from metadyn.nwb.remote import RemoteFile
from metadyn.nwb.zarr import is_zarr, refuse_to_read
from ndx_metadyn.values import check_claim


@contextmanager
def open_nwb(source: str | PathLike | Asset | NWBFile) -> Iterator[NWBFile]:
    """The NWB file at a path or an address, closed at the end.

    An open NWBFile is handed on and stays open. Series that pynwb refuses are left out (see
    `metadyn.nwb.constructing`); warnings of pynwb are silenced.

    Raises
    ------
    DataError : it is no readable NWB 2 file in HDF5.
    RemoteError : it cannot be fetched.
    """
    if isinstance(source, NWBFile):
        yield source
        return
    source = located(source)
    with open_nwb2(source) as file, ExitStack() as stack:
        load_extensions(file)
        # pynwb warns of faults of a file's writers, which a reader cannot mend
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            io = stack.enter_context(NWBHDF5IO(file=file, mode="r", load_namespaces=True))
            stack.enter_context(
                _as_data_error(source, file)
            )  # while the file is open, which io closes
            nwbfile = read_objects(io)
        yield nwbfile


@contextmanager
def open_hdf5(source: Path | Asset) -> Iterator[h5py.File]:
    """The HDF5 file at a path or an address, opened for reading.

    Raises
    ------
    DataError : it is damaged; raised at once or while it is read.
    RemoteError : the net fails, also where h5py makes another error of that.
    """
    if isinstance(source, Path):
        _check_is_file(source)
        with _hdf5(source, source) as file:
            yield file
        return
    with RemoteFile(source) as remote:
        try:
            with _hdf5(remote, source) as file:
                yield file
        except Exception:
            if remote.failure:
                raise remote.failure from None
            raise


@contextmanager
def _hdf5(opened: Path | RemoteFile, source: Path | Asset) -> Iterator[h5py.File]:
    """The opened file; DataError, which names `source`, where it is damaged."""
    try:
        file = h5py.File(opened, "r")
    except OSError as error:
        raise not_opened(error, source) from error
    with file, _as_data_error(source, file):
        yield file


@contextmanager
def _as_data_error(source: Path | Asset, file: h5py.File) -> Iterator[None]:
    """Errors of h5py, pynwb or numpy inside become a DataError that names the file."""
    try:
        yield
    except MetadynError:
        raise
    except Exception as error:
        raise not_read(error, source, file) from error


@contextmanager
def open_nwb2(source: Path | Asset) -> Iterator[h5py.File]:
    """As `open_hdf5`, for a file that says that it is NWB 2.

    Raises
    ------
    DataError : it does not, or texts and references claim more memory than the file stores.
    """
    with open_hdf5(source) as file:
        version = _nwb_version(file)
        if version is None or not version.startswith("2"):
            found = "HDF5 without an nwb_version" if version is None else f"nwb_version {version}"
            remedy = "give an NWB 2 file, or convert it (NeuroConv)"
            raise DataError("not an NWB 2 file", file=source, found=found, remedy=remedy)
        _check_claims(file)
        load_filters(file)
        yield file


def _check_is_file(path: Path) -> None:
    """Raise DataError where a path is no file that is here.

    It may be a Zarr store, a folder, not there at all, or not fetched yet.
    """
    if is_zarr(path):
        raise refuse_to_read(path)
    if not path.is_dir():
        check_here([path])
        return
    files = files_below(path)
    if files:
        found = f"a folder with {len(files)} .nwb files below it"
        remedy = shlex.quote(str(files[0]))
    else:
        found = "a folder without an .nwb file"
        remedy = "a file, or another folder"
    raise DataError("not an NWB file", file=path, found=found, remedy=remedy)


def _check_claims(file: h5py.File) -> None:
    """Raise ValueError where a dataset that pynwb reads on opening claims more than is stored.

    These are texts, regions of tables and datasets at the root.
    """

    def check(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        is_text = h5py.check_string_dtype(item.dtype)
        is_region = item.attrs.get("neurodata_type") == "DynamicTableRegion"
        is_at_root = "/" not in item.name[1:]
        if is_text or is_region or is_at_root:
            check_claim(item)

    file.visititems(check)


def _nwb_version(file: h5py.File) -> str | None:
    """The NWB version that a file says it has, e.g. "2.7.0"; None where it says none."""
    version = file.attrs.get("nwb_version")
    if version is None and "nwb_version" in file:  # NWB 1 kept it in a dataset
        check_claim(file["nwb_version"])
        version = file["nwb_version"][()]
    if version is None:
        return None
    return version.decode() if isinstance(version, bytes) else str(version)
