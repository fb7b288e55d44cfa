"""`metadyn` and `python -m metadyn`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Read once, when torch is loaded (docs/decisions/threads.md). A variable that is set already stays,
# as torchrun sets the first. A second thread gains where a core is free for it, and loses where
# none is. Threads that spin long while they wait hold up whoever else wants the core.
os.environ.setdefault("OMP_NUM_THREADS", "2" if cores() >= 4 else "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def on_interrupt(answer: Any) -> None:
    """Answer Ctrl-C in this way from here on.

    Where a shell in the background has it ignored, it stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, answer)


def main() -> None:
    """Run the command line; without its packages, say how to get them.

    Before and after a command Ctrl-C ends the process without a word, where Python would answer
    with a traceback.
    """
    on_interrupt(signal.SIG_DFL)
    try:
        from metadyn.cli import app
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.partition(".")[0] == "metadyn":
            raise
        install = "pip install 'ndx-metadyn[model]'"
        sys.exit(f"metadyn needs {missing.name}, which is not installed: {install}")
    on_interrupt(signal.default_int_handler)
    try:
        app(prog_name="metadyn")
    finally:
        on_interrupt(signal.SIG_DFL)


if __name__ == "__main__":
    main()
