"""What refers to what inside an HDF5 file: soft links, and object references in attributes and
datasets."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from metadyn.errors import DataError


def walk(
    group: h5py.Group, path: str = ""
) -> Iterator[tuple[str, h5py.SoftLink | h5py.ExternalLink | h5py.HardLink]]:
    """Every object below by its path and link, outer ones first; soft links are not followed."""
    for key in group:
        child = f"{path}/{key}".lstrip("/")
        link = group.get(key, getlink=True)
        yield child, link
        if not isinstance(link, h5py.SoftLink) and isinstance(group.get(key), h5py.Group):
            yield from walk(group[key], child)


def drop_unlinked(
    file: h5py.File, holds: Callable[[str], bool], dropped: set[str], source: Path
) -> dict[str, str]:
    """Add to `dropped`, by which `holds` goes, what refers to an object that is not held, until
    nothing does.

    An index goes with its column. Returns each object that was dropped for what it refers to, with
    one path that it refers to.
    """
    targets = {
        path: list(_targets(file, path, link, source)) for path, link in walk(file) if holds(path)
    }
    told: dict[str, str] = {}
    while lost := {
        path: to for path, found in targets.items() for to in found if holds(path) and not holds(to)
    }:
        told |= {
            path: to for path, to in lost.items() if to not in dropped
        }  # an index goes with its column without a word
        dropped.update(lost)
    return told


def _targets(file: h5py.File, path: str, link, source: Path) -> Iterator[str]:
    """The paths that an object refers to itself; those inside it have their own turn."""
    if isinstance(link, h5py.SoftLink):
        yield posixpath.normpath(posixpath.join("/", posixpath.dirname(path), link.path)).lstrip(
            "/"
        )
        return
    item = file.get(path)
    if item is None:
        found = (
            f"{link.filename}:{link.path}"
            if isinstance(link, h5py.ExternalLink)
            else "a broken link"
        )
        remedy = "put the file that it links to where the link says"
        raise DataError(
            "the file links to another one that is not there",
            file=source,
            item=path,
            found=found,
            remedy=remedy,
        )
    for key in item.attrs:
        if h5py.check_ref_dtype(item.attrs.get_id(key).dtype):
            yield from _names(item.file, np.atleast_1d(item.attrs[key]))
    if isinstance(item, h5py.Dataset):
        for field in _reference_fields(item.dtype):
            yield from _names(
                item.file, np.atleast_1d(item[()] if field is None else item[()][field])
            )


def _names(file: h5py.File, references: np.ndarray) -> Iterator[str]:
    """Paths of what references point to, each once; null references point to nothing."""
    known = dict.fromkeys(name_of(file, reference) for reference in references.ravel())
    yield from (name for name in known if name)


def name_of(file: h5py.File, reference: h5py.Reference) -> str | None:
    """Path of what a reference points to; None for a null reference."""
    return file[reference].name.lstrip("/") or "/" if reference else None


def tables_referred_to(file: h5py.File, paths: list[str]) -> list[str]:
    """The tables that regions in the groups at these paths are rows of."""
    regions = [item for path in paths for item in _datasets(file[path]) if "table" in item.attrs]
    found = dict.fromkeys(name_of(item.file, item.attrs["table"]) for item in regions)
    return [path for path in found if path]


def _datasets(group: h5py.Group) -> list[h5py.Dataset]:
    return [item for path, _ in walk(group) if isinstance(item := group.get(path), h5py.Dataset)]


def _reference_fields(dtype: np.dtype) -> list[str | None]:
    """The fields that hold references; None where the whole dataset does."""
    if h5py.check_ref_dtype(dtype):
        return [None]
    return [name for name in dtype.names or () if h5py.check_ref_dtype(dtype[name])]


def restore_references(old: h5py.File, new: h5py.File) -> None:
    """Object references in `new`, a copy of parts of `old`, which HDF5 has copied as nulls: to the
    object of the same path."""
    for path, link in [("/", None), *walk(new)]:
        if isinstance(link, h5py.SoftLink):
            continue
        before, after = old[path], new[path]
        for key in before.attrs:
            if h5py.check_ref_dtype(before.attrs.get_id(key).dtype):
                after.attrs.create(
                    key, _translated(before.file, new, before.attrs[key]), dtype=h5py.ref_dtype
                )
        if isinstance(before, h5py.Dataset) and before.size:
            _restore_values(new, before, after)


def _restore_values(new: h5py.File, before: h5py.Dataset, after: h5py.Dataset) -> None:
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


def _translated(old: h5py.File, new: h5py.File, references):
    """References of `old`, one or an array, as references of `new`."""

    def one(reference):
        name = name_of(old, reference)
        return new[name].ref if name else h5py.Reference()

    return (
        np.vectorize(one, otypes=[object])(references)
        if isinstance(references, np.ndarray)
        else one(references)
    )
