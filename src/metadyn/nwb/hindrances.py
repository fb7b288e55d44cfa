"""Why a file cannot be opened or read, in words, and how to read it all the same.

Another program, a filter, an extension, a right, or damage.
"""

from __future__ import annotations

import errno
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import h5py
import pynwb
from hdmf.build import ConstructError

from metadyn.errors import DataError
from metadyn.nwb.addresses import Asset

IN_HDF5PLUGIN = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32018: "FCIDECOMP",
    32024: "SZ3",
    32026: "Blosc2",
    32028: "SPERR",
}
# Errors of a file system that has no locks
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# The form of names that NWB asks of extensions, and by that of their packages
EXTENSION = re.compile(r"ndx-[a-z0-9-]+")
RENAME = (
    "import h5py; t = h5py.File('renamed.nwb', 'r+')['{table}']; t.move('{column}', '{column}_'); "
    "t.attrs['colnames'] = ['{column}_' if n == '{column}' else n for n in t.attrs['colnames']]"
)
T = TypeVar("T")
AGAIN = "download or copy it again"


def not_opened(error: OSError, source: Path | Asset) -> DataError:
    """The error for a file that HDF5 does not open, by what HDF5 says of it."""
    said = str(error)
    name = shlex.quote(str(source))
    if "lock file" in said and error.errno in NO_LOCKS:
        problem = "the file system of the file does not lock files, as HDF5 wants it to"
        remedy = (
            "HDF5_USE_FILE_LOCKING=FALSE before the same command, while nobody writes to the file"
        )
    elif "lock file" in said:
        problem = "another program has the file open for writing"
        remedy = (
            "close it there (a notebook's NWBHDF5IO, MATLAB, an acquisition that runs), then "
            "the same command again"
        )
    elif "h5clear" in said:
        problem = (
            "the program that wrote the file has not closed it: it still writes, or was stopped"
        )
        remedy = (
            f"cp {name} copy.nwb && h5clear -s copy.nwb, if it was stopped; what it had written "
            "last may lack"
        )
    elif error.errno == errno.EACCES:
        problem = "you may not read the file"
        remedy = f"chmod u+r {name}, or its owner"
    elif "truncated file" in said:
        problem = "the file is cut short: a copy or a download of it was broken off"
        remedy = AGAIN
    else:
        problem = "not a readable HDF5 file"
        remedy = f"give an NWB 2 file in HDF5; if it is one, {AGAIN}"
    return DataError(problem, file=source, found=said[:200], remedy=remedy)


def not_read(error: Exception, source: Path | Asset, file: h5py.File) -> DataError:
    """The error for an exception of h5py, pynwb or numpy while an open file is read.

    The file is searched for the causes that are known for this kind of exception: a filter that is
    not installed, an extension without its schema, a column that is called like an attribute.
    """
    found = f"{type(error).__name__}: {_cause(error)}"[:300]
    causes: list[DataError | None] = []
    if isinstance(error, OSError):
        causes.append(_lacks_filters(source, _unless_damaged(missing_filters, file)))
    if isinstance(error, KeyError):
        causes.append(_lacks_extension(source, _unless_damaged(unknown_namespaces, file)))
    if isinstance(error, ValueError):
        columns = _unless_damaged(columns_called_as_attributes, file)
        causes.append(_has_namesake(source, columns, found))
    for cause in causes:
        if cause is not None:
            return cause
    remedy = f"pynwb-validate {shlex.quote(str(source))} says more; {AGAIN} if it is damaged"
    return DataError("the file cannot be read", file=source, found=found, remedy=remedy)


def _lacks_filters(source: Path | Asset, lacking: dict[str, int]) -> DataError | None:
    """The error for datasets of `missing_filters`; None without any."""
    if not lacking:
        return None
    are_known = all(number in IN_HDF5PLUGIN for number in lacking.values())
    remedy = "HDF5_PLUGIN_PATH with the folder that holds the filter's plugin"
    return DataError(
        "values are stored through a filter of HDF5 that is not installed",
        file=source,
        item=", ".join([*lacking][:3]),
        found=", ".join(dict.fromkeys(_filter_name(number) for number in lacking.values())),
        remedy="pip install hdf5plugin" if are_known else remedy,
    )


def _lacks_extension(source: Path | Asset, strange: dict[str, str]) -> DataError | None:
    """The error for namespaces of `unknown_namespaces`; None without any."""
    if not strange:
        return None
    name, item = next(iter(strange.items()))
    remedy = f"the Python package that defines {name}, imported"
    if EXTENSION.fullmatch(name):
        remedy = f"pip install {name}"
    return DataError(
        "the file needs an extension of NWB that is not installed, and does not hold its schema",
        file=source,
        item=item,
        found=f"namespace {', '.join(strange)}",
        remedy=remedy,
    )


def _has_namesake(
    source: Path | Asset, namesakes: dict[str, tuple[str, str]], found: str
) -> DataError | None:
    """The error for columns of `columns_called_as_attributes`; None without any."""
    if not namesakes:
        return None
    item, (table, column) = next(iter(namesakes.items()))
    code = RENAME.format(table=table, column=column)
    return DataError(
        "a column has the name of an attribute of its table, and pynwb reads no such table",
        file=source,
        item=item,
        found=found,
        remedy=f'cp {shlex.quote(str(source))} renamed.nwb && python -c "{code}"',
    )


def _unless_damaged(search: Callable[[h5py.File], dict[str, T]], file: h5py.File) -> dict[str, T]:
    """The findings of a search through the file; none where it is too damaged for that."""
    try:
        return search(file)
    except Exception:  # of h5py, which fails in many ways on damage
        return {}


def _cause(error: Exception) -> str:
    """The message of an exception; of pynwb's the fault and its place.

    pynwb's own message begins with the object that it was building, a page of text.
    """
    if not isinstance(error, ConstructError):
        return str(error)
    builder, reason = error.args
    return f"{builder.path.partition('/')[2]}: {str(reason).rpartition(' due to: ')[2]}"


def _filter_name(number: int) -> str:
    """A filter of HDF5 by its name, where it is known, and number."""
    if number in IN_HDF5PLUGIN:
        return f"{IN_HDF5PLUGIN[number]} (filter {number})"
    return f"filter {number}"


def missing_filters(file: h5py.File) -> dict[str, int]:
    """The datasets whose values HDF5 cannot unpack here, each with the number of the filter."""
    found: dict[str, int] = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            settings = item.id.get_create_plist()
            numbers = [settings.get_filter(place)[0] for place in range(settings.get_nfilters())]
            found.update((path, number) for number in numbers if not h5py.h5z.filter_avail(number))

    file.visititems(visit)
    return found


def columns_called_as_attributes(file: h5py.File) -> dict[str, tuple[str, str]]:
    """The columns that have the name of an attribute of their table.

    Returns
    -------
    dict of the column's path -> its table's path, its name.
    """
    found: dict[str, tuple[str, str]] = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and "colnames" in item.attrs:
            found.update((f"{path}/{name}", (path, name)) for name in item if name in item.attrs)

    file.visititems(visit)
    return found


def load_filters(file: h5py.File) -> None:
    """Import hdf5plugin, if it is installed and the file needs a filter that HDF5 does not have."""
    if missing_filters(file):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")


def unknown_namespaces(file: h5py.File) -> dict[str, str]:
    """The extensions that a file uses, whose schema it does not hold, and that are not loaded.

    Returns
    -------
    dict of the extension's name -> path of the first object that needs it.
    """
    known = {*file.get("specifications", ()), *pynwb.available_namespaces()}
    return {name: path for path, name in _namespaces(file) if name not in known}


def _namespaces(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Path and namespace of each object, last first: a dict of them keeps the first object."""
    found: list[tuple[str, str]] = []

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        name = item.attrs.get("namespace")
        if name is not None:
            found.append((path, name.decode() if isinstance(name, bytes) else str(name)))

    file.visititems(visit)
    yield from reversed(found)


def load_extensions(file: h5py.File) -> None:
    """Import the installed packages of the extensions of `unknown_namespaces`."""
    for name in unknown_namespaces(file):
        module = name.replace("-", "_")
        if EXTENSION.fullmatch(name) and find_spec(module):
            # One that does not load is as one that is not there, and reading says so
            with suppress(Exception):
                importlib.import_module(module)
