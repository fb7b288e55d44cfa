"""References inside an HDF5 file: soft links, and object references in attributes and datasets."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from metadyn.errors import DataError

Link = h5py.SoftLink | h5py.ExternalLink | h5py.HardLink


def walk(group: h5py.Group, path: str = "") -> Iterator[tuple[str, Link]]:
    """Every object below a group by its path and link, outer ones first.

    Soft links are not followed. `path` is the group's own.
    """
    for key in group:
        child = f"{path}/{key}".lstrip("/")
        link = group.get(key, getlink=True)
        yield child, link
        if not isinstance(link, h5py.SoftLink) and isinstance(group.get(key), h5py.Group):
            yield from walk(group[key], child)


def drop_unlinked(
    file: h5py.File, holds: Callable[[str], bool], dropped: set[str], source: Path
) -> dict[str, str]:
    """Drop the objects that refer to one that is not held, until none does.

    An index goes with its column.

    Parameters
    ----------
    file : that is copied in part; `source` is its path.
    holds : whether the object at a path is copied; it must ask `dropped`.
    dropped : paths of objects that are not copied, to which those found here are added.

    Returns
    -------
    Path of each object that was dropped for what it refers to -> a path that it refers to.

    Raises
    ------
    DataError : the file links to another one that is not there.
    """
    targets = {
        path: list(_targets(file, path, link, source)) for path, link in walk(file) if holds(path)
    }
    reasons: dict[str, str] = {}
    while lost := {
        path: to for path, found in targets.items() for to in found if holds(path) and not holds(to)
    }:
        # What refers to a dropped object, as an index to its column, goes without being named
        reasons |= {path: to for path, to in lost.items() if to not in dropped}
        dropped.update(lost)
    return reasons


def _targets(file: h5py.File, path: str, link: Link, source: Path) -> Iterator[str]:
    """The paths that an object refers to itself; objects inside it have their own turn.

    Raises
    ------
    DataError : it is in another file, which is not there.
    """
    if isinstance(link, h5py.SoftLink):
        target = posixpath.join("/", posixpath.dirname(path), link.path)
        yield posixpath.normpath(target).lstrip("/")
        return
    item = file.get(path)
    if item is None:
        raise _broken(path, link, source)
    for key in item.attrs:
        if h5py.check_ref_dtype(item.attrs.get_id(key).dtype):
            yield from _names(item.file, np.atleast_1d(item.attrs[key]))
    if isinstance(item, h5py.Dataset):
        for field in _reference_fields(item.dtype):
            values = item[()] if field is None else item[()][field]
            yield from _names(item.file, np.atleast_1d(values))


def _broken(path: str, link: Link, source: Path) -> DataError:
    """The error for a link to an object that is not there."""
    found = "a broken link"
    if isinstance(link, h5py.ExternalLink):
        found = f"{link.filename}:{link.path}"
    return DataError(
        "the file links to another one that is not there",
        file=source,
        item=path,
        found=found,
        remedy="put the file that it links to where the link says",
    )


def _names(file: h5py.File, references: np.ndarray) -> Iterator[str]:
    """Paths of what references point to, each once; null references point to nothing."""
    known = dict.fromkeys(name_of(file, reference) for reference in references.ravel())
    yield from (name for name in known if name)


def name_of(file: h5py.File, reference: h5py.Reference) -> str | None:
    """Path of what a reference points to; None for a null reference."""
    return file[reference].name.lstrip("/") or "/" if reference else None


def tables_referred_to(file: h5py.File, paths: list[str]) -> list[str]:
    """The paths of the tables that regions in the groups at `paths` are rows of."""
    regions = [item for path in paths for item in _datasets(file[path]) if "table" in item.attrs]
    found = dict.fromkeys(name_of(item.file, item.attrs["table"]) for item in regions)
    return [path for path in found if path]


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    """All datasets below a group."""
    return [item for path, _ in walk(group) if isinstance(item := group.get(path), h5py.Dataset)]


def _reference_fields(dtype: np.dtype) -> list[str | None]:
    """The fields of a dtype that hold references; [None] where the whole dataset does."""
    if h5py.check_ref_dtype(dtype):
        return [None]
    return [name for name in dtype.names or () if h5py.check_ref_dtype(dtype[name])]


def restore_references(old: h5py.File, new: h5py.File) -> None:
    """Write the object references of a copy of parts of a file, which HDF5 copies as nulls.

    Each refers to the object of the same path as in `old`.
    """
    for path, link in [("/", None), *walk(new)]:
        if isinstance(link, h5py.SoftLink):
            continue
        before = old[path]
        after = new[path]
        for key in before.attrs:
            if h5py.check_ref_dtype(before.attrs.get_id(key).dtype):
                references = _translated(before.file, new, before.attrs[key])
                after.attrs.create(key, references, dtype=h5py.ref_dtype)
        if isinstance(before, h5py.Dataset) and before.size:
            _restore_values(new, before, after)


def _restore_values(new: h5py.File, before: h5py.Dataset, after: h5py.Dataset) -> None:
    """Write the references in the values of `before` into its copy `after`, which is in `new`."""
    fields = _reference_fields(before.dtype)
    if not fields:
        return
    values = before[()]
    for field in fields:
        if field is None:
            values = _translated(before.file, new, values)
        else:
            values[field] = _translated(before.file, new, values[field])
    after[()] = values


def _translated(old: h5py.File, new: h5py.File, references: Any) -> Any:
    """References of `old`, one or an array, as references of `new`."""

    def one(reference: h5py.Reference) -> h5py.Reference:
        name = name_of(old, reference)
        return new[name].ref if name else h5py.Reference()

    if isinstance(references, np.ndarray):
        return np.vectorize(one, otypes=[object])(references)
    return one(references)
