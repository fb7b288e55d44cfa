"""From an annotated recording to a dandiset, and from somebody's file to a model of one's own."""

import hashlib
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import read_nwb
from safetensors.numpy import load_file

import metadyn


@pytest.fixture(scope="module")
def derived(journey, run):
    """The third recording, annotated into a derived file."""
    options = ("--derive", "--context", 20, "--steps", 10)
    return run.worked(
        "annotate", journey.aligned, journey.files[2], "-o", journey.folder / "derived", *options
    ).strip()


def test_a_derived_file_has_the_results_of_an_annotated_one(journey, derived):
    ours, whole = (read_nwb(path).processing["ecephys"] for path in (derived, journey.annotated))
    for name in ("LatentSeries", "LatentSeriesForecast"):
        np.testing.assert_array_equal(
            *(each["LatentDynamics"].latent_series[name].data[:] for each in (ours, whole))
        )
    assert "SimulatedLatents" in whole.data_interfaces
    assert "SimulatedLatents" not in ours.data_interfaces
    said = json.loads(ours["LatentDynamics"].parameters)["derived_from"]
    assert said["digest"] == f"sha256:{hashlib.sha256(journey.files[2].read_bytes()).hexdigest()}"


def test_the_commands_derive_package_and_plan(journey, run, tmp_path):
    said = run.worked("derive", journey.annotated, "-o", tmp_path / "derived.nwb")
    assert (
        "left out: processing/ecephys/SimulatedLatents, processing/ecephys/SimulatedRates" in said
    )
    said = run.worked("package", tmp_path / "derived.nwb", "-o", tmp_path / "dandiset")
    path = re.search(r"sub-\w+/sub-\w+_ses-\w+_desc-metadyn_ecephys\.nwb", said).group()
    assert (tmp_path / "dandiset" / path).exists()
    assert "none in the way of an upload" in said


def test_a_zarr_store_is_not_written_and_the_reason_told(journey, run, tmp_path):
    said = run.refused("derive", journey.annotated, "-o", tmp_path / "derived.nwb.zarr")
    assert "pickles" in said
    assert "pip install hdmf-zarr" in said
    assert not list(tmp_path.iterdir())


def test_a_recording_is_aligned_to_the_model_of_a_derived_file_and_forecast(derived, run, tmp_path):
    (mine,) = metadyn.simulate(
        "limit-cycle", tmp_path, parameters=[1.0], n_trials=6, n_bins=40, units=(5, 5), seed=9
    )
    said = run.worked("align", derived, f"mine={mine}", "-o", tmp_path / "model", "--steps", 1)
    assert "model of 4 sessions" in said
    key = read_nwb(derived).processing["ecephys"]["LatentDynamics"].input_key
    assert "forecast of" in run.worked("forecast", derived, f"{key}={derived}", "--context", 20)


def test_the_model_of_a_file_is_shown_and_exported_byte_for_byte(journey, derived, run, tmp_path):
    said = run.worked("model", derived, "-o", tmp_path / "weights.safetensors")
    weights = (tmp_path / "weights.safetensors").read_bytes()
    assert f"sha256:{hashlib.sha256(weights).hexdigest()} (verified" in said
    assert "MetaSSM" in said
    assert all(entry.key in said for entry in metadyn.load_model(journey.aligned).sessions)
    assert load_file(tmp_path / "weights.safetensors").keys() >= {"log_q", "likelihood.weight"}
    assert json.loads((tmp_path / "weights.json").read_text())["architecture"] == "MetaSSM"
    assert "--overwrite" in run.refused("model", derived, "-o", tmp_path / "weights.safetensors")


def test_a_model_whose_bytes_were_changed_is_not_shown(derived, run, tmp_path):
    damaged = tmp_path / "damaged.nwb"
    damaged.write_bytes(Path(derived).read_bytes())
    with h5py.File(damaged, "r+") as file:
        weights = file["processing/ecephys/LatentDynamicsModel/weights"]
        weights[-1] ^= 1
    said = run.refused("model", damaged, "-o", tmp_path / "weights.safetensors")
    assert "not the bytes that the digest was taken of" in said
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_derived_file_does_not_take_its_sources_place(journey, run, untouched):
    before = untouched(journey.folder)
    assert "by -o" in run.refused(
        "annotate", journey.aligned, journey.files[2], "--in-place", "--derive", code=2
    )
    assert untouched(journey.folder) == before


def test_what_is_missing_comes_as_a_template_on_the_standard_output(journey, derived, tmp_path):
    from typer.testing import CliRunner

    from metadyn.cli import app

    bare = tmp_path / "bare.nwb"
    bare.write_bytes(Path(derived).read_bytes())
    with h5py.File(bare, "r+") as file:
        del file["general/subject/sex"]
    result = CliRunner().invoke(app, ["package", str(bare), "-o", str(tmp_path / "dandiset")])
    assert result.exit_code == 1
    assert '["bare.nwb"]\nsex = ""' in result.stdout
    assert "bare.nwb lacks sex" in result.stderr
