"""Counts against plain loops in whole nanoseconds and against np.histogram on the same integers."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metadyn.data.binning import bin_spikes, count_spikes, mean_rates
from metadyn.data.ticks import to_ticks
from metadyn.errors import DataError, MetadynError, SelectionError, WindowError
from metadyn.records import Windows


def whole(seconds):
    return round(float(seconds) * 1e9)


def loop_counts(session, windows, rows, lag=0.0):
    """One spike, one window, one bin at a time."""
    counts = np.zeros((len(windows), int(windows.n_bins.max()), len(rows)), dtype=int)
    width = whole(windows.bin_width)
    for u, row in enumerate(rows):
        for spike in session.spike_times[session.spike_index[row] : session.spike_index[row + 1]]:
            for trial, start in enumerate(windows.start):
                since = whole(spike) + whole(lag) - whole(start)
                if 0 <= since < int(windows.n_bins[trial]) * width:
                    counts[trial, since // width, u] += 1
    return counts


def loop_observed(observed, windows, lag=0.0):
    """A bin counts as observed when one interval holds both its ends."""
    mask = np.zeros((len(windows), int(windows.n_bins.max())), dtype=bool)
    width = whole(windows.bin_width)
    for trial, start in enumerate(windows.start):
        for time in range(int(windows.n_bins[trial])):
            left = whole(start) - whole(lag) + time * width
            inside = observed is None or any(
                whole(a) <= left and left + width <= whole(b) for a, b in observed
            )
            mask[trial, time] = inside
    return mask


def windows_at(starts, n_bins, bin_width):
    starts = np.asarray(starts, dtype=float)
    lengths = np.broadcast_to(np.asarray(n_bins, dtype=np.int64), len(starts)).copy()
    return Windows(starts, lengths, bin_width, "trials", np.arange(len(starts)))


def random_case(rng, offset=0.0):
    """Touching and spaced windows in any order; spikes on a grid of 1 ms, hence often on edges, and
    between."""
    width = rng.choice([0.005, 0.01, 0.015, 0.02, 0.001])
    n_bins = rng.integers(1, 8, size=rng.integers(1, 6))
    gaps = rng.choice([0, 0, 3, 40], size=len(n_bins)) * 0.001
    starts = offset + 0.1 + np.cumsum(n_bins * width + gaps) - n_bins * width
    order = rng.permutation(len(starts))
    end = starts[-1] + 0.2
    spikes = [np.round(rng.uniform(offset, end, rng.integers(0, 40)), 3) for _ in range(3)]
    spikes.append(rng.uniform(offset, end, 30))
    return spikes, windows_at(starts[order], n_bins[order], float(width))


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lag=st.sampled_from([0.0, 0.013, -0.02]),
    offset=st.sampled_from([0.0, 4321.5, -7.25]),
)
def test_counts_and_observed_equal_a_plain_loop(make_session, seed, lag, offset):
    rng = np.random.default_rng(seed)
    spikes, windows = random_case(rng, offset)
    edges = np.sort(np.round(rng.uniform(offset, offset + 0.8, 6), 3)).reshape(3, 2)
    observed = None if rng.random() < 0.4 else edges[edges[:, 1] > edges[:, 0]]
    session = make_session(spikes, observed=observed)
    counts = count_spikes(session, windows, spike_lag=lag)
    mask = loop_observed(observed, windows, lag)
    np.testing.assert_array_equal(counts.observed, mask)
    np.testing.assert_array_equal(
        counts.counts, loop_counts(session, windows, range(4), lag) * mask[..., None]
    )


def test_counts_equal_a_histogram_of_the_same_nanoseconds(make_session):
    rng = np.random.default_rng(0)
    spikes = [rng.uniform(0, 11, 4000), np.round(rng.uniform(0, 11, 4000), 2)]
    windows = windows_at([0.0, 2.5, 5.0, 7.53], 125, 0.02)
    counts = count_spikes(make_session(spikes), windows)
    for trial, start in enumerate(to_ticks(windows.start)):
        edges = start + np.arange(126) * to_ticks(0.02)
        for unit, times in enumerate(spikes):
            inside = to_ticks(times)[
                to_ticks(times) < edges[-1]
            ]  # np.histogram closes its last bin, ours are half-open
            np.testing.assert_array_equal(
                counts.counts[trial, :, unit], np.histogram(inside, edges)[0]
            )


def test_touching_windows_count_every_spike_once_also_on_their_edges(make_session):
    spikes = [np.arange(0, 1000) * 0.005, np.arange(0, 1000) * 0.015 / 3]
    windows = windows_at(np.arange(50) * 0.1, 20, 0.005)
    counts = count_spikes(make_session(spikes), windows).counts
    assert counts.sum() == 2000
    np.testing.assert_array_equal(counts, 1)


@pytest.mark.parametrize("bin_width", [0.005, 0.015, 0.02, 0.1])
def test_multiples_of_five_milliseconds_lose_no_bin_to_float_arithmetic(
    make_session, make_trials, bin_width
):
    starts = np.arange(200) * 0.3
    session = make_session(
        [starts + 0.001, starts + 0.1], make_trials(starts, 0.3), observed=[[0, 60]]
    )
    counts = bin_spikes(session, bin_width=bin_width)
    assert set(counts.windows.n_bins) == {round(0.3 / bin_width)}
    assert counts.counts.sum() == 400
    assert counts.observed.all()


def test_times_of_a_billion_seconds_cost_no_more_memory_than_others(make_session, make_trials):
    starts = np.array([1.0, 1e9])
    session = make_session([[1.1, 1e9 + 0.25], [1.3, 1.31, 1e9 + 0.125]], make_trials(starts))
    tracemalloc.start()
    counts = bin_spikes(session, bin_width=0.02, min_rate=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts.counts.sum(axis=1).tolist() == [[1, 2], [1, 1]]
    assert peak < 5e6


def test_pieces_of_a_window_at_a_billion_seconds_lose_and_double_no_spike(
    make_session, make_trials
):
    spikes = 1e9 + np.arange(1, 1001) * 0.0099
    session = make_session([spikes, spikes], make_trials([1e9], 10.0), observed=[[0, 2e9]])
    counts = bin_spikes(session, bin_width=0.003, max_bins=7)
    assert counts.n_trials > 400
    assert counts.counts.sum(axis=(0, 1)).tolist() == [1000, 1000]


def test_counts_take_the_smallest_type_that_holds_them(make_session):
    windows = windows_at([0.0], 2, 0.5)
    kinds = [
        count_spikes(make_session([np.full(many, 0.1), [0.6]]), windows).counts
        for many in (255, 256, 70_000)
    ]
    assert [counts.dtype for counts in kinds] == [np.uint8, np.uint16, np.uint32]
    assert [counts[0, 0, 0] for counts in kinds] == [255, 256, 70_000]


def test_overlapping_windows_are_refused_rather_than_counted_once(make_session):
    with pytest.raises(WindowError, match="overlap"):
        count_spikes(make_session([[0.1]]), windows_at([0.0, 0.05], 5, 0.02))


def test_units_without_spikes_and_a_choice_of_units_keep_their_rows(make_session):
    session = make_session([[0.1], [], [0.1, 0.3], [0.3]])
    counts = count_spikes(session, windows_at([0.0], 2, 0.2), units=np.array([3, 1, 2]))
    assert counts.unit_rows.tolist() == [3, 1, 2]
    assert counts.counts[0].tolist() == [[0, 0, 1], [1, 0, 1]]


def test_unobserved_bins_hold_no_spikes_and_do_not_lower_rates(make_session, make_trials):
    session = make_session(
        [[0.1, 0.4, 0.9], [0.3, 0.95]], make_trials([0.0], 1.0), observed=[[0, 0.5]]
    )
    counts = bin_spikes(session, bin_width=0.1)
    assert counts.observed[0].tolist() == [True] * 5 + [False] * 5
    assert counts.counts[0, 5:].sum() == 0
    np.testing.assert_allclose(mean_rates(counts), [4.0, 2.0])


def test_quiet_units_are_left_out_by_their_rate_in_the_windows(make_session, make_trials):
    session = make_session(
        [[0.1, 0.2, 0.3], [0.1, 5, 6, 7, 8, 9], [0.2, 0.4]], make_trials([0.0], 1.0)
    )
    assert bin_spikes(session, min_rate=2).unit_rows.tolist() == [0, 2]


def test_units_are_kept_by_an_expression_on_their_columns(make_session, make_trials):
    columns = {"quality": ["good", "mua", "good"], "depth": [1.0, 2.0, 3.0]}
    session = make_session([[0.1], [0.2], [0.3]], make_trials([0.0]), units=columns)
    assert bin_spikes(session, units="quality == 'good'").unit_rows.tolist() == [0, 2]
    with pytest.raises(SelectionError, match="columns: quality, depth"):
        bin_spikes(session, units="qualty == 'good'")


@pytest.mark.parametrize("spikes", [[[0.1, 0.2]], [[0.1, 0.2], [0.9]]])
def test_a_model_of_one_unit_is_refused_with_the_rates_found(make_session, make_trials, spikes):
    with pytest.raises(DataError, match="two units at least") as error:
        bin_spikes(make_session(spikes, make_trials([0.0])), min_rate=1)
    assert f"1 of {len(spikes)}" in error.value.found
    assert "4" in error.value.found


def test_no_unit_above_the_minimum_rate_says_which_option_to_change(make_session, make_trials):
    with pytest.raises(DataError) as error:
        bin_spikes(make_session([[0.1], [0.2], [0.3]], make_trials([0.0])), min_rate=50)
    assert error.value.remedy.startswith("`min_rate=0`")
    assert "0 of 3" in error.value.found


def test_condition_labels_are_strings_of_each_windows_row(make_session, make_trials):
    trials = make_trials([0, 1, 2], target=[3, 1, 3], result=["R", "F", "R"])
    session = make_session([[0.1, 1.1, 2.1], [0.2, 1.2, 2.6]], trials)
    counts = bin_spikes(session, where="result == 'R'", condition="target", max_bins=10)
    assert counts.condition.tolist() == ["3"] * 6
    assert counts.windows.trial_row.tolist() == [0, 0, 0, 2, 2, 2]
    with pytest.raises(SelectionError, match="did you mean 'target'"):
        bin_spikes(session, condition="targt")


def test_windows_too_large_to_pad_say_so_before_memory_is_asked_for(make_session, make_trials):
    trials = make_trials(np.arange(2000) * 1e4, 0.5)
    trials.loc[1999, "stop_time"] = trials.start_time[1999] + 5e5
    session = make_session([[1.0, 1e9], [2.0, 1e9]], trials)
    with pytest.raises(WindowError, match="max_bins=100"):
        count_spikes(
            session, windows_at(trials.start_time, np.r_[np.full(1999, 25), 10_000_000], 0.02)
        )


def test_real_maze_counts_equal_a_loop_over_whole_nanoseconds(real_data):
    from metadyn.nwb.read import read_session

    session = read_session(real_data / "maze.nwb")
    counts = bin_spikes(session, min_rate=0, bin_width=0.015)
    assert counts.counts.shape == (165, 33, 162)
    spikes = to_ticks(session.spike_times)
    for trial in (0, 80, 164):
        start = whole(session.intervals["trials"].start_time[trial])
        for unit in range(0, 162, 9):
            own = spikes[session.spike_index[unit] : session.spike_index[unit + 1]]
            expected = [
                sum(start + k * 15_000_000 <= s < start + (k + 1) * 15_000_000 for s in own)
                for k in range(33)
            ]
            assert counts.counts[trial, :, unit].tolist() == expected


def test_all_errors_name_the_file(make_session, make_trials):
    session = make_session([[0.1], [0.2]], make_trials([0.0]))
    for options in (
        {"min_rate": 99},
        {"intervals": "none"},
        {"align": "go"},
        {"where": "x"},
        {"behavior": "hand"},
    ):
        with pytest.raises(MetadynError) as error:
            bin_spikes(session, **options)
        assert error.value.file == "made.nwb", options
        assert error.value.remedy, options
