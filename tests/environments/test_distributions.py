"""Wheel and sdist: the same bytes from any checkout, in order for PyPI, and working on each Python
that we name."""

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pynwb import NWBHDF5IO

from ndx_metadyn.testing.mock import mock_LatentDynamics, mock_NWBFile

ROOT = Path(__file__).parents[2]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
USE = """
import sys
import metadyn, ndx_metadyn
import numpy as np
from pynwb import read_nwb
assert all("site-packages" in package.__file__ for package in (metadyn, ndx_metadyn))
run = read_nwb(sys.argv[1]).processing["ecephys"]["LatentDynamics"]
settings = run.model.settings()["model"]
e, z = np.ones(settings["embedding_dim"]), np.ones(settings["latent_dim"])
print(ndx_metadyn.rollout(run.model, e, z, 5, run.input_key).rates.values.tolist())
"""


def done(*command, **where) -> str:
    """Output of a process that must succeed."""
    ended = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False, **where
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def build(source: Path, output: Path, *options) -> Path:
    done(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, *options, source)
    return output


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """sdist, and the wheel made of it, of a clone of what is committed."""
    folder = tmp_path_factory.mktemp("one")
    done("git", "clone", "--quiet", ROOT, folder / "clone")
    return build(folder / "clone", folder / "dist")


def test_another_clone_elsewhere_and_later_gives_the_same_bytes(built, tmp_path):
    """Its files have other times and other modes; and the wheel is made of the checkout, not of the
    sdist."""
    clone = tmp_path / "elsewhere" / "clone"
    done("git", "clone", "--quiet", ROOT, clone)
    for path in clone.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    assert digests(build(clone, tmp_path / "dist", "--sdist", "--wheel")) == digests(built)
    print(*(f"{digest}  {name}" for name, digest in digests(built).items()), sep="\n")


def test_twine_has_nothing_to_say(built):
    said = done(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built.iterdir())
    assert said.count("PASSED") == 2
    print(said)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """A file with a model, and what its rollout must give."""
    nwbfile = mock_NWBFile()
    mock_LatentDynamics(nwbfile)
    path = tmp_path_factory.mktemp("file") / "annotated.nwb"
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def commands_without_torch() -> list[str]:
    """Requirements of the extra `model` but torch, which is large and not everywhere to be had."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    return [each for each in extras["model"] if not each.startswith("torch")]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_wheel_and_sdist_work_on(version, built, annotated, tmp_path):
    found = sorted(PYENV.glob(f"{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} below {PYENV}; set PYENV_ROOT")
    done(found[-1], "-m", "venv", tmp_path / "venv")
    python, answers = tmp_path / "venv" / "bin" / "python", []
    for pattern in ("*.tar.gz", "*.whl"):
        (distribution,) = built.glob(pattern)
        done(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--force-reinstall",
            "--no-deps",
            distribution,
        )
        done(python, "-m", "pip", "install", "--quiet", distribution, *commands_without_torch())
        answers.append(json.loads(done(python, "-W", "ignore", "-c", USE, annotated, cwd=tmp_path)))
        assert "annotate" in done(tmp_path / "venv" / "bin" / "metadyn", "--help", cwd=tmp_path)
    done(python, "-m", "pip", "check")
    assert answers[0] == answers[1]
    from ndx_metadyn import rollout  # this environment's, as the second road

    with NWBHDF5IO(annotated, "r") as io:
        run = io.read().processing["ecephys"]["LatentDynamics"]
        sizes = run.model.settings()["model"]
        start = [1.0] * sizes["embedding_dim"], [1.0] * sizes["latent_dim"]
        assert answers[0] == pytest.approx(
            rollout(run.model, *start, 5, run.input_key).rates.values
        )
