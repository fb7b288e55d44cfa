"""What a file says of other files: external links, names of videos and images, and datasets whose
values lie elsewhere.

Relative paths begin at the folder of the file that says them; so a copy in another folder has to
say them anew.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath

import h5py
import numpy as np

from metadyn.errors import WriteError
from ndx_metadyn.values import read_values


@dataclass(frozen=True)
class Mention:
    """An object of a file, and the names of the other files that it needs."""

    path: str
    names: tuple[str, ...]
    # "link", "names" (a dataset of file names) or "virtual" (a dataset that shows values of other
    # files)
    kind: str


def mentions(file: h5py.File) -> list[Mention]:
    """The objects that need other files; nothing of those is opened."""
    found: list[Mention] = []

    def look(path: str, link) -> None:
        if isinstance(link, h5py.ExternalLink):
            found.append(Mention(path, (link.filename,), "link"))
        elif isinstance(link, h5py.HardLink) and isinstance(item := file[path], h5py.Dataset):
            if (
                path.endswith("/external_file")
                and item.shape
                and h5py.check_string_dtype(item.dtype)
            ):  # of an ImageSeries
                found.append(
                    Mention(
                        path,
                        tuple(os.fsdecode(name) for name in read_values(item).ravel()),
                        "names",
                    )
                )
            elif item.is_virtual:
                others = dict.fromkeys(each.file_name for each in item.virtual_sources())
                found.append(
                    Mention(path, tuple(name for name in others if name != "."), "virtual")
                )

    file.visititems_links(look)
    return found


def is_relative(name: str) -> bool:
    """Whether a file's name begins at the folder of the file that says it: no absolute path, no
    address."""
    return bool(name) and "://" not in name and not PurePath(name).is_absolute()


def check_movable(file: h5py.File, source: Path) -> None:
    """Raise WriteError where a copy in another folder could not point to what the file does."""
    for each in mentions(file):
        relative = [name for name in each.names if is_relative(name)]
        if each.kind == "virtual" and relative:
            raise WriteError(
                "a copy in another folder would lose values that lie in other files",
                file=source,
                item=each.path,
                found=f"a virtual dataset that shows values of {', '.join(relative[:3])}, by "
                "relative paths",
                remedy="--in-place, or --derive, which takes the values of units and intervals "
                "along",
            )


def keep_pointing(copy: Path, source: Path) -> None:
    """Let a copy, which may lie in another folder, point to the files that `source` points to.
    Warns of those not there.

    Raises WriteError as `check_movable`, where the folders differ.
    """
    folder, missing = copy.parent, []
    with h5py.File(copy, "r") as file:
        if not _same_folder(folder, source.parent):
            check_movable(file, source)
        known = mentions(file)
    changed: list[tuple[Mention, list[str]]] = []
    for each in known:
        names = [_seen_from(folder, name, source) for name in each.names]
        missing += [
            f"{each.path} needs {name}"
            for name in each.names
            if is_relative(name) and not _meant(name, source).exists()
        ]
        if names != list(each.names):
            changed.append((each, names))
    if changed:
        with h5py.File(copy, "r+") as file:
            for each, names in changed:
                _say_anew(file, each, names)
    if missing:
        told = "; ".join(missing[:3]) + (
            f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        )
        warnings.warn(f"{source}: {told}: not there, and so it is for the copy", stacklevel=5)


def _same_folder(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _meant(name: str, source: Path) -> Path:
    """The file that HDF5 finds by a relative name: at the file's name, where that leads, or where
    the program runs."""
    folders = (source.parent, Path(os.path.realpath(source)).parent, Path.cwd())
    return next(
        (folder / name for folder in folders if (folder / name).exists()), source.parent / name
    )


def _seen_from(folder: Path, name: str, source: Path) -> str:
    """The name by which a file in `folder` finds what `source` means by it, which may be a link
    itself."""
    if not is_relative(name):
        return name
    meant = _meant(name, source)
    if os.path.realpath(folder / name) == os.path.realpath(meant):
        return name
    return os.path.relpath(
        os.path.join(os.path.realpath(meant.parent), meant.name), os.path.realpath(folder)
    )


def _say_anew(file: h5py.File, mention: Mention, names: list[str]) -> None:
    if mention.kind == "link":
        target = file.get(mention.path, getlink=True).path
        del file[mention.path]
        file[mention.path] = h5py.ExternalLink(names[0], target)
        return
    old = file[mention.path]
    attributes, shape = dict(old.attrs), old.shape
    del file[mention.path]  # texts of a fixed length have no room for longer ones
    new = file.create_dataset(mention.path, shape, h5py.string_dtype())
    new[...] = np.reshape(np.asarray(names, dtype=object), shape)
    for key, value in attributes.items():
        new.attrs[key] = value
