"""A child process in which a command meets a hostile file: of little memory, for little time, and
watched for code.

The verdict on a case is a word. `worked`, `refused` (an error with a message) and `refused by pynwb` are
as it should be; all others are faults.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import TextIOWrapper
from multiprocessing import get_context
from pathlib import Path

MOST_MEMORY = 2 * 2**30  # bytes resident
MOST_SECONDS = 60
PYNWB = "refused by pynwb"  # of a file that pynwb itself, without metadyn, does not read
GOOD = ("worked", "refused", PYNWB)
# A pickle of a file would run what ours holds, `os.system`; dandi unpickles what it keeps of its
# own in the cache of the user.
CODE = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
CANARY = "metadyn_canary"  # a module that no file may have imported; hostile strings name it
OUT_OF_MEMORY = ("MemoryError", "allocate", "memory allocation", "bad_alloc")


@dataclass(frozen=True)
class Verdict:
    """How a case ended, and what was said."""

    word: str
    said: str = ""

    @property
    def good(self) -> bool:
        return self.word in GOOD


class Sandbox:
    """`sandbox.run(verb, folder)` in a forked child, which is made anew where it died."""

    def __init__(self, verbs: dict[str, Callable[[Path], Verdict]]):
        self._verbs, self._child, self._pipe = verbs, None, None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_) -> None:
        if self._child is not None:
            self._pipe.close()
            self._child.join()

    def run(self, verb: str, folder: Path) -> Verdict:
        """The verdict on one verb, and on what it left in the folder."""
        before = contents(folder)
        verdict = self._asked(verb, folder)
        return verdict if not verdict.good else left_behind(before, contents(folder), verdict)

    def _asked(self, verb: str, folder: Path) -> Verdict:
        if self._child is None:
            self._begin()
        self._pipe.send((verb, folder))
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._child.join()
            code, self._child = self._child.exitcode, None
            return Verdict("hung" if code == -signal.SIGALRM else "died", f"exit code {code}")

    def _begin(self) -> None:
        context = get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(
            target=_live, args=(self._verbs, theirs, self._pipe), daemon=True
        )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of a fork beside threads; the child starts none
            self._child.start()
        theirs.close()


def _live(verbs, pipe, other) -> None:
    """The life of the child: limits, then case after case."""
    other.close()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit_memory()
    executed: list[str] = []
    sys.addaudithook(
        lambda event, arguments: (
            executed.append(f"{event} {arguments}") if _is_code(event, arguments) else None
        )
    )
    while True:
        try:
            verb, folder = pipe.recv()
        except EOFError:
            os._exit(0)
        executed.clear()
        signal.alarm(MOST_SECONDS)
        verdict = _watched(verbs[verb], folder)
        signal.alarm(0)
        pipe.send(Verdict("executed", "; ".join(executed[:3])) if executed else verdict)


def limit_memory() -> None:
    """No more address space than what there is and what may become resident."""
    sizes = Path("/proc/self/statm").read_text().split()
    mapped, resident = (int(size) * os.sysconf("SC_PAGE_SIZE") for size in sizes[:2])
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MOST_MEMORY - resident,) * 2)


def _is_code(event: str, arguments: tuple) -> bool:
    return event in CODE or (event == "import" and str(arguments[0]).startswith(CANARY))


def _watched(verb: Callable[[Path], Verdict], folder: Path) -> Verdict:
    """What the verb says; `crashed` with the traceback of whatever escapes it."""
    with tempfile.TemporaryFile("w+b") as sink, warnings.catch_warnings():
        text = TextIOWrapper(sink, encoding="utf-8", write_through=True)
        warnings.simplefilter("default")
        try:
            with redirect_stdout(text), redirect_stderr(text):
                verdict = verb(folder)
        except BaseException:
            verdict = Verdict("crashed", traceback.format_exc())
        if verdict.word != PYNWB and any(word in verdict.said for word in OUT_OF_MEMORY):
            return Verdict("too much memory", verdict.said)
        return verdict


def contents(folder: Path) -> dict[str, str]:
    """Every entry below a folder: of files the digest, of links where they lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def hidden(path: Path) -> bool:
    """Whether a relative path is one of the private names under which files are made."""
    return any(part.startswith(".") for part in path.parts)


def left_behind(before: dict[str, str], after: dict[str, str], verdict: Verdict) -> Verdict:
    """The verdict, unless a file that was there is another now, or a half-written one is left."""
    changed = [name for name in before if after.get(name) != before[name]]
    if changed:
        return Verdict("changed a file", ", ".join(changed))
    partial = [name for name in after.keys() - before.keys() if hidden(Path(name))]
    return Verdict("left a partial file", ", ".join(partial)) if partial else verdict
