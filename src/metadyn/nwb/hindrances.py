"""Why a file cannot be opened or read, in words: another program, a filter, an extension, a right,
or damage."""

from __future__ import annotations

import errno
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import h5py
import pynwb
from hdmf.build import ConstructError

from metadyn.errors import DataError
from metadyn.nwb.addresses import Asset

IN_HDF5PLUGIN = {
    **{
        307: "bzip2",
        32001: "Blosc",
        32004: "LZ4",
        32008: "bitshuffle",
        32013: "ZFP",
        32015: "Zstandard",
        32017: "SZ",
    },
    **{32018: "FCIDECOMP", 32024: "SZ3", 32026: "Blosc2", 32028: "SPERR"},
}
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what a file system says that has none
EXTENSION = re.compile(
    r"ndx-[a-z0-9-]+"
)  # how NWB wants extensions, and by that packages, to be called
RENAME = (
    "import h5py; t = h5py.File('renamed.nwb', 'r+')['{table}']; t.move('{column}', '{column}_'); "
    "t.attrs['colnames'] = ['{column}_' if n == '{column}' else n for n in t.attrs['colnames']]"
)
AGAIN = "download or copy it again"


def not_opened(error: OSError, source: Path | Asset) -> DataError:
    """The error for a file that HDF5 does not open."""
    said, name = str(error), shlex.quote(str(source))
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
        problem, remedy = "you may not read the file", f"chmod u+r {name}, or its owner"
    elif "truncated file" in said:
        problem, remedy = "the file is cut short: a copy or a download of it was broken off", AGAIN
    else:
        problem, remedy = (
            "not a readable HDF5 file",
            f"give an NWB 2 file in HDF5; if it is one, {AGAIN}",
        )
    return DataError(problem, file=source, found=said[:200], remedy=remedy)


def not_read(error: Exception, source: Path | Asset, file: h5py.File) -> DataError:
    """The error for what h5py, pynwb or numpy stumble over in an open file."""
    found = f"{type(error).__name__}: {_cause(error)}"[:300]
    lacking = _unless_damaged(missing_filters, file) if isinstance(error, OSError) else {}
    if lacking:
        names = dict.fromkeys(_filter_name(number) for number in lacking.values())
        problem, item = (
            "values are stored through a filter of HDF5 that is not installed",
            ", ".join([*lacking][:3]),
        )
        known = all(number in IN_HDF5PLUGIN for number in lacking.values())
        remedy = (
            "pip install hdf5plugin"
            if known
            else "HDF5_PLUGIN_PATH with the folder that holds the filter's plugin"
        )
        return DataError(problem, file=source, item=item, found=", ".join(names), remedy=remedy)
    strange = _unless_damaged(unknown_namespaces, file) if isinstance(error, KeyError) else {}
    if strange:
        problem = (
            "the file needs an extension of NWB that is not installed, and does not hold its schema"
        )
        name, item = next(iter(strange.items()))
        remedy = (
            f"pip install {name}"
            if EXTENSION.fullmatch(name)
            else f"the Python package that defines {name}, imported"
        )
        return DataError(
            problem, file=source, item=item, found=f"namespace {', '.join(strange)}", remedy=remedy
        )
    namesakes = (
        _unless_damaged(columns_called_as_attributes, file) if isinstance(error, ValueError) else {}
    )
    if namesakes:
        item, (table, column) = next(iter(namesakes.items()))
        problem = (
            "a column has the name of an attribute of its table, and pynwb reads no such table"
        )
        code = RENAME.format(table=table, column=column)
        remedy = f'cp {shlex.quote(str(source))} renamed.nwb && python -c "{code}"'
        return DataError(problem, file=source, item=item, found=found, remedy=remedy)
    remedy = f"pynwb-validate {shlex.quote(str(source))} says more; {AGAIN} if it is damaged"
    return DataError("the file cannot be read", file=source, found=found, remedy=remedy)


def _unless_damaged(look: Callable[[h5py.File], dict], file: h5py.File) -> dict:
    """What a look through the file finds; nothing where the file is too damaged for that."""
    try:
        return look(file)
    except Exception:  # whatever h5py makes of damage
        return {}


def _cause(error: Exception) -> str:
    """What pynwb says is wrong and where, without the object that it was building, which is a page
    of text."""
    if not isinstance(error, ConstructError):
        return str(error)
    builder, reason = error.args
    return f"{builder.path.partition('/')[2]}: {str(reason).rpartition(' due to: ')[2]}"


def _filter_name(number: int) -> str:
    return (
        f"{IN_HDF5PLUGIN[number]} (filter {number})"
        if number in IN_HDF5PLUGIN
        else f"filter {number}"
    )


def missing_filters(file: h5py.File) -> dict[str, int]:
    """The datasets whose values HDF5 cannot unpack here, each with the number of the filter."""
    found: dict[str, int] = {}

    def look(path: str, item) -> None:
        if isinstance(item, h5py.Dataset):
            settings = item.id.get_create_plist()
            numbers = [settings.get_filter(place)[0] for place in range(settings.get_nfilters())]
            found.update((path, number) for number in numbers if not h5py.h5z.filter_avail(number))

    file.visititems(look)
    return found


def columns_called_as_attributes(file: h5py.File) -> dict[str, tuple[str, str]]:
    """The columns that have the name of an attribute of their table: of each its table's path and
    its name."""
    found: dict[str, tuple[str, str]] = {}

    def look(path: str, item) -> None:
        if isinstance(item, h5py.Group) and "colnames" in item.attrs:
            found.update((f"{path}/{name}", (path, name)) for name in item if name in item.attrs)

    file.visititems(look)
    return found


def load_filters(file: h5py.File) -> None:
    """Import hdf5plugin, where it is installed and the file needs a filter that HDF5 itself has
    not."""
    if missing_filters(file):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")


def unknown_namespaces(file: h5py.File) -> dict[str, str]:
    """The extensions that the file uses, neither holds the schema of nor are loaded, each with an
    object of it."""
    known = {*file.get("specifications", ()), *pynwb.available_namespaces()}
    return {name: path for path, name in _namespaces(file) if name not in known}


def _namespaces(file: h5py.File) -> Iterator[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def look(path: str, item) -> None:
        if (name := item.attrs.get("namespace")) is not None:
            found.append((path, name.decode() if isinstance(name, bytes) else str(name)))

    file.visititems(look)
    yield from reversed(found)  # so that of each the first object stays


def load_extensions(file: h5py.File) -> None:
    """Import the installed packages of the extensions that the file uses without holding their
    schema."""
    for name in unknown_namespaces(file):
        module = name.replace("-", "_")
        if EXTENSION.fullmatch(name) and find_spec(module):
            with suppress(
                Exception
            ):  # one that does not load is one that is not there, and reading says so
                importlib.import_module(module)
