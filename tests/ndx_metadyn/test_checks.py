"""Each inspector check speaks where its rule is broken in a file, and only there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO
from pynwb.base import TimeSeriesReference

from ndx_metadyn import DynamicalEmbeddingsTable, LatentDynamics, checks
from ndx_metadyn.testing import mock

RUN = "processing/ecephys/LatentDynamics"
MODEL = "processing/ecephys/LatentDynamicsModel"
# Name of a broken file: the check that is to speak, the dataset, the place in it, the value put
# there
BREAKS = {
    "negative": (
        "check_series_sd_is_finite_and_not_negative",
        f"{RUN}/LatentSeries/data_sd",
        (3, 1),
        -1.0,
    ),
    "infinite": (
        "check_series_sd_is_finite_and_not_negative",
        f"{RUN}/FiringRateSeries/data_sd",
        (0, 0),
        np.inf,
    ),
    "nan": (
        "check_embedding_sd_is_finite_and_not_negative",
        f"{RUN}/embeddings/embedding_sd",
        (2, 0),
        np.nan,
    ),
    "scope": ("check_scope_is_consistent", f"{RUN}Pooled/embeddings/embedding_mean", (1, 0), 9.0),
    "window": (
        "check_bin_centers_lie_inside_their_windows",
        f"{RUN}/embeddings/stop_time",
        (1,),
        1.3,
    ),
    "time": (
        "check_bin_centers_lie_inside_their_windows",
        f"{RUN}/LatentSeries/timestamps",
        (9,),
        0.7,
    ),
    "weights": ("check_weights_match_digest", f"{MODEL}/weights", (-1,), 1),
    "input": (
        "check_units_are_those_of_the_model_in_its_order",
        f"{RUN}/units",
        (slice(0, 2),),
        [5, 6],
    ),
    "rates": (
        "check_units_are_those_of_the_model_in_its_order",
        f"{RUN}/FiringRateSeries/units",
        (0,),
        0,
    ),
    "config": (
        "check_units_are_those_of_the_model_in_its_order",
        f"{MODEL}/config",
        (),
        b'{"sessions": 3}',
    ),
}
INSPECTOR = shutil.which(
    "nwbinspector", path=str(Path(sys.executable).parent)
)  # the command itself


def break_file(path: Path, dataset: str, place, value) -> None:
    with h5py.File(path, "r+") as file:
        values = file[dataset][()]
        if place == ():
            assert values != value
            values = value
        else:
            assert not np.array_equal(values[place], value)
            values[place] = value
        file[dataset][...] = values


@pytest.fixture(scope="module")
def spoken(mock_file, tmp_path_factory):
    """File name -> checks that speak of it, found by the command `nwbinspector FOLDER --modules
    ndx_metadyn.checks`."""
    folder = tmp_path_factory.mktemp("inspected")
    for name in ("good", *BREAKS):
        shutil.copy(mock_file, folder / f"{name}.nwb")
        with h5py.File(folder / f"{name}.nwb", "r+") as file:
            file["identifier"][()] = name  # nwbinspector speaks of files that share one
        if name in BREAKS:
            break_file(folder / f"{name}.nwb", *BREAKS[name][1:])
    report = folder / "report.json"
    command = [
        INSPECTOR,
        str(folder),
        "--skip-validate",
        "--modules",
        "ndx_metadyn.checks",
        "--json-file-path",
        str(report),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = [
        (Path(each["file_path"]).stem, each["check_function_name"])
        for each in json.loads(report.read_text())["messages"]
    ]
    return {
        name: sorted(check for file, check in found if file == name) for name in ("good", *BREAKS)
    }


def test_a_good_file_hears_nothing(spoken):
    assert spoken["good"] == []


@pytest.mark.parametrize("name", BREAKS)
def test_check_speaks_of_its_own_rule_alone(name, spoken):
    assert spoken[name] == [BREAKS[name][0]]


def test_every_check_has_a_file_that_breaks_its_rule():
    assert {check for check, *_ in BREAKS.values()} == {
        name for name in vars(checks) if name.startswith("check_")
    }


def messages(path):
    """Names of the checks that speak of a file, in this process."""
    from nwbinspector import inspect_nwbfile

    return {message.check_function_name for message in inspect_nwbfile(nwbfile_path=path)}


@pytest.mark.parametrize(
    ("estimate", "spoken"),
    [("forecast", set()), ("smoothed", {"check_bin_centers_lie_inside_their_windows"})],
)
def test_only_forecast_bins_may_lie_beyond_their_window(estimate, spoken, tmp_path):
    path, nwbfile = tmp_path / "beyond.nwb", mock.mock_NWBFile()
    run = LatentDynamics(description="d", bin_width=mock.BIN_WIDTH)
    nwbfile.create_processing_module("ecephys", "Latent dynamics.").add(run)
    series = mock.mock_LatentSeries(estimate=estimate)
    run.add_latent_series(series)
    run.embeddings = DynamicalEmbeddingsTable(
        description="A context that ends before the bins begin."
    )
    reference = TimeSeriesReference(mock.N_BINS, mock.N_BINS, series)
    run.embeddings.add_row(
        start_time=0.0, stop_time=0.5, embedding_mean=np.ones(2, np.float32), timeseries=[reference]
    )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    assert {name for name in messages(path) if name in vars(checks)} == spoken


@pytest.mark.parametrize(("edge", "n_outside"), [("start", 1), ("stop", 1), ("inside", 0)])
def test_a_bin_centre_on_the_edge_of_its_window_lies_outside(edge, n_outside):
    """Windows touch: a centre on their common edge would count for either."""
    latents = mock.mock_LatentSeries()
    table = mock.mock_DynamicalEmbeddingsTable([latents])
    row, bin_ = 2, 2 * mock.N_BINS + 4
    bound = {"inside": latents.timestamps[bin_]} | {
        name: table[f"{name}_time"].data[row] for name in ("start", "stop")
    }
    latents.timestamps[bin_] = bound[edge]
    message = checks.check_bin_centers_lie_inside_their_windows(table)
    assert (message is not None) == bool(n_outside)
    assert message is None or "in 1 rows, first in row 2" in message.message
