"""A folder of simulated recordings and a small model of them, made once by the verbs themselves."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from metadyn.cli import app
from metadyn.config import Config, load_config
from metadyn.pipeline import steps

TINY = {
    "latent_hidden": 4,
    "embedding_hidden": 4,
    "readin_hidden": 4,
    "readin_dim": 3,
    "hidden": (4, 4),
    "hyper_hidden": 4,
}


@pytest.fixture(scope="session")
def tiny() -> Config:
    """A model too small and too briefly trained to be good, which is not what these tests ask."""
    training = {"steps": 3, "distil_steps": 2, "validate_every": 2, "trials_per_session": 3}
    return load_config(model=TINY, training=training, align={"steps": 1})


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny):
    """`files`: three recordings, `model`: a folder that knows the first two."""
    folder = tmp_path_factory.mktemp("world")
    options = {"n_sessions": 3, "units": (6, 8), "n_trials": 8, "n_bins": 40}
    files = steps.simulate("limit-cycle", folder / "raw", **options)
    steps.fit(files[:2], folder / "model", tiny)
    return SimpleNamespace(folder=folder, files=files, model=folder / "model")


@pytest.fixture
def run():
    """run('inspect', path, …) → result with exit_code, stdout and stderr; options may be paths and
    numbers."""

    def invoke(*arguments):
        result = CliRunner(env={"COLUMNS": "250", "NO_COLOR": "1"}).invoke(
            app, [str(each) for each in arguments]
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def file(world, tmp_path) -> Path:
    """A copy of the first recording, to be written to."""
    copy = tmp_path / world.files[0].name
    copy.write_bytes(world.files[0].read_bytes())
    return copy
