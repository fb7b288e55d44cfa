"""Commands as a person types them, on small simulated recordings and on real ones."""

import hashlib
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import metadyn
from metadyn.cli import app

# A model too small and too briefly trained to be good, which is not what these tests ask.
HASTE = (
    *("--pretrain-steps", "3", "--steps", "4", "--validate-every", "4", "--crop-bins", "20", "20"),
    *(
        "--latent-hidden",
        "4",
        "--embedding-hidden",
        "4",
        "--readin-hidden",
        "8",
        "--hidden",
        "4",
        "4",
    ),
)


def command(*arguments):
    """command('inspect', path, …) → result with exit_code, stdout and stderr; options may be paths
    and numbers."""
    result = CliRunner(env={"COLUMNS": "250", "NO_COLOR": "1"}).invoke(
        app, [str(each) for each in arguments]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def worked(*arguments) -> str:
    """The output of a command that must succeed."""
    result = command(*arguments)
    assert result.exit_code == 0, result.stdout + result.stderr
    return result.stdout


def refused(*arguments, code=1) -> str:
    """What a command says that must fail: a short message, no traceback."""
    result = command(*arguments)
    assert result.exit_code == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture(scope="session")
def run():
    """The commands: run.worked(…) → stdout, run.refused(…, code=1) → stderr, and the options
    `run.haste` for a brief fit."""
    return SimpleNamespace(worked=worked, refused=refused, haste=HASTE)


@pytest.fixture(scope="session")
def journey(tmp_path_factory):
    """`files`: three simulated recordings; `model`: fitted to two of them, `aligned`: to the third
    from 6 trials; `annotated`: the third with model and forecasts of 10 bins after 20, all made by
    the commands."""
    folder = tmp_path_factory.mktemp("journey")
    files = metadyn.simulate(
        "limit-cycle", folder / "raw", n_sessions=3, units=(6, 8), n_trials=8, n_bins=40
    )
    model, aligned = folder / "model", folder / "aligned"
    worked("fit", *files[:2], "-o", model, *HASTE)
    worked("align", model, files[2], "-o", aligned, "--trials", 6, "--steps", 2)
    written = worked(
        "annotate", aligned, files[2], "-o", folder / "annotated", "--context", 20, "--steps", 10
    )
    return SimpleNamespace(
        folder=folder, files=files, model=model, aligned=aligned, annotated=written.strip()
    )


def digests(folder) -> dict[str, str]:
    """sha256 of every NWB file below a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.nwb"))
    }


@pytest.fixture(scope="session")
def untouched():
    """`untouched(folder)` → the sha256 of its NWB files, to be compared before and after."""
    return digests
