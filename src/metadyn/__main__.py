"""`metadyn` and `python -m metadyn`."""

import os
import sys


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# A second thread gains where a core is free for it, and loses where none is (docs/decisions/threads.md). Who sets it
# themselves is heard, as torchrun does.
os.environ.setdefault("OMP_NUM_THREADS", "2" if cores() >= 4 else "1")


def main() -> None:
    """Run the command line; without its packages, say how to get them."""
    try:
        from metadyn.cli import app
    except ModuleNotFoundError as missing:
        if missing.name and missing.name.partition(".")[0] == "metadyn":
            raise
        sys.exit(f"metadyn needs {missing.name}, which is not installed: pip install 'ndx-metadyn[model]'")
    app(prog_name="metadyn")


if __name__ == "__main__":
    main()
