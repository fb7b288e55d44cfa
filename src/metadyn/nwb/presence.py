"""Whether files are here: one that git-annex, DataLad or Git LFS has not fetched yet is named with
the command that does."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from metadyn.errors import DataError
from metadyn.nwb.zarr import is_zarr

MOST_POINTER_BYTES = (
    2**15
)  # bytes of a text in place of a file; those of git-annex and LFS have a few hundred
ANNEX, LFS = b"/annex/objects/", b"version https://git-lfs.github.com/"  # how such a text begins
MOST_NAMED = 3  # files that a message names


def files_below(folder: Path) -> list[Path]:
    """The NWB files below a folder, in order, but for hidden ones: `._*` of macOS, and what is in
    .git, .ipynb_checkpoints, …

    A link to nowhere is one too, and a Zarr store of such a name, so that reading says what it
    lacks. Linked folders are not entered.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        stores = [name for name in folders if _is_nwb(name) and is_zarr(here / name)]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in stores]
        found += [here / name for name in (*files, *stores) if _is_nwb(name)]
    return sorted(found)


def _is_nwb(name: str) -> bool:
    return name.lower().endswith(".nwb") and not name.startswith(".")


def check_here(paths: list[Path]) -> None:
    """Raise DataError unless all of them are here: files of the disk, with bytes of their own."""
    missing = [path for path in paths if not path.exists() and not _holder(path)]
    if missing:
        raise _not_there(missing[0])
    elsewhere = [path for path in paths if _holder(path)]
    if elsewhere:
        more = f" and {len(elsewhere) - MOST_NAMED} more" if len(elsewhere) > MOST_NAMED else ""
        raise DataError(
            "not fetched yet: only its name is here"
            if len(elsewhere) == 1
            else "not fetched yet: only their names are here",
            file=", ".join(map(str, elsewhere[:MOST_NAMED])) + more,
            found=f"{len(elsewhere)} of {len(paths)} files"
            if len(paths) > 1
            else f"a file that {_holder(elsewhere[0])} keeps",
            remedy=fetching(elsewhere),
        )


def _not_there(path: Path) -> DataError:
    if path.is_symlink():
        found, remedy = (
            f"a link to {os.readlink(path)}, which is not there",
            "the file that was meant, or a link to it",
        )
        return DataError("a link leads nowhere", file=path, found=found, remedy=remedy)
    remedy = "check the path; relative paths start at the working directory"
    return DataError("no such file", file=path, remedy=remedy)


def _holder(path: Path) -> str | None:
    """Who keeps the bytes of a file that are not here, git-annex or Git LFS; None where they are
    here, or nobody does."""
    if path.is_symlink() and not path.exists():
        return "git-annex" if ANNEX.decode() in os.readlink(path) else None
    if not path.is_file() or path.stat().st_size > MOST_POINTER_BYTES:
        return None
    try:
        with path.open("rb") as file:
            begin = file.read(len(LFS))
    except OSError:  # may not be read: opening says so
        return None
    return "git-annex" if begin.startswith(ANNEX) else "Git LFS" if begin.startswith(LFS) else None


def fetching(paths: list[Path]) -> str:
    """The command that fetches such files, one a repository."""
    repositories: dict[Path, list[Path]] = {}
    for path in paths:
        repositories.setdefault(_repository(path), []).append(path)
    return " && ".join(_fetching(root, own) for root, own in repositories.items())


def _repository(path: Path) -> Path:
    """The nearest folder above that is a repository; without one, that of the file."""
    folder = Path(
        os.path.normpath(path.absolute())
    ).parent  # links are not followed: they lead into .git
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)


def _fetching(root: Path, paths: list[Path]) -> str:
    place = shlex.quote(os.path.relpath(root))
    names = [os.path.relpath(path, root) for path in paths]
    if _holder(paths[0]) == "Git LFS":
        return f"git -C {place} lfs pull --include {shlex.quote(','.join(names))}"
    tool = "datalad" if (root / ".datalad").exists() else "git"
    return f"{tool} -C {place} {'get' if tool == 'datalad' else 'annex get'} {shlex.join(names)}"
