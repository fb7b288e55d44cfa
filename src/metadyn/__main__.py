"""`metadyn` and `python -m metadyn`."""

import sys


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
