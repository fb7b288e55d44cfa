"""A small NWB file and made-up results of inference, so that tests of writing need no training."""

import hashlib
import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import xarray as xr

from metadyn.data.synthetic import simulate
from metadyn.nwb.simulate import write_simulated
from metadyn.records import ModelFile, SessionEntry, Source
from ndx_metadyn.testing.mock import mock_settings, mock_tensors


def posterior(
    start,
    n_bins,
    unit_rows,
    *,
    bin_width=0.02,
    rows=None,
    table="trials",
    latents=2,
    embeddings=1,
    seed=0,
):
    """A Dataset as `infer` returns it: NaN in padding; windows as given, in any order."""
    rng = np.random.default_rng(seed)
    start, n_bins = np.asarray(start, float), np.asarray(n_bins, int)
    length, trials = int(n_bins.max(initial=0)), len(start)
    padding = np.arange(length)[None, :] >= n_bins[:, None]

    def values(columns, low):
        made = rng.uniform(low, 5, (trials, length, columns))
        made[padding] = np.nan
        return made

    e = rng.normal(size=embeddings)
    latent, unit = ("trial", "time", "latent"), ("trial", "time", "unit")
    variables = {
        "latent_mean": (latent, values(latents, -5)),
        "latent_sd": (latent, values(latents, 0)),
        "rate_mean": (unit, values(len(unit_rows), 0)),
        "rate_sd": (unit, values(len(unit_rows), 0)),
    }
    variables["embedding_mean"] = (("trial", "embedding"), np.tile(e, (trials, 1)))
    variables["embedding_sd"] = (("trial", "embedding"), np.full((trials, embeddings), 0.1))
    coordinates = {
        "time": (np.arange(length) + 0.5) * bin_width,
        "start_time": ("trial", start),
        "n_bins": ("trial", n_bins),
        "unit": np.asarray(unit_rows),
        "trial_row": ("trial", np.arange(trials) if rows is None else np.asarray(rows)),
    }
    attrs = {
        "session": "one",
        "bin_width": bin_width,
        "table": table,
        "estimate": "smoothed",
        "embedding_scope": "session",
    }
    return xr.Dataset(variables, coordinates, attrs)


def forecast_of(smoothed: xr.Dataset, context: int, steps: int) -> xr.Dataset:
    """A Dataset as `forecast` returns it: the bins after the context, here with the posterior's
    values."""
    ahead = smoothed.isel(time=slice(context, context + steps)).drop_vars(
        ["embedding_mean", "embedding_sd"]
    )
    return ahead.assign_attrs(estimate="forecast", context_bins=context)


def model_file(seed: int = 0, keys=("one", "two"), units=range(4)) -> ModelFile:
    """Random weights of the generative part alone, and settings that fit them; all sessions of the
    same rows of units."""
    rows = tuple(int(row) for row in units)
    settings = mock_settings(n_units=(len(rows),) * len(keys))
    weights = safetensors.numpy.save(mock_tensors(settings, seed))
    entries = tuple(
        SessionEntry(key, len(rows), rows, Source(uri=f"{key}.nwb", identifier=f"id of {key}"))
        for key in keys
    )
    known = [json.loads(json.dumps(asdict(entry))) for entry in entries]
    for each in known:
        each["source"] = {
            name: value for name, value in each["source"].items() if value is not None
        }
    digest = "sha256:" + hashlib.sha256(weights).hexdigest()
    return ModelFile("MetaSSM", {**settings, "sessions": known}, weights, digest, entries)


@pytest.fixture(scope="session")
def made():
    """Makers of results: posterior, forecast_of, model_file."""
    return SimpleNamespace(posterior=posterior, forecast_of=forecast_of, model_file=model_file)


@pytest.fixture(scope="session")
def simulated():
    """A session of 5 trials of 30 bins, 4 units."""
    return simulate("limit-cycle", n_sessions=1, units=(4, 4), n_trials=5, n_bins=30)[0]


@pytest.fixture
def source(tmp_path, simulated):
    """The simulated session as an NWB file."""
    return write_simulated(simulated, tmp_path / "raw")


@pytest.fixture
def result(simulated, made):
    """A posterior for the whole trials of `source`."""
    return made.posterior(simulated.trial_start, [30] * 5, range(4))
