"""The views hold the file's numbers, under names, in seconds, from a file and from memory alike."""

import numpy as np
import pytest
from pynwb.base import TimeSeriesReference

from ndx_metadyn import DynamicalEmbeddingsTable, LatentSeries
from ndx_metadyn.testing import mock
from ndx_metadyn.views import window_of_bin


def windows(*bounds):
    table = DynamicalEmbeddingsTable(description="d")
    for row, (start, stop) in enumerate(bounds):
        table.add_row(start_time=start, stop_time=stop, embedding_mean=np.full(2, row, np.float32))
    return table


def test_run_has_named_axes_and_units(runs):
    views = runs["LatentDynamics"].to_xarray()
    assert {name: dict(view.sizes) for name, view in views.items()} == {
        "embeddings": {"trial": mock.N_WINDOWS, "embedding": mock.N_EMBEDDING},
        "LatentSeries": {"time": mock.N_WINDOWS * mock.N_BINS, "latent": mock.N_LATENTS},
        "FiringRateSeries": {"time": mock.N_WINDOWS * mock.N_BINS, "unit": mock.N_UNITS},
    }
    rates = views["FiringRateSeries"]
    assert (
        rates.rates.attrs["units"],
        rates.rates_sd.attrs["units"],
        rates.time.attrs["units"],
    ) == ("Hz", "Hz", "s")
    assert views["embeddings"].start_time.attrs["units"] == "s"


def test_bins_are_labelled_with_the_window_that_holds_them(runs):
    run = runs["LatentDynamics"]
    latents, table = run.to_xarray()["LatentSeries"], run.to_xarray()["embeddings"]
    by_time = [
        int(np.flatnonzero((table.start_time < t) & (t < table.stop_time))[0])
        for t in latents.time.values
    ]
    assert latents.trial.values.tolist() == by_time


def test_bins_of_no_window_are_labelled_minus_one():
    latents = mock.mock_LatentSeries()
    table = windows((0.0, 0.5))
    assert set(window_of_bin(table, latents)) == {-1}
    other = mock.mock_LatentSeries("Other")
    assert set(window_of_bin(mock.mock_DynamicalEmbeddingsTable([latents]), other)) == {-1}


def test_only_the_bins_referred_to_are_labelled():
    latents, table = mock.mock_LatentSeries(), DynamicalEmbeddingsTable(description="d")
    for start, stop, first, count in [(0.1, 0.2, 2, 2), (1.0, 1.5, 10, 10)]:
        reference = TimeSeriesReference(first, count, latents)
        table.add_row(
            start_time=start, stop_time=stop, embedding_mean=np.zeros(2), timeseries=[reference]
        )
    expected = [-1, -1, 0, 0, *[-1] * 6, *[1] * 10, *[-1] * 20]
    assert window_of_bin(table, latents).tolist() == expected


def test_views_from_memory_equal_views_from_the_file(runs):
    nwbfile = mock.mock_NWBFile()
    here = mock.mock_LatentDynamics(nwbfile).to_xarray()
    there = runs["LatentDynamics"].to_xarray()
    assert here.keys() == there.keys()
    assert all(here[name].identical(there[name]) for name in here)


def test_regular_series_have_the_times_of_their_rate():
    series = LatentSeries(
        name="x", description="d", data=np.zeros((5, 2)), starting_time=7.5, rate=20.0
    )
    np.testing.assert_allclose(series.to_xarray().time, [7.5, 7.55, 7.6, 7.65, 7.7])


@pytest.mark.filterwarnings("ignore:Timeseries has a rate of 0.0 Hz")
@pytest.mark.parametrize("times", [{"rate": 0.0}, {"rate": 50.0, "starting_time": np.nan}])
def test_series_without_times_say_so(times):
    with pytest.raises(ValueError, match="'x' has no times"):
        LatentSeries(name="x", description="d", data=np.zeros((5, 2)), **times).to_xarray()


def test_conversion_scales_mean_and_sd_and_offset_only_the_mean():
    series = LatentSeries(
        name="x",
        data=np.ones((2, 1)),
        data_sd=np.ones((2, 1)),
        conversion=-2.0,
        offset=5.0,
        rate=1.0,
    )
    view = series.to_xarray()
    assert (view.latents.values.tolist(), view.latents_sd.values.tolist()) == (
        [[3.0], [3.0]],
        [[2.0], [2.0]],
    )


def test_pynapple_holds_the_same_numbers(runs):
    run = runs["LatentDynamics"]
    shown, named = run.to_pynapple(), run.to_xarray()
    np.testing.assert_array_equal(shown["LatentSeries"].values, named["LatentSeries"].latents)
    np.testing.assert_array_equal(shown["FiringRateSeries"].columns, named["FiringRateSeries"].unit)
    np.testing.assert_allclose(shown["LatentSeries"].t, named["LatentSeries"].time)
    np.testing.assert_array_equal(
        np.stack(shown["embeddings"]["embedding_mean"]), named["embeddings"].embedding_mean
    )


def test_restricting_pynapple_latents_to_the_windows_loses_no_bin(runs):
    shown = runs["LatentDynamics"].to_pynapple()
    assert len(shown["LatentSeries"].restrict(shown["embeddings"])) == mock.N_WINDOWS * mock.N_BINS


def test_touching_windows_stay_apart_in_pynapple_without_a_warning():
    shown = windows((0.0, 0.5), (0.5, 1.0), (1.0, 1.5)).to_pynapple()
    assert [row.tolist() for row in shown["embedding_mean"]] == [[0, 0], [1, 1], [2, 2]]
    np.testing.assert_allclose(shown.end, [0.5, 1.0, 1.5], atol=2e-6)


@pytest.mark.parametrize("bounds", [[(0.0, 1.0), (0.5, 1.5)], [(1.0, 2.0), (0.0, 1.0)]])
def test_overlapping_or_unsorted_windows_are_refused_in_pynapple_but_not_in_xarray(bounds):
    table = windows(*bounds)
    with pytest.raises(ValueError, match="rows 0 and 1 overlap or are out of order"):
        table.to_pynapple()
    assert table.to_xarray().start_time.values.tolist() == [start for start, _ in bounds]


def test_rates_are_labelled_with_the_ids_of_their_units_which_are_not_their_rows():
    units = mock.mock_NWBFile().units
    rows = list(range(len(units)))[::-1][: mock.N_UNITS]
    rates = mock.mock_FiringRateSeries(units=units.create_region("units", rows, "In reverse."))
    ids = [units[row].index[0] for row in rows]  # as pynwb's table says it
    assert ids != rows
    assert rates.to_xarray().unit.values.tolist() == ids
    assert list(rates.to_pynapple().columns) == ids
