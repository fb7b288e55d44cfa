"""A file that was annotated is enough: to infer, to align, and to forecast without torch."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import metadyn

CONTEXT, STEPS = 20, 10

ROLLOUT = """
import sys
for name in ("metadyn", "torch"):
    sys.modules[name] = None  # importing it raises
import numpy as np
from pynwb import read_nwb
from ndx_metadyn import rollout
run = read_nwb(sys.argv[1]).processing["ecephys"]["LatentDynamics"]
embedding, latent = run.embeddings["context_embedding"][:], run.embeddings["context_latent"][:]
ahead = rollout(run.model, embedding, latent, n_steps=int(sys.argv[2]), input_key=run.input_key)
np.savez(sys.argv[3], latents=ahead["latents"], rates=ahead["rates"], time=ahead["time"])
"""


@pytest.fixture(scope="module")
def told(journey, run):
    """What `metadyn forecast` says of the aligned session, by the model folder."""
    path = journey.folder / "ahead.nc"
    arguments = (
        "forecast",
        journey.aligned,
        journey.files[2],
        "--context",
        CONTEXT,
        "--steps",
        STEPS,
        "-o",
        path,
    )
    assert run.worked(*arguments).strip() == str(path)
    with xr.open_dataset(path, engine="scipy") as ahead:
        return ahead.load()


def test_a_rollout_from_the_file_alone_without_torch_is_the_forecast_of_the_command(
    journey, told, tmp_path
):
    command = [sys.executable, "-c", ROLLOUT, journey.annotated, str(STEPS), tmp_path / "ahead.npz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ahead = np.load(tmp_path / "ahead.npz")
    np.testing.assert_allclose(ahead["latents"], told.latent_mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ahead["rates"], told.rate_mean, rtol=1e-5)
    np.testing.assert_allclose(
        CONTEXT * 0.02 + ahead["time"], told.time + 0.01
    )  # ends of bins, and their centres


def test_a_file_with_forecasts_has_nothing_new_to_complain_of(journey, assert_no_new_fault):
    assert_no_new_fault(journey.annotated, journey.files[2])


def test_the_forecast_in_the_file_is_the_forecast_of_the_command(journey, told):
    from pynwb import read_nwb

    run = read_nwb(journey.annotated).processing["ecephys"]["LatentDynamics"]
    rates = run.firing_rate_series["FiringRateSeriesForecast"]
    np.testing.assert_allclose(
        rates.data[:].reshape(told.rate_mean.shape), told.rate_mean, rtol=1e-5
    )
    expected = told.start_time.values[:, None] + told.time.values
    np.testing.assert_allclose(
        rates.to_xarray().time.values.reshape(expected.shape), expected, atol=1e-9
    )


def test_the_model_in_the_file_is_the_model_in_the_folder(journey):
    from_file, from_folder = (
        metadyn.load_model(journey.annotated),
        metadyn.load_model(journey.aligned),
    )
    assert from_file.file() == from_folder.file()
    for recording in journey.files:
        xr.testing.assert_identical(
            metadyn.infer(from_file, recording), metadyn.infer(from_folder, recording)
        )


def test_alignment_leaves_the_sessions_as_they_were(journey):
    for recording in journey.files[:2]:
        before, after = (
            metadyn.infer(journey.model, recording),
            metadyn.infer(journey.aligned, recording),
        )
        xr.testing.assert_allclose(before, after, rtol=1e-5)


def test_another_recording_is_aligned_from_the_annotated_file_alone(journey, run, tmp_path):
    (fourth,) = metadyn.simulate(
        "limit-cycle", tmp_path, parameters=[1.0], n_trials=6, n_bins=40, units=(5, 5), seed=9
    )
    said = run.worked(
        "align", journey.annotated, f"fourth={fourth}", "-o", tmp_path / "model", "--steps", 1
    )
    assert "model of 4 sessions" in said
    arguments = ("score", tmp_path / "model", f"fourth={fourth}", "--context", 20, "--steps", 5)
    assert "--all-windows" in run.refused(*arguments)  # all six trained it
    assert "fourth: 6 windows" in run.worked(*arguments, "--all-windows")


def test_a_second_run_under_another_name_shares_the_model(journey, run, tmp_path):
    from pynwb import read_nwb

    again = run.worked(
        "annotate", journey.aligned, journey.annotated, "-o", tmp_path, "--name", "Again"
    ).strip()
    module = read_nwb(again).processing["ecephys"]
    assert module["Again"].model.object_id == module["LatentDynamics"].model.object_id
    np.testing.assert_array_equal(
        module["Again"].latent_series["LatentSeries"].data[:],
        module["LatentDynamics"].latent_series["LatentSeries"].data[:],
    )
