"""Writes the back-compatibility file of the schema version at hand: `python
tests/back_compat/make_file.py`, once a release.

A committed file is never written again: it is what users have on their disks, gzipped because most
of it is the cached schema.
"""

import gzip
import tempfile
from pathlib import Path

from pynwb import NWBHDF5IO, get_manager

from ndx_metadyn import NAMESPACE
from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile


def make(folder: Path) -> Path:
    """A file with a run per window and one per session, each with a model of its own; refuses to
    replace a file."""
    version = get_manager().namespace_catalog.get_namespace(NAMESPACE).version
    path = Path(folder) / f"metadyn_{version.replace('.', '_')}.nwb.gz"
    with tempfile.TemporaryDirectory() as scratch, path.open("xb") as file:
        file.write(gzip.compress(_write(Path(scratch) / "run.nwb").read_bytes(), mtime=0))
    return path


def _write(path: Path) -> Path:
    nwbfile = mock_NWBFile()
    mock_LatentDynamics(nwbfile)
    mock_LatentDynamics(
        nwbfile,
        name="LatentDynamicsPooled",
        model_name="LatentDynamicsModelPooled",
        scope="session",
    )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    return path


if __name__ == "__main__":
    print(make(Path(__file__).parent))
