"""docs/decisions/no-zarr.md is still true of the newest hdmf-zarr, in an environment of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pynwb import NWBHDF5IO

from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "decisions" / "no-zarr.md").read_text(encoding="utf-8")
COMPARE = """
import numpy as np, ndx_metadyn
from hdmf_zarr import NWBZarrIO
from pynwb import NWBHDF5IO
with NWBHDF5IO("derived.nwb", "r") as one, NWBZarrIO("derived.nwb.zarr", "r") as other:
    ours, theirs = (io.read().processing["ecephys"]["LatentDynamics"] for io in (one, other))
    for each in ("data", "data_sd"):
        a, b = (np.asarray(getattr(run.latent_series["LatentSeries"], each)) for run in (ours, theirs))
        np.testing.assert_array_equal(a, b)
    for row in range(len(ours.embeddings)):
        a, b = (run.embeddings["timeseries"][row][0] for run in (ours, theirs))
        np.testing.assert_array_equal(a.data, b.data)
    assert ours.units.data[:].tolist() == theirs.units.data[:].tolist()
    assert theirs.units.table.name == "units"
    theirs.model.verify()
    assert theirs.model.weights_bytes() == ours.model.weights_bytes()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zarr")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", ROOT, "hdmf-zarr"], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    return python


@pytest.fixture
def export(python, tmp_path):
    """export(**environment) → the finished process that ran the page's script beside a
    derived.nwb."""
    nwbfile = mock_NWBFile()
    mock_LatentDynamics(nwbfile)
    with NWBHDF5IO(tmp_path / "derived.nwb", "w") as io:
        io.write(nwbfile)
    script = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]

    def run(**environment):
        where = {"cwd": tmp_path, "env": {**os.environ, **environment}}
        return subprocess.run(
            [python, "-c", script], capture_output=True, text=True, check=False, **where
        )

    return run


def test_the_newest_hdmf_zarr_still_exports_references_as_pickles_only(export):
    done = export()
    assert done.returncode != 0, (
        "hdmf-zarr exports without pickles: take docs/decisions/no-zarr.md again"
    )
    assert "UnsafeDecodeError" in done.stderr


def test_what_the_page_says_to_do_for_a_trusted_file_works(export, python, tmp_path):
    trusted = {"NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE": "1"}
    done = export(**trusted)
    assert done.returncode == 0, done.stderr
    assert any(
        '"pickle"' in array.read_text()
        for array in (tmp_path / "derived.nwb.zarr").rglob(".zarray")
    )
    where = {"cwd": tmp_path, "env": {**os.environ, **trusted}}
    compared = subprocess.run(
        [python, "-c", COMPARE], capture_output=True, text=True, check=False, **where
    )
    assert compared.returncode == 0, compared.stderr
