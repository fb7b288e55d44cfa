"""The ways to count, numpy in blocks and the loop, compiled and not, against np.histogram of every
unit and trial."""

import sys
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metadyn.data import counting
from metadyn.data.binning import count_spikes
from metadyn.data.counting import Spikes, count, fill, kernel
from metadyn.data.ticks import to_ticks
from metadyn.records import Windows

ROADS = ["numpy", "loop", "compiled"]


@contextmanager
def taking(road, block=7):
    """Have `count` take this road: numpy in blocks of so few spikes, the loop in Python, or
    compiled."""
    if road == "compiled":
        pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "SPIKES_AT_ONCE", block)
        patch.setattr(counting, "FEW_SPIKES", 10**12 if road == "numpy" else -1)
        if road == "loop":
            patch.setattr(counting, "kernel", lambda: fill)
        yield


@pytest.fixture(params=ROADS)
def road(request):
    """road(times by unit, windows, observed=all, lag=0 ticks) -> counts."""

    def counts(times, windows, observed=None, lag=0):
        return count(
            ragged(times), windows, every_bin(windows) if observed is None else observed, lag
        )

    with taking(request.param):
        yield counts


def ragged(times) -> Spikes:
    index = np.concatenate([[0], np.cumsum([len(own) for own in times])]).astype(np.int64)
    return Spikes(
        np.concatenate([np.asarray(own, dtype=float) for own in times]), index[:-1], index[1:]
    )


def windows_at(starts, n_bins, width) -> Windows:
    starts = np.asarray(starts, dtype=float)
    return Windows(
        starts,
        np.broadcast_to(n_bins, starts.shape).astype(np.int64),
        width,
        "trials",
        np.arange(len(starts)),
    )


def every_bin(windows):
    return np.arange(windows.n_bins.max()) < windows.n_bins[:, None]


def histograms(times, windows, lag=0):
    """np.histogram for each trial and unit, in whole nanoseconds, without what it counts on its
    closed last edge."""
    counts = np.zeros((len(windows), int(windows.n_bins.max()), len(times)), dtype=int)
    for trial, start in enumerate(to_ticks(windows.start)):
        edges = start + np.arange(windows.n_bins[trial] + 1) * to_ticks(windows.bin_width)
        for unit, own in enumerate(times):
            ticks = to_ticks(own) + lag
            counts[trial, : windows.n_bins[trial], unit] = np.histogram(
                ticks[ticks < edges[-1]], edges
            )[0]
    return counts


def random_case(rng):
    """Ragged units, some empty, on a grid of 1 ms and between; windows that touch or not, in any
    order; a lag."""
    width = float(rng.choice([0.001, 0.005, 0.015, 0.02]))
    n_bins = rng.integers(1, 9, size=rng.integers(1, 7))
    starts = rng.choice([0.0, -3.2, 4321.5]) + np.cumsum(
        n_bins * width + rng.choice([0, 0, 0.003, 0.2], len(n_bins))
    )
    starts -= n_bins * width
    span = starts.min() - 0.1, starts.max() + 0.3
    times = [rng.uniform(*span, rng.integers(0, 60)) for _ in range(rng.integers(1, 6))]
    times = [np.sort(np.round(own, 3) if rng.random() < 0.6 else own) for own in times]
    order = rng.permutation(len(starts))
    return (
        times,
        windows_at(starts[order], n_bins[order], width),
        int(rng.choice([0, 13_000_000, -20_000_000])),
    )


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", ROADS)
def test_every_road_equals_a_histogram_of_each_unit_and_trial(name, seed):
    times, windows, lag = random_case(np.random.default_rng(seed))
    with taking(name):
        counts = count(ragged(times), windows, every_bin(windows), lag)
    np.testing.assert_array_equal(counts, histograms(times, windows, lag))
    assert counts.dtype == np.uint8


def test_spikes_on_edges_belong_to_the_bin_that_they_open(road):
    edges = 0.1 + np.arange(6) * 0.02
    almost = edges - 1e-9
    windows = windows_at([0.1], 5, 0.02)
    assert road([edges, almost], windows)[0].tolist() == [[1, 1]] * 5
    touching = windows_at([0.1, 0.14], 2, 0.02)
    assert road([edges], touching)[..., 0].tolist() == [[1, 1], [1, 1]]


def test_spikes_before_between_and_behind_windows_are_left_out(road):
    windows = windows_at([2.0, 1.0], [3, 2], 0.1)
    assert road([[-5, 0, 0.999], [1.2, 1.5, 1.999], [2.3, 9, 3e9], []], windows).sum() == 0
    assert road([[-3e9, 1.19, 2.299, 3e9]], windows)[..., 0].tolist() == [[0, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("width", [1e-9, 3e-9, 0.007, 1 / 3, 86_400.0])
def test_the_last_and_first_nanoseconds_of_bins_are_told_apart_in_windows_of_days(road, width):
    """In the compiled loop these go through products of doubles."""
    ticks, n_bins = int(to_ticks(width)), 3_000_000 if width < 1 else 6
    far = np.random.default_rng(0).integers(1, n_bins, 50) if width < 1 else np.arange(1, 6)
    inside = np.unique(np.r_[far, n_bins - 1])
    windows = windows_at([0.0], n_bins, width)
    counts = road([inside * ticks / 1e9, (inside * ticks - 1) / 1e9], windows)[0]
    assert np.flatnonzero(counts[:, 0]).tolist() == inside.tolist()
    assert np.flatnonzero(counts[:, 1]).tolist() == (inside - 1).tolist()


def test_one_bin_and_one_spike(road):
    assert road([[0.5]], windows_at([0.5], 1, 1e-9)).tolist() == [[[1]]]
    assert road([[]], windows_at([0.5], 1, 0.02)).tolist() == [[[0]]]


def test_windows_out_of_order_keep_their_rows(road):
    windows = windows_at([3.0, 1.0, 2.0], [1, 3, 2], 0.25)
    counts = road([[1.0, 1.3, 1.6, 2.1, 2.3, 2.4, 3.2]], windows)
    assert counts[..., 0].tolist() == [[1, 0, 0], [1, 1, 1], [1, 2, 0]]


def test_spikes_in_any_order_and_many_at_once_are_all_counted(road):
    rng = np.random.default_rng(3)
    times = [
        np.round(rng.uniform(0, 4, 200), 2),
        np.full(50, 1.5),
        np.r_[9.0, 0.5, 9.0, 2.5, -1.0, 1.5],
    ]
    windows = windows_at([2.0, 0.1, 1.4], [40, 50, 25], 0.02)
    np.testing.assert_array_equal(road(times, windows), histograms(times, windows))


def test_a_spike_that_two_windows_share_by_rounding_is_the_later_ones(road):
    windows = windows_at([1.0, 1.02 - 2e-9, 1.02 - 2e-9], [1, 1, 1], 0.02)
    counts = road([[1.0, 1.02 - 3e-9, 1.02 - 2e-9, 1.02 - 1e-9, 1.02]], windows)
    assert counts[..., 0].tolist() == [[2], [0], [3]]


def test_bins_that_were_not_observed_stay_empty_and_do_not_set_the_type(road):
    windows = windows_at([0.0, 1.0], 2, 0.5)
    times = [np.r_[np.full(300, 0.1), 0.6, 1.1, 1.2]]
    observed = np.array([[False, True], [True, False]])
    counts = road(times, windows, observed)
    assert counts[..., 0].tolist() == [[0, 1], [2, 0]]
    assert counts.dtype == np.uint8


@pytest.mark.parametrize(
    ("many", "dtype"), [(255, "u1"), (256, "u2"), (65_535, "u2"), (65_536, "u4")]
)
def test_a_full_count_widens_and_loses_nothing(road, monkeypatch, many, dtype):
    monkeypatch.setattr(counting, "SPIKES_AT_ONCE", 1000)
    times, windows = (
        [np.r_[0.05, np.full(many - 1, 0.3), 0.31, 0.5], [0.1, 0.31, 0.5]],
        windows_at([0.4, 0.0], [2, 4], 0.1),
    )
    counts = road(times, windows)
    assert counts.dtype == dtype
    assert counts.max() == many
    np.testing.assert_array_equal(counts, histograms(times, windows))


@pytest.mark.parametrize("few", [0, 10**9])
def test_a_choice_of_units_counts_as_all_of_them_do(make_session, monkeypatch, few):
    monkeypatch.setattr(counting, "FEW_SPIKES", few)
    rng = np.random.default_rng(5)
    session = make_session([rng.uniform(0, 5, n) for n in (200, 0, 3, 50)], observed=[[0.3, 4.1]])
    windows = windows_at([1.5, 0.2, 3.4], [40, 50, 30], 0.02)
    every = count_spikes(session, windows, spike_lag=0.013).counts
    rows = np.array([3, 1, 0])
    np.testing.assert_array_equal(
        count_spikes(session, windows, units=rows, spike_lag=0.013).counts, every[:, :, rows]
    )


def test_many_spikes_take_the_compiled_loop_unless_a_window_is_too_long_for_it(monkeypatch):
    taken = []
    monkeypatch.setattr(counting, "kernel", lambda: taken.append(1) or fill)
    monkeypatch.setattr(counting, "FEW_SPIKES", 3)
    days = [windows_at([0.0], 2, width) for width in (0.5, 86_400.0 * 5)]
    for times, windows in (
        ([0.1, 0.2, 0.6], days[0]),
        ([0.1, 0.2, 0.6, 0.7], days[1]),
        ([0.1, 0.2, 0.6, 0.7], days[0]),
    ):
        assert not taken
        assert count(ragged([times]), windows, every_bin(windows), 0).sum() == len(times)
    assert len(taken) == 1


def test_without_numba_numpy_counts(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(counting, "FEW_SPIKES", 0)
    kernel.cache_clear()
    windows = windows_at([0.0], 2, 0.5)
    assert count(ragged([[0.1, 0.2, 0.6]]), windows, every_bin(windows), 0).tolist() == [[[2], [1]]]
    assert kernel() is None
    kernel.cache_clear()


def test_where_nothing_can_be_kept_on_disk_the_loop_is_compiled_for_this_process(monkeypatch):
    numba = pytest.importorskip("numba")
    plain = numba.njit

    def no_folder(*functions, cache=False):
        if cache:
            raise RuntimeError("cannot cache function 'fill': no locator available")
        return plain(*functions)

    monkeypatch.setattr(numba, "njit", no_folder)
    kernel.cache_clear()
    windows = windows_at([0.0], 2, 0.5)
    with taking("compiled"):
        assert count(ragged([[0.1, 0.2, 0.6]]), windows, every_bin(windows), 0).tolist() == [
            [[2], [1]]
        ]
    kernel.cache_clear()


@pytest.mark.parametrize("name", ["numpy", "compiled"])
@pytest.mark.parametrize("most", [9, 400])
def test_memory_is_that_of_the_result_however_long_the_recording(name, most):
    rng = np.random.default_rng(0)
    times = [
        np.sort(np.r_[rng.uniform(0, 1e9, 20_000), np.full(most, 2.5), rng.uniform(0, 100, 3000)])
        for _ in range(50)
    ]
    spikes, windows = ragged(times), windows_at(np.arange(900) * 1e6 + 1, 100, 0.02)
    observed = every_bin(windows)
    with taking(name, counting.SPIKES_AT_ONCE):
        count(ragged([[2.0]]), windows, observed, 0)  # compiled before it is measured
        tracemalloc.start()
        counts = count(spikes, windows, observed, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    blocks = 100 * counting.SPIKES_AT_ONCE if name == "numpy" else 0
    assert counts.dtype == (np.uint8 if most < 256 else np.uint16)
    assert peak <= 1.5 * counts.nbytes + blocks + 1e5
