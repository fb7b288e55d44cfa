"""`metadyn` and `python -m metadyn`."""

import os
import sys

# A step of these small recurrent networks gains little from a second thread, and loses much where another program
# wants the core (measured: 0.51 s against 0.02 s). Who sets it themselves is heard; torchrun does the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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
