"""What a file says of when its units were observed reaches the counts, entry by entry: compared
with a plain loop over bins."""

from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from hdmf.common import DynamicTableRegion
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError
from metadyn.nwb.read import read_session
from metadyn.pipeline.describe import describe

N_TRIALS, BIN = 5, 0.02
EXPECTED = "invalid_times|obs_intervals|not observed in any window|nothing was recorded"
pytestmark = pytest.mark.filterwarnings(f"ignore:.*({EXPECTED}):UserWarning")


def spikes_of(n_units, seed=0):
    """Spikes of 20 to 40 Hz over 12.5 s, on no bin's edge."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.uniform(0, 12.5, rng.integers(250, 500))) for _ in range(n_units)]


def file_of(spikes, obs_intervals=None, trials=N_TRIALS) -> NWBFile:
    nwbfile = NWBFile("units seen at times", "seen", datetime(2020, 1, 1, tzinfo=UTC))
    for unit, times in enumerate(spikes):
        own = (
            {}
            if obs_intervals is None
            else {"obs_intervals": np.reshape(obs_intervals[unit], (-1, 2)).astype(float)}
        )
        nwbfile.add_unit(spike_times=times, **own)
    for trial in range(trials):
        nwbfile.add_trial(start_time=2.5 * trial, stop_time=2.5 * trial + 1.5 + 0.1 * trial)
    return nwbfile


def entry_by_entry(spikes, valid, counts):
    """Counts and mask (trial, time, unit) of a plain loop; valid(unit, start, stop) says whether
    all of a bin is valid."""
    expected, seen = np.zeros(counts.counts.shape, int), np.zeros(counts.counts.shape, bool)
    for trial, (start, n_bins) in enumerate(
        zip(counts.windows.start, counts.windows.n_bins, strict=True)
    ):
        for time in range(n_bins):
            left = start + time * BIN
            for place, unit in enumerate(counts.unit_rows):
                if valid(unit, left, left + BIN):
                    seen[trial, time, place] = True
                    expected[trial, time, place] = (
                        (spikes[unit] >= left) & (spikes[unit] < left + BIN)
                    ).sum()
    return expected, seen


def inside(intervals):
    """valid(unit, start, stop) by sampling the bin at its hundredths, in whichever of the unit's
    intervals."""

    def valid(unit, start, stop):
        at = start + (stop - start) * (np.arange(100) + 0.5) / 100
        own = np.reshape(intervals[unit], (-1, 2))
        return bool(np.all([((own[:, 0] < t) & (t < own[:, 1])).any() for t in at]))

    return valid


def assert_entries(counts, spikes, valid):
    expected, seen = entry_by_entry(spikes, valid, counts)
    np.testing.assert_array_equal(counts.counts, expected)
    np.testing.assert_array_equal(np.broadcast_to(counts.observed_entries, seen.shape), seen)
    np.testing.assert_array_equal(counts.observed, seen.any(-1))


def test_each_unit_counts_in_its_own_overlapping_unsorted_touching_and_broken_intervals(save):
    spikes = spikes_of(4)
    obs = [
        [[0, 20]],
        [[6, 9], [0.1, 3], [2, 5.05]],  # unsorted, overlapping
        [[3, 4.01], [4.01, 7], [8, 8], [9, np.nan]],  # touching, empty, NaN
        [[5.013, 12.2]],
    ]
    counts = bin_spikes(read_session(save(file_of(spikes, obs))))
    assert counts.unit_observed is not None
    assert_entries(counts, spikes, inside([obs[0], obs[1], obs[2][:2], obs[3]]))


def test_units_observed_alike_need_no_mask_of_entries_however_their_intervals_are_written(save):
    spikes = spikes_of(3)
    obs = [[[0, 4], [5, 11]], [[5, 11], [0, 4]], [[0, 2], [2, 4], [5, 7], [6, 11]]]
    session = read_session(save(file_of(spikes, obs)))
    assert session.unit_observed is None
    counts = bin_spikes(session)
    assert counts.unit_observed is None
    assert_entries(counts, spikes, inside([obs[0]] * 3))


def test_a_choice_of_units_that_were_observed_alike_needs_no_mask_of_entries(save):
    spikes = spikes_of(4)
    obs = [[[0, 20]], [[0, 3]], [[0, 20]], [[0, 20]]]
    nwbfile = file_of(spikes, obs)
    nwbfile.add_unit_column("good", "whether", data=[1, 0, 1, 1])
    counts = bin_spikes(read_session(save(nwbfile)), units="good == 1")
    assert counts.unit_observed is None
    assert counts.unit_rows.tolist() == [0, 2, 3]
    assert_entries(counts, spikes, inside(obs))


def test_invalid_times_alone_take_their_bins_and_leave_all_others(save):
    spikes = spikes_of(3)
    nwbfile = file_of(spikes)
    nwbfile.add_invalid_time_interval(start_time=3.0, stop_time=3.71)
    nwbfile.add_invalid_time_interval(start_time=3.5, stop_time=4.105)
    nwbfile.add_invalid_time_interval(start_time=7.4, stop_time=9.5)
    path = save(nwbfile)
    with pytest.warns(
        UserWarning, match=r"3 invalid_times, 3.205 s, count as not observed for all units"
    ):
        session = read_session(path)
    with pytest.warns(
        UserWarning, match="1 of 5 windows lie where nothing was recorded or all of it is invalid"
    ):
        counts = bin_spikes(session)
    assert counts.windows.trial_row.tolist() == [0, 1, 2, 4]
    assert counts.unit_observed is None
    assert_entries(
        counts, spikes, lambda _, a, b: (b <= 3.0 or a >= 4.105) and (b <= 7.4 or a >= 9.5)
    )


def test_invalid_times_take_from_the_obs_intervals_of_each_unit(save):
    spikes, obs = spikes_of(3), [[[0, 6]], [[0, 20]], [[4, 20]]]
    nwbfile = file_of(spikes, obs)
    nwbfile.add_invalid_time_interval(start_time=5.2, stop_time=5.9)
    counts = bin_spikes(read_session(save(nwbfile)))
    assert_entries(
        counts, spikes, inside([[[0, 5.2], [5.9, 6]], [[0, 5.2], [5.9, 20]], [[4, 5.2], [5.9, 20]]])
    )


def test_an_endless_invalid_time_ends_what_is_counted_and_a_nameless_one_is_told(save):
    spikes = spikes_of(2)
    nwbfile = file_of(spikes)
    nwbfile.add_invalid_time_interval(start_time=5.8, stop_time=np.inf)
    nwbfile.add_invalid_time_interval(start_time=1.0, stop_time=np.nan)
    path = save(nwbfile)
    with pytest.warns(
        UserWarning, match="1 invalid_times that are NaN, empty or reversed are left out"
    ):
        counts = bin_spikes(read_session(path))
    assert counts.windows.trial_row.tolist() == [0, 1, 2]
    assert_entries(counts, spikes, lambda _, a, b: b <= 5.8)


def test_a_whole_recording_is_covered_round_its_invalid_times(save):
    nwbfile = file_of(spikes_of(2), trials=0)
    nwbfile.add_invalid_time_interval(start_time=4.0, stop_time=6.5)
    counts = bin_spikes(read_session(save(nwbfile)), n_bins=50)
    assert counts.observed.sum() == counts.windows.n_bins.sum()
    assert not ((counts.windows.start < 6.5 - 1e-9) & (counts.windows.stop > 4.0 + 1e-9)).any()
    assert 10 - 4 * BIN - 0.2 < counts.windows.n_bins.sum() * BIN < 10


def with_probes(spikes) -> NWBFile:
    """Units of two probes by turns, the raw series of each, and a series of behaviour."""
    nwbfile = file_of([])
    device = {name: nwbfile.create_device(name=name) for name in ("probeA", "probeB")}
    group = {
        name: nwbfile.create_electrode_group(f"shank{name[-1]}", "of it", "M1", device[name])
        for name in device
    }
    for place in range(6):
        nwbfile.add_electrode(group=group["probeA" if place < 3 else "probeB"], location="M1")
    for unit, times in enumerate(spikes):
        nwbfile.add_unit(spike_times=times, electrodes=[3 * (unit % 2) + unit % 3])
    for name, rows in (("rawA", [0, 1, 2]), ("rawB", [3, 4, 5])):
        region = DynamicTableRegion(
            name="electrodes", data=rows, description="all", table=nwbfile.electrodes
        )
        nwbfile.add_acquisition(
            ElectricalSeries(name=name, data=np.zeros((9, 3)), electrodes=region, rate=1.0)
        )
    nwbfile.add_acquisition(TimeSeries(name="eye", data=np.zeros(9), unit="m", rate=1.0))
    return nwbfile


@pytest.mark.parametrize(
    ("tags", "series", "concerned"),
    [
        ((), (), [0, 1, 2, 3, 4]),
        (("all_probes",), (), [0, 1, 2, 3, 4]),
        (("EcephysProbe", "773462985", "probeB"), (), [1, 3]),  # as the Allen Institute writes it
        (("shankA",), (), [0, 2, 4]),
        ((), ("rawA",), [0, 2, 4]),
        ((), ("eye",), []),
        ((), ("eye", "rawB"), [1, 3]),
        (("probeA",), ("rawB",), [1, 3]),
    ],
)
def test_an_invalid_time_concerns_the_units_of_its_series_or_of_the_probes_it_names(
    save, tags, series, concerned
):
    spikes = spikes_of(5)
    nwbfile = with_probes(spikes)
    named = [nwbfile.acquisition[name] for name in series]
    nwbfile.add_invalid_time_interval(start_time=5.5, stop_time=6.0, tags=tags, timeseries=named)
    path = save(nwbfile)
    said = (
        "1 invalid_times of series that no unit"
        if not concerned
        else "1 invalid_times, 0.5 s, count as not observed for "
    )
    if concerned:
        said += "all units" if len(concerned) == 5 else f"{len(concerned)} of 5 units"
    with pytest.warns(UserWarning, match=said):
        counts = bin_spikes(read_session(path))
    assert (counts.unit_observed is None) == (len(concerned) in (0, 5))
    assert_entries(counts, spikes, lambda unit, a, b: unit not in concerned or b <= 5.5 or a >= 6.0)


def test_units_without_intervals_beside_others_are_taken_as_observed_with_them(save):
    spikes, obs = spikes_of(3), [[[0, 6]], [], [[5, 20]]]
    path = save(file_of(spikes, obs))
    with pytest.warns(UserWarning, match="1 of 3 units have no usable obs_intervals"):
        session = read_session(path)
    assert_entries(bin_spikes(session), spikes, inside([obs[0], [[0, 20]], obs[2]]))


def test_a_unit_without_intervals_is_taken_as_observed_in_all_of_those_that_others_have(save):
    spikes, obs = spikes_of(2), [[[0, 4], [7, 20]], []]
    with pytest.warns(UserWarning, match="1 of 2 units have no usable obs_intervals"):
        session = read_session(save(file_of(spikes, obs)))
    assert session.unit_observed is None
    assert session.observed.tolist() == [[0, 4], [7, 20]]
    assert_entries(bin_spikes(session), spikes, inside([obs[0], obs[0]]))


def test_all_time_invalid_is_refused_with_the_table_to_correct(save):
    nwbfile = file_of(spikes_of(2), [[[0, 5]], [[2, 12]]])
    nwbfile.add_invalid_time_interval(start_time=0.0, stop_time=13.0)
    with pytest.raises(DataError, match="no time is left") as error:
        read_session(save(nwbfile))
    assert error.value.item == "/intervals/invalid_times"


@pytest.mark.parametrize(("start", "stop"), [(-5.0, 13.0), (0.0, 1e4), (0.0, np.inf)])
def test_invalid_times_that_cover_every_spike_are_refused_without_obs_intervals_too(
    save, start, stop
):
    nwbfile = file_of(spikes_of(2), None)
    nwbfile.add_invalid_time_interval(start_time=start, stop_time=stop)
    path = save(nwbfile)
    with pytest.raises(DataError, match="no time is left") as error:
        read_session(path)
    assert error.value.item == "/intervals/invalid_times"
    assert any("no time is left" in problem for problem in describe(path).problems), (
        "inspect says so as well"
    )


def stored(path, name, values, index=True):
    """Store a dataset of the units in another shape; without its index if so wanted."""
    with h5py.File(path, "r+") as file:
        attributes = dict(file["units"][name].attrs)
        del file["units"][name]
        made = file["units"].create_dataset(name, data=values)
        for key, value in attributes.items():
            made.attrs[key] = value
        if not index:
            del file["units"][f"{name}_index"]
    return path


def test_obs_intervals_and_spikes_stored_transposed_are_turned(save):
    spikes, obs = spikes_of(2), [[[0, 4], [5, 6]], [[0, 11]]]
    path = save(file_of(spikes, obs))
    stored(path, "obs_intervals", np.concatenate(obs).astype(float).T)
    stored(path, "spike_times", np.concatenate(spikes)[:, None])
    assert_entries(bin_spikes(read_session(path)), spikes, inside(obs))


def test_one_row_of_values_a_unit_is_read_without_an_index(save):
    spikes, obs = [times[:250] for times in spikes_of(2)], [[[0, 4]], [[0, 11]]]
    spikes[0] = spikes[0][:200]
    path = save(file_of(spikes, obs))
    stored(path, "obs_intervals", np.array(obs)[:, 0], index=False)
    stored(path, "spike_times", [np.r_[spikes[0], [np.nan] * 50], spikes[1]], index=False)
    with pytest.warns(UserWarning, match="50 spike times that are NaN"):
        session = read_session(path)
    assert_entries(bin_spikes(session), spikes, inside(obs))


@pytest.mark.parametrize(
    ("name", "shape", "index"),
    [
        ("obs_intervals", (3, 3), True),
        ("obs_intervals", (7, 2), True),
        ("obs_intervals", (2, 3), False),
        ("spike_times", (9, 2), True),
        ("spike_times", (2,), False),
    ],
)
def test_shapes_that_could_mean_several_things_are_refused_by_name_with_what_was_found(
    save, name, shape, index
):
    path = stored(
        save(file_of(spikes_of(2), [[[0, 4], [5, 6]], [[0, 11]]])), name, np.ones(shape), index
    )
    with pytest.raises(DataError, match="not clear") as error:
        read_session(path)
    assert error.value.item == f"/units/{name}"
    assert str(shape) in error.value.found


def test_a_unit_never_observed_in_the_windows_is_left_out_and_told(save):
    spikes, obs = spikes_of(3), [[[0, 20]], [[0, 20]], [[12.0, 12.4]]]
    path = save(file_of(spikes, obs))
    with pytest.warns(UserWarning, match="1 of 3 units were not observed in any window; left out"):
        counts = bin_spikes(read_session(path))
    assert counts.unit_rows.tolist() == [0, 1]
    assert counts.unit_observed is None


def test_rates_are_over_the_bins_in_which_each_unit_was_observed(save):
    regular = np.arange(0.005, 12.5, 0.1)  # 10 Hz
    path = save(
        file_of(
            [regular, regular[:30], np.arange(0.1, 12.5, 1.0)], [[[0, 20]], [[0, 3]], [[0, 20]]]
        )
    )
    counts = bin_spikes(read_session(path), min_rate=5)
    assert counts.unit_rows.tolist() == [0, 1]


def test_a_lag_and_a_limit_of_bins_meet_the_intervals_of_each_unit(save):
    spikes, obs = spikes_of(3), [[[0, 6.013]], [[0, 20]], [[4, 20]]]
    session = read_session(save(file_of(spikes, obs)))
    counts = bin_spikes(session, spike_lag=0.1, max_bins=30)
    assert counts.n_trials > N_TRIALS
    at = inside(obs)
    assert_entries(
        counts, [times + 0.1 for times in spikes], lambda unit, a, b: at(unit, a - 0.1, b - 0.1)
    )


def test_windows_in_which_only_other_units_were_observed_are_left_out(save):
    spikes, obs = spikes_of(3), [[[0, 6]], [[0, 6]], [[0, 20]]]
    nwbfile = file_of(spikes, obs)
    nwbfile.add_unit_column("good", "whether", data=[1, 1, 0])
    session = read_session(save(nwbfile))
    with pytest.warns(UserWarning, match="in 2 of 5 windows none of the 2 units was observed"):
        counts = bin_spikes(session, units="good == 1")
    assert counts.windows.trial_row.tolist() == [0, 1, 2]
