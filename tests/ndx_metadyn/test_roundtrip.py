"""What is written is read: here, in a process without this package, by the validator, the inspector
and pynapple."""

import json
import subprocess
import sys

import numpy as np
from pynwb import NWBHDF5IO, validate
from pynwb.testing.mock.file import mock_NWBFile as bare_NWBFile

from ndx_metadyn import LatentDynamics
from ndx_metadyn.testing import mock

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ndx_metadyn", "metadyn", "torch"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Blocked())
"""


def in_fresh_process(code, *args, cwd):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_brings_no_torch_and_no_inspector(tmp_path):
    code = "import sys, ndx_metadyn; print(sorted({'torch', 'nwbinspector', 'pynapple', 'metadyn'} & set(sys.modules)))"
    assert in_fresh_process(code, cwd=tmp_path).strip() == "[]"


def test_validator_finds_no_error(mock_file):
    assert validate(path=str(mock_file)) == []


def test_inspector_has_nothing_to_say_at_any_importance(mock_file):
    from nwbinspector import inspect_nwbfile

    import ndx_metadyn.checks  # noqa: F401  registers

    assert list(inspect_nwbfile(nwbfile_path=mock_file)) == []


def test_values_come_back_as_they_were(runs):
    run, latents, rates = (
        runs["LatentDynamics"],
        mock.mock_LatentSeries(),
        mock.mock_FiringRateSeries(),
    )
    stored = run.latent_series["LatentSeries"], run.firing_rate_series["FiringRateSeries"]
    for here, there in zip((latents, rates), stored, strict=True):
        for field in ("data", "data_sd", "timestamps"):
            np.testing.assert_array_equal(getattr(here, field), getattr(there, field)[:])
        assert (there.estimate, there.description, there.unit) == (
            here.estimate,
            here.description,
            here.unit,
        )
    np.testing.assert_array_equal(
        run.embeddings["embedding_mean"].data[:],
        mock.mock_DynamicalEmbeddingsTable()["embedding_mean"].data,
    )
    assert (run.bin_width, run.input_key, json.loads(run.parameters)) == (
        mock.BIN_WIDTH,
        "mock-0",
        {"bin_width": mock.BIN_WIDTH},
    )


def test_units_are_rows_and_keep_the_input_order(runs):
    run, n_rows = runs["LatentDynamics"], mock.N_UNITS + 2
    assert list(run.units.data[:]) == list(range(n_rows))[::-1][: mock.N_UNITS]
    assert list(run.firing_rate_series["FiringRateSeries"].to_xarray().unit) == [
        100 + row for row in run.units.data[:]
    ]


def test_a_row_leads_to_the_samples_of_its_window(runs):
    table = runs["LatentDynamics"].embeddings
    for row in range(len(table)):
        for reference in table["timeseries"][row]:
            inside = (table["start_time"][row] < reference.timestamps) & (
                reference.timestamps < table["stop_time"][row]
            )
            assert inside.all()
            assert len(reference.data) == mock.N_BINS


def test_two_runs_and_two_models_live_in_one_module(runs):
    first, second = runs["LatentDynamics"], runs["LatentDynamicsPooled"]
    assert first.model is not second.model
    assert {first.model.name, second.model.name} == {
        "LatentDynamicsModel",
        "LatentDynamicsModelPooled",
    }
    assert (first.embeddings.scope, second.embeddings.scope) == ("window", "session")
    assert first.model.training_assets["input_key"].data[:].tolist() == ["mock-0", "mock-1"]


def test_times_of_many_hours_keep_their_bins(tmp_path):
    from ndx_metadyn import LatentSeries

    times = 90_000 + (np.arange(500) + 0.5) * 0.001
    series = LatentSeries(name="x", description="d", data=np.zeros((500, 2)), timestamps=times)
    assert np.array_equal(series.to_xarray().time.values, times)


def test_file_reads_in_a_process_without_this_package(mock_file, tmp_path):
    code = BLOCKED + (
        "import json\n"
        "from pynwb import NWBHDF5IO\n"
        "with NWBHDF5IO(sys.argv[1], 'r') as io:\n"
        "    run = io.read().processing['ecephys']['LatentDynamics']\n"
        "    series = run.latent_series['LatentSeries'] if hasattr(run, 'latent_series') else "
        "run['LatentSeries']\n"
        "    table = run.embeddings\n"
        "    found = dict(module=type(run).__module__, latents=series.data[:].tolist(), "
        "sd=series.data_sd[:].tolist(),\n"
        "        embedding=table['embedding_mean'].data[:].tolist(), "
        "count=int(table['timeseries'][1][0].count),\n"
        "        weights=len(run.model.weights), "
        "config=json.loads(run.model.config)['architecture'], scope=table.scope)\n"
        "print(json.dumps(found))\n"
    )
    found = json.loads(in_fresh_process(code, mock_file, cwd=tmp_path))
    latents, table = mock.mock_LatentSeries(), mock.mock_DynamicalEmbeddingsTable()
    assert not found["module"].startswith("ndx_metadyn")
    np.testing.assert_array_equal(np.float32(found["latents"]), latents.data)
    np.testing.assert_array_equal(np.float32(found["sd"]), latents.data_sd)
    np.testing.assert_array_equal(np.float32(found["embedding"]), table["embedding_mean"].data)
    assert (found["count"], found["config"], found["scope"]) == (mock.N_BINS, "MetaSSM", "window")
    assert found["weights"] == len(mock.mock_LatentDynamicsModel().weights_bytes())


def test_pynapple_shows_latents_rates_and_embeddings_of_each_run_without_this_package(
    mock_file, tmp_path
):
    code = BLOCKED + (
        "import json, pynapple as nap\n"
        "data = nap.load_file(sys.argv[1])\n"
        "names = [name for name in data.keys() if name.startswith('LatentDynamics')]\n"
        "print(json.dumps({name: [type(data[name]).__name__, list(data[name].shape)] for name in "
        "names}))\n"
    )
    n_bins = mock.N_WINDOWS * mock.N_BINS
    one = {
        "LatentSeries": ["TsdFrame", [n_bins, mock.N_LATENTS]],
        "FiringRateSeries": ["TsdFrame", [n_bins, mock.N_UNITS]],
        "embeddings": ["IntervalSet", [mock.N_WINDOWS, 2]],
    }
    expected = {
        f"{run}/{name}": shown
        for run in ("LatentDynamics", "LatentDynamicsPooled")
        for name, shown in one.items()
    }
    assert json.loads(in_fresh_process(code, mock_file, cwd=tmp_path)) == expected


def test_run_given_whole_to_a_file_without_units_or_trials_comes_back(tmp_path):
    path, nwbfile, latents = tmp_path / "bare.nwb", bare_NWBFile(), mock.mock_LatentSeries()
    rates = mock.mock_FiringRateSeries(timestamps=latents)
    run = LatentDynamics(
        description="d",
        bin_width=0.05,
        latent_series=[latents],
        firing_rate_series=rates,
        embeddings=mock.mock_DynamicalEmbeddingsTable([latents, rates]),
    )
    nwbfile.create_processing_module("ecephys", "m").add(run)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    assert validate(path=str(path)) == []
    with NWBHDF5IO(str(path), "r") as io:
        stored = io.read().processing["ecephys"]["LatentDynamics"]
        assert (stored.units, stored.model, stored.input_key, stored.parameters) == (
            None,
            None,
            None,
            None,
        )
        rates = stored.firing_rate_series["FiringRateSeries"]
        assert rates.timestamps == stored.latent_series["LatentSeries"].timestamps
        assert rates.to_xarray().unit.values.tolist() == list(range(mock.N_UNITS))
        assert (
            stored.to_xarray()["LatentSeries"].trial.values.tolist()
            == np.repeat(range(4), 10).tolist()
        )
