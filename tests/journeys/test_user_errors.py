"""What goes wrong for a person ends in a message that names it and the next step; nothing is
lost."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pynwb import NWBHDF5IO, TimeSeries

import metadyn

# Annotates a copy, which loads all that is needed, and then, no longer as root, in the folder that
# may not be written.
IN_A_CLOSED_FOLDER = """
import os, sys
from typer.testing import CliRunner
from metadyn.cli import app
model, file, elsewhere = sys.argv[1:]
first = CliRunner().invoke(app, ["annotate", model, file, "-o", elsewhere])
assert first.exit_code == 0, first.stderr
if os.getuid() == 0:
    os.setuid(65534)
result = CliRunner().invoke(app, ["annotate", model, file, "--in-place"])
print(result.exit_code, result.stderr)
"""


def test_a_misspelt_key_names_the_right_one(journey, run, tmp_path):
    (tmp_path / "run.toml").write_text("[training]\nlerning_rate = 0.01\n")
    said = run.refused(
        "fit", journey.files[0], "-o", tmp_path / "model", "-c", tmp_path / "run.toml", code=2
    )
    assert "training.learning_rate" in said
    assert not (tmp_path / "model").exists()


def test_an_unknown_column_lists_those_there_are(journey, run, tmp_path):
    said = run.refused("fit", journey.files[0], "-o", tmp_path / "model", "--where", "velocity > 2")
    assert "velocity" in said
    for column in ("start_time", "stop_time", "speed"):
        assert column in said
    assert not (tmp_path / "model").exists()


def test_a_filter_that_keeps_nothing_says_so(journey, run, tmp_path):
    assert "speed > 100" in run.refused(
        "fit", journey.files[0], "-o", tmp_path / "model", "--where", "speed > 100"
    )


@pytest.mark.filterwarnings(
    "ignore:CUDA initialization"
)  # torch's word on a machine with a driver and no GPU
def test_cuda_without_a_gpu_offers_the_cpu(journey, run, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "--device cpu" in run.refused(
        "fit", journey.files[0], "-o", tmp_path / "model", "--device", "cuda"
    )


def test_a_session_unknown_to_the_model_is_to_be_aligned(journey, run, tmp_path):
    for step in (
        ("annotate", journey.model, journey.files[2], "-o", tmp_path),
        ("score", journey.model, journey.files[2]),
    ):
        said = run.refused(*step)
        assert "metadyn align" in said
        assert all(entry.key in said for entry in metadyn.load_model(journey.model).sessions)
    assert not list(tmp_path.iterdir())


def test_a_session_is_not_aligned_twice(journey, run, tmp_path):
    assert "NAME=FILE" in run.refused(
        "align", journey.model, journey.files[0], "-o", tmp_path / "again"
    )


def test_a_name_of_a_run_is_taken_once(journey, run, tmp_path, untouched):
    before = untouched(journey.folder)
    said = run.refused("annotate", journey.aligned, journey.annotated, "-o", tmp_path)
    assert "--name LatentDynamics2" in said
    assert "--name LatentDynamics2" in run.refused(
        "annotate", journey.aligned, journey.annotated, "--in-place"
    )
    assert untouched(journey.folder) == before
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_model_is_not_written_over(journey, run):
    before = {path: path.stat().st_mtime_ns for path in journey.model.rglob("*")}
    assert "--resume" in run.refused(
        "fit", *journey.files[:2], "-o", journey.model, *run.haste, code=2
    )
    run.refused("align", journey.aligned, f"x={journey.files[0]}", "-o", journey.model, code=2)
    assert {path: path.stat().st_mtime_ns for path in journey.model.rglob("*")} == before


def test_behaviour_that_no_window_holds_is_said_to_be_missing(journey, run, tmp_path):
    shutil.copy(journey.files[0], tmp_path / "late.nwb")
    with NWBHDF5IO(tmp_path / "late.nwb", "r+") as io:
        nwbfile = io.read()
        lever = TimeSeries(
            name="lever", data=[0.0, 1.0, 0.0], rate=10.0, starting_time=9e4, unit="mm"
        )
        nwbfile.create_processing_module(name="behavior", description="the lever").add(lever)
        io.write(nwbfile)
    said = run.refused(
        "score", journey.model, tmp_path / "late.nwb", "--behavior", "lever", "--all-windows"
    )
    assert "lever" in said
    assert "0 of 8 windows" in said


@pytest.fixture
def open_folder():
    """A folder that every user may enter (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_that_may_not_be_written_is_named_and_the_file_is_as_it_was(
    journey, open_folder, tmp_path, untouched
):
    copy, model = open_folder / "session.nwb", open_folder / "model"
    shutil.copy(journey.files[0], copy)
    shutil.copytree(journey.model, model)
    before = untouched(open_folder)
    open_folder.chmod(0o555)
    command = [sys.executable, "-c", IN_A_CLOSED_FOLDER, model, copy, tmp_path / "elsewhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    open_folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 ")
    assert "nothing was changed" in done.stdout
    assert "(-o)" in done.stdout
    assert untouched(open_folder) == before
    assert sorted(open_folder.iterdir()) == [model, copy]
