"""Annotated files are as valid as their sources, and open anywhere."""

import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pynwb
import pytest
from nwbinspector import inspect_nwbfile
from pynwb import NWBHDF5IO

from metadyn.nwb.read import read_session
from metadyn.nwb.simulate import write_simulated
from metadyn.nwb.write import write_run


@pytest.fixture(scope="module")
def annotated(tmp_path_factory, simulated, made):
    """Source and annotated copy, in one dandiset each."""
    folder = tmp_path_factory.mktemp("valid")
    source = write_simulated(simulated, folder / "raw")
    target = folder / "annotated" / source.relative_to(folder / "raw")
    result = made.posterior(simulated.trial_start, [30] * 5, range(4))
    write_run(
        source, target, result, forecast=made.forecast_of(result, 20, 10), model=made.model_file()
    )
    return source, target


def messages(path):
    return Counter(
        (m.check_function_name, m.object_name, m.message)
        for m in inspect_nwbfile(nwbfile_path=str(path))
    )


def test_neither_file_has_a_validation_error(annotated):
    for path in annotated:
        assert pynwb.validate(path=str(path)) == []


def test_the_inspector_has_nothing_to_say_of_either(annotated):
    for path in annotated:
        assert not messages(path)


def test_dandi_has_nothing_to_say_of_the_folders(annotated):
    script = "import sys; from dandi.cli.command import main; main()"
    for path in annotated:
        folder = path.parents[1]
        (folder / "dandiset.yaml").write_text("identifier: 'DANDI:000000'\nname: simulated\n")
        command = [sys.executable, "-c", script, "validate", str(folder)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env={**os.environ, "DANDI_NO_ET": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "NWBI." not in done.stdout
        assert "DANDI." not in done.stdout


def test_a_fresh_process_without_this_package_reads_everything(
    annotated, simulated, made, read_without_us
):
    found = read_without_us(annotated[1])
    assert (found["latents"], found["rates"], found["unit"], found["n_windows"]) == (
        [150, 2],
        [150, 4],
        "Hz",
        5,
    )
    expected = made.posterior(simulated.trial_start, [30] * 5, range(4)).latent_mean.sum(
        ("time", "latent")
    )
    np.testing.assert_allclose(found["window_totals"], expected[[0, 1, 4]], rtol=1e-5)
    assert found["times"][0] == pytest.approx(simulated.trial_start[0] + 0.01)
    assert found["weights_begin"] == "{"


def test_pynapple_shows_latents_rates_and_embeddings(annotated, simulated):
    import pynapple

    shown = pynapple.NWBFile(str(annotated[1]))
    names = [name for name in shown.keys() if "Forecast" not in name]  # noqa: SIM118  an NWBFile is no dict
    latents = shown[next(name for name in names if name.endswith("LatentSeries"))]
    rates = shown[next(name for name in names if name.endswith("FiringRateSeries"))]
    windows = shown[next(name for name in names if name.endswith("embeddings"))]
    assert (type(latents), latents.shape, rates.shape) == (pynapple.TsdFrame, (150, 2), (150, 4))
    np.testing.assert_allclose(windows.start, simulated.trial_start)
    assert "embedding_mean" in windows.metadata_columns
    assert len(latents.restrict(windows)) == 150
    shown.close()


def test_the_truth_of_a_simulation_is_in_its_file(annotated, simulated):
    with NWBHDF5IO(annotated[0], "r") as io:
        nwbfile = io.read()
        assert set(nwbfile.trials["speed"][:]) == {simulated.parameters["speed"]}
        latents = nwbfile.processing["ecephys"]["SimulatedLatents"]
        np.testing.assert_allclose(latents.data[30:60], simulated.latents[1], rtol=1e-6)
        np.testing.assert_allclose(latents.timestamps[30], simulated.trial_start[1] + 0.01)
        rates = nwbfile.processing["ecephys"]["SimulatedRates"]
        np.testing.assert_allclose(rates.data[-1], simulated.rates[-1, -1], rtol=1e-6)


def test_simulated_spikes_fall_into_the_bins_they_were_drawn_for(annotated, simulated):
    session = read_session(annotated[0])
    for trial, start in enumerate(simulated.trial_start):
        edges = start + 0.02 * np.arange(31)
        for unit in range(4):
            times = session.spike_times[session.spike_index[unit] : session.spike_index[unit + 1]]
            np.testing.assert_array_equal(
                np.histogram(times, edges)[0], simulated.counts[trial, :, unit]
            )
