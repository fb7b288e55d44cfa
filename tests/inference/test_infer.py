"""What `infer` gives: what was not observed changes nothing, values are named and measured in units."""

from dataclasses import replace

import numpy as np
import xarray as xr

from metadyn.inference.infer import infer
from metadyn.latent_blocks import LatentBlocks
from metadyn.model.trained import TrainedModel


def test_latents_of_a_trial_do_not_depend_on_the_others_when_pooled_by_trial(trained, counts):
    model, data = trained(pooling="trial"), counts()
    together = infer(model, data)["latent_mean"].values
    for trial in range(data.n_trials):
        n_bins = data.windows.n_bins[trial]
        alone = replace(
            data.select([trial]),
            counts=data.counts[[trial], :n_bins],
            observed=data.observed[[trial], :n_bins],
        )
        np.testing.assert_allclose(
            infer(model, alone)["latent_mean"][0], together[trial, :n_bins], atol=1e-5
        )


def test_what_lies_behind_a_window_or_was_not_observed_is_not_seen(trained, counts):
    model, data = trained(), counts()
    other = replace(
        data, counts=np.where(data.observed[..., None], data.counts, 50).astype(np.uint8)
    )
    assert infer(model, data).identical(infer(model, other))


def test_values_are_nan_behind_a_windows_end_and_nowhere_else(trained, counts):
    data = counts()
    result = infer(trained(), data)
    inside = np.arange(20) < data.windows.n_bins[:, None]
    for name in ("latent_mean", "latent_sd", "rate_mean", "rate_sd"):
        assert (result[name].notnull().values == inside[..., None]).all(), name


def test_the_result_says_what_it_is(trained, counts):
    data = counts()
    result = infer(trained(), data)
    assert {name: variable.dims for name, variable in result.data_vars.items()} == {
        "latent_mean": ("trial", "time", "latent"),
        "latent_sd": ("trial", "time", "latent"),
        "rate_mean": ("trial", "time", "unit"),
        "rate_sd": ("trial", "time", "unit"),
        "embedding_mean": ("trial", "embedding"),
        "embedding_sd": ("trial", "embedding"),
        "trial_embedding_mean": ("trial", "embedding"),
        "session_embedding_mean": ("embedding",),
        "session_embedding_sd": ("embedding",),
        "observed": ("trial", "time"),
    }
    np.testing.assert_allclose(result["time"], (np.arange(20) + 0.5) * 0.05)
    assert result["time"].units == result["start_time"].units == "s"
    assert result["rate_mean"].units == result["rate_sd"].units == "Hz"
    np.testing.assert_array_equal(result["unit"], data.unit_rows)
    np.testing.assert_array_equal(result["start_time"], data.windows.start)
    np.testing.assert_array_equal(result["trial_row"], data.windows.trial_row)
    assert result.attrs == {
        "session": "b", "bin_width": 0.05, "table": "trials", "estimate": "smoothed", "embedding_scope": "session",
    }  # fmt: skip
    assert infer(trained(pooling="trial"), data).embedding_scope == "window"


def lossy(data):
    """Units 1 and 3 lost from the middle of each window on, and some bins of all."""
    entries = np.repeat(data.observed[..., None], data.n_units, -1)
    entries[:, 8:, [1, 3]] = False
    return replace(data, counts=data.counts * entries, unit_observed=entries)


def test_what_stands_in_missing_entries_changes_nothing(trained, counts):
    data = lossy(counts())
    other = replace(data, counts=np.where(data.unit_observed, data.counts, 7).astype(np.uint8))
    silent = replace(data, unit_observed=None)
    one, two, three = (infer(trained(), each) for each in (data, other, silent))
    xr.testing.assert_allclose(one, two)
    assert not np.allclose(one.latent_mean, three.latent_mean, equal_nan=True)


def test_the_result_says_what_was_observed_of_which_unit(trained, counts):
    data = lossy(counts())
    result = infer(trained(), data)
    np.testing.assert_array_equal(result.observed, data.observed)
    np.testing.assert_array_equal(result.unit_observed, data.unit_observed)
    assert (
        result.rate_mean.values[data.observed].min() > 0
    )  # also of lost units: inferred from the others
    assert "unit_observed" not in infer(trained(), counts())


def test_latents_in_blocks_are_labelled_by_them(trained, counts, monkeypatch):
    model, blocks = trained(), LatentBlocks(("M1", "PMd"), (1, 1))
    assert model.config.latent_dim == 2
    np.testing.assert_array_equal(infer(model, counts()).latent, [0, 1])
    monkeypatch.setattr(TrainedModel, "latent_blocks", blocks)
    assert infer(model, counts()).sel(latent="PMd 0").latent_mean.dims == ("trial", "time")
