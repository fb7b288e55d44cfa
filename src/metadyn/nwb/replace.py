"""One file takes the place of another whole, or not at all.

The user's file is never opened for writing: the change happens in a private copy in the target's folder,
which is renamed over the target when everything is on the disk.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metadyn.errors import MetadynError, WriteError

SUFFIX = ".metadyn-tmp"


@contextmanager
def replacement(source: Path, target: Path) -> Iterator[Path]:
    """A private copy of `source` that becomes `target` when the block ends well and vanishes when it does not.

    Raises
    ------
    WriteError : the folder cannot be written, the disk is full, or the block failed; `target` is as it was.
    """
    with new_file(source, target) as work:
        shutil.copyfile(source, work)
        yield work


@contextmanager
def new_file(source: Path, target: Path) -> Iterator[Path]:
    """As `replacement`, but nothing is copied: the block writes the file, which gets the permissions of `source`."""
    target = target.resolve()
    work = private_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        yield work
        _settle(work, source, target)
    except MetadynError:
        raise
    except Exception as error:
        raise _nothing_changed(error, target) from error
    finally:
        work.unlink(missing_ok=True)


def _nothing_changed(error: Exception, target: Path) -> WriteError:
    system = isinstance(error, OSError)
    remedy = "a folder with room that you may write to (-o DIR)" if system else "please report this; the file may be unusual"
    found = f"{type(error).__name__}: {error}"
    return WriteError("the file could not be written; nothing was changed", file=target, found=found, remedy=remedy)


def remove_leftovers(target: Path) -> list[Path]:
    """Remove the private copies, or folders, that killed runs on this machine left beside `target`."""
    left = [path for path in target.parent.glob(f".{_glob_safe(target.name)}.*{SUFFIX}") if not _owner_lives(path)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return left


def private_name(target: Path) -> Path:
    """A file or folder of this process beside `target`, which `remove_leftovers` removes when the process was killed."""
    return target.with_name(f".{target.name}.{socket.gethostname()}.{os.getpid()}{SUFFIX}")


def _glob_safe(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


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


def _settle(work: Path, source: Path, target: Path) -> None:
    """Bring the copy to the disk, give it the source's permissions and put it in the target's place.

    A file that is replaced keeps its owner and group, as far as this user may set them.
    """
    _sync(work)
    if target.exists():
        _keep_owner(target, work)
    shutil.copymode(source, work)  # after the owner: a change of owner clears some bits of the mode
    os.replace(work, target)
    _sync(target.parent)


def _keep_owner(target: Path, work: Path) -> None:
    there = target.stat()
    for owner in ({"uid": there.st_uid, "gid": -1}, {"uid": -1, "gid": there.st_gid}):  # a group of one's own may be given
        with suppress(PermissionError):
            os.chown(work, **owner)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
