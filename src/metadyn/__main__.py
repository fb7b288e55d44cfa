"""`metadyn` and `python -m metadyn`."""

import os
import signal
import sys


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# A second thread gains where a core is free for it, and loses where none is
# (docs/decisions/threads.md). Who sets it themselves is heard, as torchrun does.
os.environ.setdefault("OMP_NUM_THREADS", "2" if cores() >= 4 else "1")


def on_interrupt(answer) -> None:
    """What Ctrl-C does from here on; where a shell in the background has it ignored, it stays
    ignored."""
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
        sys.exit(
            f"metadyn needs {missing.name}, which is not installed: pip install 'ndx-metadyn[model]'"
        )
    on_interrupt(signal.default_int_handler)
    try:
        app(prog_name="metadyn")
    finally:
        on_interrupt(signal.SIG_DFL)


if __name__ == "__main__":
    main()
