"""One file takes the place of another whole, or not at all.

The user's file is never opened for writing: the change happens in a private copy in the target's
folder, which is renamed over the target when everything is on the disk.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path, PurePath

from metadyn.errors import MetadynError, WriteError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module or None, asked before each use

SUFFIX = ".metadyn-tmp"


@contextmanager
def replacement(source: Path, target: Path) -> Iterator[Path]:
    """A private copy of `source` that becomes `target` when the block ends well.

    Otherwise it vanishes. It points to the other files that `source` points to, wherever `target`
    lies; see `metadyn.nwb.links`.

    Raises
    ------
    WriteError : the folder cannot be written, the disk is full, or the block failed; `target` is as
        it was. Or another process wrote `target` meanwhile, which stays as that process wrote it.
    """
    # Imports h5py, which is slow, and not needed by all who use this module
    from metadyn.nwb.links import keep_pointing

    with new_file(source, target) as work:
        shutil.copyfile(source, work)
        if real_path(source) != real_path(target):
            keep_pointing(work, source)
        yield work


@contextmanager
def new_file(source: Path, target: Path) -> Iterator[Path]:
    """As `replacement`, but nothing is copied: the block writes the file.

    It gets the permissions of `source`.
    """
    target = real_path(target)
    work = private_name(target)
    try:
        before = _state(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        yield work
        _settle(work, source, target, before)
    except MetadynError:
        raise
    except Exception as error:
        raise _nothing_changed(error, target) from error
    finally:
        work.unlink(missing_ok=True)


def real_path(path: str | Path) -> Path:
    """The path behind links.

    Raises
    ------
    WriteError : they lead in a circle.
    """
    real = Path(os.path.realpath(path))
    if any(each.is_symlink() for each in (real, *real.parents)):
        raise WriteError("links lead in a circle", file=path, remedy="another path")
    return real


def _nothing_changed(error: Exception, target: Path) -> WriteError:
    """The error for whatever went wrong while the file was written."""
    remedy = "please report this; the file may be unusual"
    if isinstance(error, OSError):
        remedy = "a folder with room that you may write to (`output`)"
    return WriteError(
        "the file could not be written; nothing was changed",
        file=target,
        found=f"{type(error).__name__}: {error}",
        remedy=remedy,
    )


def remove_leftovers(target: Path) -> list[Path]:
    """Remove what killed runs on this machine left beside `target`.

    Returns
    -------
    The private copies, files or folders, that were removed.
    """
    private = target.parent.glob(f".{short_name(target)}.*{SUFFIX}")
    left = [path for path in private if not _owner_lives(path)]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return left


def private_name(target: Path) -> Path:
    """A path of this process beside `target`, for a file or a folder.

    `remove_leftovers` removes it when the process was killed.
    """
    return target.with_name(f".{short_name(target)}.{socket.gethostname()}.{os.getpid()}{SUFFIX}")


def short_name(path: Path | PurePath) -> str:
    """16 letters that stand for a file's name.

    A name made of them has room where the file's own is as long as may be.

    >>> short_name(Path("a.nwb")) == short_name(Path("elsewhere/a.nwb"))
    True
    """
    return sha256(os.fsencode(path.name)).hexdigest()[:16]


def _owner_lives(path: Path) -> bool:
    """Whether the process that made a private copy still runs; one of another machine may."""
    host, _, pid = path.name.removesuffix(SUFFIX).rpartition(".")
    if not host.endswith(f".{socket.gethostname()}") or not pid.isdecimal():
        return True  # of another machine, where the same number is another process
    if int(pid) == os.getpid():
        return False  # a process of this number died before this one began
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _settle(work: Path, source: Path, target: Path, before: tuple[int, int, int] | None) -> None:
    """Bring the copy to the disk and put it in the target's place, if that is as `before`.

    It gets the permissions of `source`, and the owner and group of the file that it replaces, as
    far as this user may set them.

    Raises
    ------
    WriteError : another process wrote the target meanwhile.
    """
    _sync(work)
    if target.exists():
        _keep_owner(target, work)
    shutil.copymode(source, work)  # after the owner: a change of owner clears some bits of the mode
    with _alone_in(target.parent):
        if _state(target) != before:
            raise WriteError(
                "another process wrote the file meanwhile; it is left as that one wrote it",
                file=target,
                remedy="the same command again",
            )
        os.replace(work, target)
    _sync(target.parent)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Inode, time [ns] and size of a file, by which another in its place is known.

    None where there is no file.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    return there.st_ino, there.st_mtime_ns, there.st_size


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process puts a file in place here meanwhile, on systems that have such locks."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _keep_owner(target: Path, work: Path) -> None:
    """Give a copy the owner and group of a file, as far as this user may set them.

    One by one: a user may give a file to a group of his own, but not to another user.
    """
    there = target.stat()
    with suppress(PermissionError):
        os.chown(work, there.st_uid, -1)
    with suppress(PermissionError):
        os.chown(work, -1, there.st_gid)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
