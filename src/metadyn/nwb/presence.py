"""Whether files are here.

One that git-annex, DataLad or Git LFS has not fetched yet is named with the command that fetches
it.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from metadyn.errors import DataError
from metadyn.nwb.zarr import is_zarr

# Of a text in place of a file; those of git-annex and LFS have a few hundred bytes
MOST_POINTER_BYTES = 2**15
# The beginnings of such texts
ANNEX = b"/annex/objects/"
LFS = b"version https://git-lfs.github.com/"
MOST_NAMED = 3  # files that a message names


def files_below(folder: Path) -> list[Path]:
    """The NWB files below a folder, sorted.

    Without hidden ones: `._*` of macOS, and what is in .git, .ipynb_checkpoints, … Links to nowhere
    and Zarr stores of such a name are among them, so that reading says what is wrong with them.
    Linked folders are not entered.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        stores = [name for name in folders if _is_nwb(name) and is_zarr(here / name)]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in stores]
        found += [here / name for name in (*files, *stores) if _is_nwb(name)]
    return sorted(found)


def _is_nwb(name: str) -> bool:
    """Whether a file of this name is an NWB file that is not hidden."""
    return name.lower().endswith(".nwb") and not name.startswith(".")


def check_here(paths: list[Path]) -> None:
    """Raise DataError unless all of them are here: files on the disk, with bytes of their own.

    The error for files that git-annex, DataLad or Git LFS keep has the command that fetches them.
    """
    missing = [path for path in paths if not path.exists() and not _holder(path)]
    if missing:
        raise _not_there(missing[0])
    elsewhere = [path for path in paths if _holder(path)]
    if not elsewhere:
        return
    names = "its name is" if len(elsewhere) == 1 else "their names are"
    found = f"{len(elsewhere)} of {len(paths)} files"
    if len(paths) == 1:
        found = f"a file that {_holder(elsewhere[0])} keeps"
    n_more = len(elsewhere) - MOST_NAMED
    raise DataError(
        f"not fetched yet: only {names} here",
        file=", ".join(map(str, elsewhere[:MOST_NAMED]))
        + (f" and {n_more} more" if n_more > 0 else ""),
        found=found,
        remedy=fetching(elsewhere),
    )


def _not_there(path: Path) -> DataError:
    """The error for a path that leads to no file."""
    if path.is_symlink():
        return DataError(
            "a link leads nowhere",
            file=path,
            found=f"a link to {os.readlink(path)}, which is not there",
            remedy="the file that was meant, or a link to it",
        )
    remedy = "check the path; relative paths start at the working directory"
    return DataError("no such file", file=path, remedy=remedy)


def _holder(path: Path) -> str | None:
    """The tool that keeps the bytes of a file elsewhere, "git-annex" or "Git LFS".

    None where they are here, or no tool does.
    """
    if path.is_symlink() and not path.exists():
        return "git-annex" if ANNEX.decode() in os.readlink(path) else None
    if not path.is_file() or path.stat().st_size > MOST_POINTER_BYTES:
        return None
    try:
        with path.open("rb") as file:
            begin = file.read(len(LFS))
    except OSError:  # may not be read: opening says so
        return None
    if begin.startswith(ANNEX):
        return "git-annex"
    return "Git LFS" if begin.startswith(LFS) else None


def fetching(paths: list[Path]) -> str:
    """The shell command that fetches such files, one part for each repository."""
    repositories: dict[Path, list[Path]] = {}
    for path in paths:
        repositories.setdefault(_repository(path), []).append(path)
    return " && ".join(_fetching(root, own) for root, own in repositories.items())


def _repository(path: Path) -> Path:
    """The nearest folder above that is a repository; without one, that of the file."""
    # Links are not followed: they lead into .git
    folder = Path(os.path.normpath(path.absolute())).parent
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), folder)


def _fetching(root: Path, paths: list[Path]) -> str:
    """The command that fetches files of one repository."""
    place = shlex.quote(os.path.relpath(root))
    names = [os.path.relpath(path, root) for path in paths]
    if _holder(paths[0]) == "Git LFS":
        return f"git -C {place} lfs pull --include {shlex.quote(','.join(names))}"
    if (root / ".datalad").exists():
        return f"datalad -C {place} get {shlex.join(names)}"
    return f"git -C {place} annex get {shlex.join(names)}"
