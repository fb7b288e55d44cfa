"""Other files that a file needs: external links, names of videos and images, virtual datasets.

Relative paths begin at the folder of the file that stores them; so they have to be rewritten in a
copy in another folder.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import h5py
import numpy as np

from metadyn.errors import WriteError
from ndx_metadyn.values import read_values


@dataclass(frozen=True)
class Mention:
    """An object of a file that needs other files.

    Parameters
    ----------
    path : of the object.
    names : of the other files, as they are stored.
    kind : "link", "names" (a dataset of file names, of an ImageSeries) or "virtual" (a dataset that
        shows values of other files).
    """

    path: str
    names: tuple[str, ...]
    kind: str


def mentions(file: h5py.File) -> list[Mention]:
    """The objects that need other files; nothing of those is opened."""
    found: list[Mention | None] = []
    file.visititems_links(lambda path, link: found.append(_mention(file, path, link)))
    return [each for each in found if each is not None]


def _mention(file: h5py.File, path: str, link: Any) -> Mention | None:
    """The other files that the object at a path needs, by its link or its values; None without."""
    if isinstance(link, h5py.ExternalLink):
        return Mention(path, (link.filename,), "link")
    item = file[path] if isinstance(link, h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset):
        return None
    is_text = item.shape and h5py.check_string_dtype(item.dtype)
    if path.endswith("/external_file") and is_text:
        names = tuple(os.fsdecode(name) for name in read_values(item).ravel())
        return Mention(path, names, "names")
    if item.is_virtual:
        others = dict.fromkeys(each.file_name for each in item.virtual_sources())
        return Mention(path, tuple(name for name in others if name != "."), "virtual")
    return None


def is_relative(name: str) -> bool:
    """Whether a file's name begins at the folder of the file that stores it.

    >>> is_relative("videos/a.mp4"), is_relative("/data/a.mp4"), is_relative("https://a.org/a.mp4")
    (True, False, False)
    """
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
                remedy="`in_place=True`, or `derive=True`, which takes the values of units and "
                "intervals "
                "along",
            )


def keep_pointing(copy: Path, source: Path) -> None:
    """Let a copy, which may lie in another folder, point to the files that `source` points to.

    Warns of those that are not there.

    Raises
    ------
    WriteError : as of `check_movable`, where the folders differ.
    """
    folder = copy.parent
    with h5py.File(copy, "r") as file:
        if not _same_folder(folder, source.parent):
            check_movable(file, source)
        known = mentions(file)
    changed: list[tuple[Mention, list[str]]] = []
    for mention in known:
        names = [_seen_from(folder, name, source) for name in mention.names]
        if names != list(mention.names):
            changed.append((mention, names))
    if changed:
        with h5py.File(copy, "r+") as file:
            for mention, names in changed:
                _rename(file, mention, names)
    missing = _missing_files(known, source)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        listed = "; ".join(missing[:3]) + more
        warnings.warn(f"{source}: {listed}: not there, and so it is for the copy", stacklevel=5)


def _missing_files(known: list[Mention], source: Path) -> list[str]:
    """A line for each file that an object of `source` needs by a relative name, if not there."""
    return [
        f"{mention.path} needs {name}"
        for mention in known
        for name in mention.names
        if is_relative(name) and not _meant(name, source).exists()
    ]


def _same_folder(one: Path, other: Path) -> bool:
    """Whether two paths lead to one folder, links followed."""
    return os.path.realpath(one) == os.path.realpath(other)


def _meant(name: str, source: Path) -> Path:
    """The file that HDF5 finds by a relative name in `source`.

    It looks beside the file's name, beside the file that this leads to, and where the program runs;
    where none is there, the first of these.
    """
    folders = (source.parent, Path(os.path.realpath(source)).parent, Path.cwd())
    existing = (folder / name for folder in folders if (folder / name).exists())
    return next(existing, source.parent / name)


def _seen_from(folder: Path, name: str, source: Path) -> str:
    """The name by which a file in `folder` finds the file that `source` calls `name`.

    That file may be a link itself, which is not followed.
    """
    if not is_relative(name):
        return name
    meant = _meant(name, source)
    if os.path.realpath(folder / name) == os.path.realpath(meant):
        return name
    path = os.path.join(os.path.realpath(meant.parent), meant.name)
    return os.path.relpath(path, os.path.realpath(folder))


def _rename(file: h5py.File, mention: Mention, names: list[str]) -> None:
    """Replace the names of the other files that an object of a (private) file needs."""
    if mention.kind == "link":
        target = file.get(mention.path, getlink=True).path
        del file[mention.path]
        file[mention.path] = h5py.ExternalLink(names[0], target)
        return
    old = file[mention.path]
    attributes = dict(old.attrs)
    shape = old.shape
    del file[mention.path]  # texts of a fixed length have no room for longer ones
    new = file.create_dataset(mention.path, shape, h5py.string_dtype())
    new[...] = np.reshape(np.asarray(names, dtype=object), shape)
    for key, value in attributes.items():
        new.attrs[key] = value
