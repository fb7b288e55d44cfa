"""What estimates of a session must be to be written: what `infer` and `forecast` return passes, and
each thing that is wrong is named."""

import numpy as np
import pytest
import xarray as xr

from metadyn.errors import DataError
from metadyn.estimates import FORECAST, SMOOTHED, check_estimates, pack_estimates


@pytest.fixture
def smoothed() -> xr.Dataset:
    """Two trials of three bins, one latent, two units."""
    variables = {
        "latent_mean": np.zeros((2, 3, 1)),
        "rate_mean": np.ones((2, 3, 2)),
        "embedding_mean": np.zeros((2, 1)),
    }
    coordinates = {
        "time": np.arange(3) + 0.5,
        "unit": np.arange(2),
        "start_time": np.arange(2) * 3.0,
        "n_bins": np.full(2, 3),
        "trial_row": np.arange(2),
    }
    return pack_estimates(variables, coordinates, {"bin_width": 1.0, "estimate": SMOOTHED})


def test_an_estimate_passes_also_in_part_and_with_what_a_user_added(smoothed):
    check_estimates(smoothed, SMOOTHED)
    check_estimates(smoothed.isel(trial=[1], unit=[0]), SMOOTHED)
    check_estimates(smoothed.assign(speed=("anything", [1.0])), SMOOTHED)
    ahead = smoothed.drop_vars("embedding_mean").assign_attrs(estimate=FORECAST)
    check_estimates(ahead, FORECAST)


def transposed(smoothed):
    return smoothed.assign(latent_mean=smoothed.latent_mean.transpose("time", "trial", "latent"))


def in_kilohertz(smoothed):
    return smoothed.assign(rate_mean=smoothed.rate_mean.assign_attrs(units="kHz"))


@pytest.mark.parametrize(
    ("spoil", "item", "found"),
    [
        (lambda it: it.drop_vars("latent_mean"), "latent_mean", "no latent_mean"),
        (lambda it: it.drop_vars("trial_row"), "trial_row", "no trial_row"),
        (lambda it: it.drop_attrs(deep=False), "bin_width, estimate", "no attribute bin_width; "),
        (transposed, "latent_mean", r"latent_mean \(time, trial, latent\), not \(trial, time, lat"),
        (lambda it: it.isel(trial=0), "n_bins", r"n_bins \(\), not \(trial\)"),
        (in_kilohertz, "rate_mean", "rate_mean in kHz, not in Hz"),
        (lambda it: it.assign_attrs(estimate=FORECAST), "estimate", "'forecast', not 'smoothed'"),
        (lambda it: it.assign_attrs(embedding_scope="unit"), "embedding_scope", "'session' or 'wi"),
    ],
)
def test_what_is_wrong_is_refused_by_name(smoothed, spoil, item, found):
    with pytest.raises(DataError, match=rf"metadyn\.infer returns(?s:.*){found}") as refused:
        check_estimates(spoil(smoothed), SMOOTHED)
    assert item in refused.value.item


def test_arrays_of_other_sizes_are_not_packed(smoothed):
    with pytest.raises(ValueError, match="conflicting sizes for dimension 'trial'"):
        pack_estimates({"rate_mean": np.ones((2, 3, 4)), "latent_mean": np.ones((1, 3, 4))}, {}, {})
