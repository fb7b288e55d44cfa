"""What is written can be read back, sample by sample, at the right times."""

import json
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from nwbinspector import inspect_nwbfile
from pynwb import NWBHDF5IO, NWBFile, read_nwb, validate

from metadyn.errors import DataError, WindowError, WriteError
from metadyn.latent_blocks import LatentBlocks
from metadyn.nwb.stored_model import read_model
from metadyn.nwb.write import write_run
from ndx_metadyn import LatentDynamicsModel


@pytest.fixture
def annotated(source, tmp_path, result, made):
    """Path of an annotated copy, with forecast and model."""
    settings = {
        "forecast": made.forecast_of(result, 20, 10),
        "model": made.model_file(),
        "parameters": {"seed": 3},
    }
    return write_run(source, tmp_path / "out.nwb", result, **settings)


def run_of(path, name="LatentDynamics"):
    return read_nwb(path).processing["ecephys"][name]


def test_each_row_refers_to_the_samples_of_its_window(annotated, result, simulated):
    table = run_of(annotated).embeddings
    for row in range(5):
        latents, rates, ahead, rates_ahead = table["timeseries"][row]
        times = simulated.trial_start[row] + (np.arange(30) + 0.5) * 0.02
        np.testing.assert_allclose(latents.timestamps, times, atol=1e-9)
        np.testing.assert_allclose(latents.data, result.latent_mean[row], rtol=1e-6)
        np.testing.assert_allclose(rates.data, result.rate_mean[row], rtol=1e-6)
        np.testing.assert_allclose(ahead.data, result.latent_mean[row, 20:], rtol=1e-6)
        np.testing.assert_allclose(rates_ahead.timestamps, times[20:], atol=1e-9)
        np.testing.assert_allclose(
            table["embedding_mean"][row], result.embedding_mean[row], rtol=1e-6
        )


def test_sd_lies_beside_the_mean_and_forecasts_say_that_they_are(annotated, result):
    run = run_of(annotated)
    np.testing.assert_allclose(
        run.latent_series["LatentSeries"].data_sd[:30], result.latent_sd[0], rtol=1e-6
    )
    assert (
        run.latent_series["LatentSeries"].estimate,
        run.firing_rate_series["FiringRateSeriesForecast"].estimate,
    ) == (
        "smoothed",
        "forecast",
    )


def test_rates_share_the_timestamps_of_the_latents_by_a_link_within_the_file(annotated):
    with h5py.File(annotated) as file:
        link = file["processing/ecephys/LatentDynamics/FiringRateSeries"].get(
            "timestamps", getlink=True
        )
        assert isinstance(link, h5py.SoftLink)
        assert link.path == "/processing/ecephys/LatentDynamics/LatentSeries/timestamps"


def test_data_are_chunked_compressed_float32(annotated):
    with h5py.File(annotated) as file:
        data = file["processing/ecephys/LatentDynamics/FiringRateSeries/data"]
        assert (data.dtype, data.compression, data.chunks) == (np.dtype("f4"), "gzip", (150, 4))


def test_windows_of_unequal_length_store_no_padding(source, tmp_path, simulated, made):
    n_bins = [30, 7, 12, 1, 25]
    given = made.posterior(simulated.trial_start, n_bins, range(4))
    run = run_of(write_run(source, tmp_path / "out.nwb", given))
    assert len(run.latent_series["LatentSeries"].data) == sum(n_bins)
    assert [run.embeddings["timeseries"][row][0].count for row in range(5)] == n_bins


def test_a_forecast_ends_with_its_window(source, tmp_path, simulated, made):
    given = made.posterior(simulated.trial_start, [30, 30, 22, 20, 30], range(4))
    ahead = made.forecast_of(given.fillna(1.0), 20, 10)
    table = run_of(write_run(source, tmp_path / "out.nwb", given, forecast=ahead)).embeddings
    assert [[ref.count for ref in table["timeseries"][row]] for row in (0, 2, 3)] == [
        [30, 30, 10, 10],
        [22, 22, 2, 2],
        [20, 20],
    ]


def test_windows_without_forecast_have_no_samples_of_one_and_the_run_says_so(
    source, tmp_path, simulated, made
):
    given = made.posterior(simulated.trial_start, [30, 30, 12, 1, 30], range(4))
    ahead = made.forecast_of(given.fillna(1.0), 20, 10).isel(trial=[0, 1, 4])
    ahead["context_latent"] = ahead.latent_mean[:, 0]
    path = write_run(source, tmp_path / "out.nwb", given, forecast=ahead)
    run = run_of(path)
    assert [[ref.count for ref in run.embeddings["timeseries"][row]] for row in range(5)] == [
        [30, 30, 10, 10],
        [30, 30, 10, 10],
        [12, 12],
        [1, 1],
        [30, 30, 10, 10],
    ]
    _, _, last, _ = run.embeddings["timeseries"][4]
    np.testing.assert_allclose(last.data, ahead.latent_mean[2], rtol=1e-6)
    np.testing.assert_allclose(
        last.timestamps, simulated.trial_start[4] + (np.arange(20, 30) + 0.5) * 0.02
    )
    assert "2 of 5 windows have no forecast" in run.description
    assert "context_latent" not in run.embeddings.colnames
    assert not list(inspect_nwbfile(nwbfile_path=str(path)))


def test_a_forecast_of_other_windows_is_refused(source, tmp_path, result, made):
    ahead = made.forecast_of(result, 20, 10)
    with pytest.raises(WriteError, match="other windows"):
        write_run(
            source,
            tmp_path / "out.nwb",
            result,
            forecast=ahead.assign_coords(start_time=ahead.start_time + 0.01),
        )


def test_one_window_is_stored_with_a_rate_instead_of_timestamps(source, tmp_path, made):
    given = made.posterior([7.25], [400], range(4), rows=[-1], table="")
    run = run_of(write_run(source, tmp_path / "out.nwb", given))
    for series in (run.latent_series["LatentSeries"], run.firing_rate_series["FiringRateSeries"]):
        assert (series.timestamps, series.starting_time, series.rate) == (None, 7.26, 50.0)
    assert "trial" not in run.embeddings.colnames


@pytest.mark.parametrize("width", [0.02, 0.03])
def test_touching_windows_are_one_regular_series_of_bin_centres(source, tmp_path, made, width):
    """Also where there is no whole number of bins in a second: a rate of 33 Hz would be off by a
    bin after 100."""
    n_bins = np.array([7, 30, 12, 60, 7, 41])
    start = 3.3 + width * (np.cumsum(n_bins) - n_bins)
    given = made.posterior(start, n_bins, range(4), rows=[-1] * 6, table="", bin_width=width)
    run = run_of(write_run(source, tmp_path / "out.nwb", given))
    latents = run.latent_series["LatentSeries"]
    assert latents.timestamps is None
    times = latents.starting_time + np.arange(len(latents.data)) / latents.rate
    np.testing.assert_allclose(times, 3.3 + width * (np.arange(n_bins.sum()) + 0.5), atol=1e-6)
    assert (run.embeddings["stop_time"][:-1] == run.embeddings["start_time"][1:]).all()


def test_touching_windows_off_the_grid_keep_their_own_times(source, tmp_path, made):
    start = np.array([1.0, 1.2013, 1.4013])
    run = run_of(
        write_run(
            source,
            tmp_path / "out.nwb",
            made.posterior(start, [10] * 3, range(4), rows=[-1] * 3, table=""),
        )
    )
    expected = np.concatenate([first + (np.arange(10) + 0.5) * 0.02 for first in start])
    np.testing.assert_allclose(run.latent_series["LatentSeries"].timestamps, expected, atol=1e-12)


def test_times_of_many_hours_keep_their_microseconds(source, tmp_path, made):
    start = 100_000.0 + np.array([0.123456, 10.654321])
    run = run_of(
        write_run(
            source,
            tmp_path / "out.nwb",
            made.posterior(start, [10, 10], range(4), rows=[-1, -1], table=""),
        )
    )
    assert abs(run.latent_series["LatentSeries"].timestamps[10] - (100_010.654321 + 0.01)) < 1e-9


def test_windows_are_written_in_order_of_time_with_their_own_trials(
    source, tmp_path, simulated, made
):
    """Some of the trials, so that a row of theirs is not a row of the result; each lies where its
    trial does."""
    order = [4, 1, 3]
    given = made.posterior(simulated.trial_start[order], [12, 30, 25], range(4), rows=order)
    run = run_of(write_run(source, tmp_path / "out.nwb", given))
    assert (np.diff(run.latent_series["LatentSeries"].timestamps) > 0).all()
    assert list(run.embeddings["trial"].data) == [1, 3, 4]
    np.testing.assert_allclose(
        [trial.start_time.item() for trial in run.embeddings["trial"]],
        run.embeddings["start_time"][:],
    )
    np.testing.assert_allclose(
        run.embeddings["timeseries"][2][0].data, given.latent_mean[0, :12], rtol=1e-6
    )


def test_overlapping_windows_are_refused(source, tmp_path, made):
    with pytest.raises(WindowError, match="1 of 2 windows begin before"):
        write_run(
            source,
            tmp_path / "out.nwb",
            made.posterior([1.0, 1.1], [10, 10], range(4), rows=[0, 1]),
        )
    assert not (tmp_path / "out.nwb").exists()


def test_units_are_rows_of_the_table_in_input_order(source, tmp_path, simulated, made):
    with NWBHDF5IO(source, "r+") as io:
        io.read().units.id.data[:] = [100, 7, 55, 3]
    run = run_of(
        write_run(
            source, tmp_path / "out.nwb", made.posterior(simulated.trial_start, [30] * 5, [3, 1])
        )
    )
    assert (
        list(run.units.data)
        == list(run.firing_rate_series["FiringRateSeries"].units.data)
        == [3, 1]
    )
    assert list(run.units.to_dataframe().index) == [3, 7]


def test_units_beyond_the_table_are_refused(source, tmp_path, made):
    with pytest.raises(WriteError, match="other units"):
        write_run(source, tmp_path / "out.nwb", made.posterior([1.0], [10], [0, 4]))


@pytest.mark.parametrize(
    ("name", "value"), [("latent_mean", np.nan), ("rate_sd", -1.0), ("latent_sd", np.inf)]
)
def test_values_that_mean_nothing_are_refused(source, tmp_path, result, name, value):
    result[name][2, 3, 1] = value
    with pytest.raises(WriteError, match=f"{name}.*\n(.*\n)*.*1 of"):
        write_run(source, tmp_path / "out.nwb", result)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (lambda it: {"posterior": it.transpose("time", "trial", ...)}, "time, trial, latent"),
        (lambda it: {"posterior": it, "forecast": it}, "'smoothed', not 'forecast'"),
    ],
)
def test_what_is_no_estimate_of_its_kind_is_refused(source, tmp_path, result, given, found):
    """By position the one would be written as other times, the other as a forecast."""
    with pytest.raises(DataError, match=found):
        write_run(source, tmp_path / "out.nwb", **given(result))
    assert not (tmp_path / "out.nwb").exists()


def test_a_second_run_needs_a_name_of_its_own_and_shares_the_model(
    annotated, tmp_path, result, made
):
    with pytest.raises(WriteError, match="name='LatentDynamics2'"):
        write_run(annotated, annotated, result)
    write_run(annotated, annotated, result, name="Second", model=made.model_file())
    write_run(annotated, annotated, result, name="Third", model=made.model_file(seed=1))
    module = read_nwb(annotated).processing["ecephys"]
    assert module["Second"].model is module["LatentDynamics"].model
    assert module["Third"].model.name == "LatentDynamicsModel2"
    assert (
        sum(isinstance(each, LatentDynamicsModel) for each in module.data_interfaces.values()) == 2
    )


def test_the_model_comes_back_whole(annotated, made):
    assert read_model(annotated) == made.model_file()
    assert list(run_of(annotated).model.training_assets["uri"][:]) == ["one.nwb", "two.nwb"]


def test_trials_of_nothing_but_numbers_are_referred_to_by_number(tmp_path, made):
    nwbfile = NWBFile("numbers only", "numbers", datetime(2020, 1, 1, tzinfo=UTC))
    for start in (0.0, 1.0, 2.0):
        nwbfile.add_trial(start_time=start, stop_time=start + 0.5)
    for _ in range(2):
        nwbfile.add_unit(spike_times=[0.1, 1.2])
    with NWBHDF5IO(tmp_path / "numbers.nwb", "w") as io:
        io.write(nwbfile)
    target = write_run(
        tmp_path / "numbers.nwb",
        tmp_path / "out.nwb",
        made.posterior([2.0, 1.0], [25, 20], [0, 1], rows=[2, 1]),
    )
    assert list(run_of(target).embeddings["trial_row"].data) == [1, 2]
    said = {message.check_function_name for message in inspect_nwbfile(nwbfile_path=str(target))}
    assert said == {
        message.check_function_name
        for message in inspect_nwbfile(nwbfile_path=str(tmp_path / "numbers.nwb"))
    }


def test_parameters_say_what_was_done_to_what_with_what(annotated):
    run = run_of(annotated)
    told = json.loads(run.parameters)
    assert told["seed"] == 3
    assert told["source"]["units_object_id"] == read_nwb(annotated).units.object_id
    assert run.source_software_version == told["software"]["ndx-metadyn"]
    assert (run.bin_width, run.input_key) == (0.02, "one")


@pytest.mark.parametrize(
    ("lag", "words"),
    [(0.1, "spikes counted 0.1 s earlier"), (-0.04, "spikes counted 0.04 s later")],
)
def test_series_say_when_the_spikes_they_describe_were(source, tmp_path, result, made, lag, words):
    settings = {
        "forecast": made.forecast_of(result, 20, 10),
        "parameters": {"data": {"spike_lag": lag}},
    }
    run = run_of(write_run(source, tmp_path / "lagged.nwb", result, **settings))
    series = [*run.latent_series.values(), *run.firing_rate_series.values()]
    assert [words in each.description for each in series] == [True] * 4


def test_without_a_lag_no_series_speaks_of_one(annotated):
    run = run_of(annotated)
    series = [*run.latent_series.values(), *run.firing_rate_series.values()]
    assert not any("spikes counted" in each.description for each in series)


def test_columns_of_the_latents_are_named_where_they_lie_in_blocks(source, tmp_path, result, made):
    blocks = LatentBlocks(("M1", "PMd"), (1, 1))
    named = result.assign_coords(latent=blocks.labels)
    run = run_of(
        write_run(source, tmp_path / "b.nwb", named, forecast=made.forecast_of(named, 20, 10))
    )
    for latents in run.latent_series.values():
        assert latents.description.endswith(" Columns: M1 0, PMd 0.")
    assert not any("Columns" in rates.description for rates in run.firing_rate_series.values())


def test_columns_of_latents_of_one_block_need_no_names(source, tmp_path, result):
    numbered = result.assign_coords(latent=LatentBlocks.single(2).labels)
    plain, same = (
        run_of(write_run(source, tmp_path / name, each)).latent_series["LatentSeries"].description
        for name, each in (("a.nwb", result), ("c.nwb", numbered))
    )
    assert plain == same


def test_everything_that_was_in_the_source_is_in_the_copy(annotated, source):
    def contents(path):
        found = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: (
                    found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
        return found

    before, after = contents(source), contents(annotated)
    for name in before.keys() - {name for name in before if name.startswith("specifications")}:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_descriptions_say_how_many_samples_rest_on_no_observation(source, tmp_path, result):
    """3 samples of window 1 without any unit, and one unit lost in window 0; the file is valid and
    passes the inspector."""
    trials, bins, units = result.rate_mean.shape
    entries = np.ones((trials, bins, units), bool)
    entries[1, 4:7] = False
    entries[0, 10:, 0] = False
    seen = {
        "observed": (("trial", "time"), entries.any(-1)),
        "unit_observed": (("trial", "time", "unit"), entries),
    }
    path = write_run(source, tmp_path / "out.nwb", result.assign(seen))
    run = run_of(path)
    latents, rates = run.latent_series["LatentSeries"], run.firing_rate_series["FiringRateSeries"]
    total = int(result.n_bins.sum())
    assert f"In 3 of {total} samples no unit was observed" in latents.description
    assert f"In 3 of {total} samples no unit was observed" in rates.description
    assert (
        f"1 of {units} units were not observed in some samples in which others were"
        in rates.description
    )
    assert "units were not observed in some" not in latents.description
    first = result.latent_mean.values[:2].reshape(2 * bins, -1)
    np.testing.assert_allclose(latents.data[: 2 * bins], first, rtol=1e-6)
    assert not list(inspect_nwbfile(nwbfile_path=str(path)))
    assert not validate(path=str(path))
    write_run(source, tmp_path / "plain.nwb", result)
    plain = run_of(tmp_path / "plain.nwb").latent_series["LatentSeries"].description
    assert "observed" not in plain
