"""Imports run one way, and what is heavy is loaded only where it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in a fresh process after a statement."""
    script = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_contracts_of_pyproject_are_kept():
    script = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    "room",
    [
        "model.trained",
        "training.fit",
        "training.alignment.align",
        "inference.infer",
        "inference.scores",
    ],
)
def test_model_training_and_inference_load_no_file_format(room):
    assert not {"pynwb", "hdmf", "h5py", "ndx_metadyn"} & loaded_by(f"import metadyn.{room}")


@pytest.mark.parametrize(
    "module",
    [
        "metadyn.nwb.read",
        "metadyn.nwb.write",
        "metadyn.pipeline.describe",
        "metadyn.pipeline.reading",
        "ndx_metadyn",
    ],
)
def test_reading_and_writing_files_load_no_torch(module):
    assert "torch" not in loaded_by(f"import {module}")


def test_the_package_and_its_commands_load_nothing_heavy():
    heavy = {"torch", "pynwb", "hdmf", "h5py", "scipy", "matplotlib"}
    assert not heavy & loaded_by("import metadyn")
    assert not heavy - {"h5py"} & loaded_by("import metadyn.cli")


def test_the_list_of_commands_is_shown_without_what_a_command_needs():
    script = "from metadyn.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass"
    assert not {"torch", "pynwb", "pydantic", "numpy"} & loaded_by(script)
