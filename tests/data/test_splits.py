import numpy as np
import pytest

from metadyn.data.splits import ENOUGH_TO_TEST, split_trials, split_windows
from metadyn.errors import DataError
from metadyn.records import Windows


@pytest.mark.parametrize("n_trials", [3, 4, 7, 100, 165])
@pytest.mark.parametrize("parts", [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.8, 0.2, 0.0)])
def test_parts_are_disjoint_complete_and_repeatable(n_trials, parts):
    split = split_trials(n_trials, parts, seed=3)
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(n_trials))
    for part, again, share in zip(split, split_trials(n_trials, parts, seed=3), parts, strict=True):
        np.testing.assert_array_equal(part, again)
        assert (len(part) > 0) == (share > 0)
        assert abs(len(part) - share * n_trials) <= 2


def test_counts_are_kept_exactly_and_seeds_differ():
    first, second = (split_trials(100, (80, 8, 12), seed) for seed in (0, 1))
    assert [len(part) for part in first] == [80, 8, 12]
    assert not np.array_equal(first[0], second[0])


@pytest.mark.parametrize(
    ("n_trials", "parts"),
    [
        (10, (0.5, 0.5, 0.5)),
        (10, (5, 5, 5)),
        (2, (0.6, 0.2, 0.2)),
        (10, (1.2, -0.1, -0.1)),
        (10, (0.5, 0.5)),
    ],
)
def test_parts_that_do_not_fit_are_refused(n_trials, parts):
    with pytest.raises(DataError, match=r"split"):
        split_trials(n_trials, parts)


def trials(n_trials, rng):
    """Trials of 20 to 60 bins of 20 ms, some seconds apart, in rows of their table that are no mere
    count."""
    starts = np.cumsum(rng.uniform(2, 4, n_trials))
    return Windows(
        starts, rng.integers(20, 60, n_trials), 0.02, "trials", np.arange(n_trials) * 2 + 1
    )


def continuous(n_windows, stretches=1, table=None):
    """Windows of 13 bins of 30 ms end to end, the last of each stretch shorter; shuffled, as nobody
    promised their order."""
    sizes = [len(each) for each in np.array_split(np.arange(n_windows), stretches)]
    n_bins = np.concatenate([[13] * (size - 1) + [4] for size in sizes])
    start = np.cumsum([0, *n_bins[:-1]]) * 0.03 + np.repeat(np.arange(stretches) * 50.0, sizes)
    row = np.repeat(np.arange(stretches), sizes) if table else np.full(n_windows, -1)
    return Windows(start, n_bins, 0.03, table, row).select(
        np.random.default_rng(0).permutation(n_windows)
    )


def least_distance(windows, some, others):
    """Seconds between the nearest bins of two parts, by a loop over all pairs."""
    pairs = [(windows.select([i]), windows.select([j])) for i in some for j in others]
    return min(max(a.start[0] - b.stop[0], b.start[0] - a.stop[0]) for a, b in pairs)


@pytest.mark.parametrize("n_trials", [2, 3, 7, 19])
def test_of_few_trials_the_split_is_the_one_of_before_and_none_is_kept_for_tests(n_trials):
    split = split_windows(trials(n_trials, np.random.default_rng(0)), 0.15, 0.15, seed=2)
    n_validation = max(1, round(0.15 * n_trials))
    expected = split_trials(n_trials, (n_trials - n_validation, n_validation, 0), seed=2)
    for part, its in zip((split.train, split.validation, split.test), expected, strict=True):
        np.testing.assert_array_equal(part, its)
    assert split.gap == 0


@pytest.mark.parametrize("n_trials", [20, 33, 100])
def test_of_enough_trials_a_third_part_is_kept_aside(n_trials):
    windows = trials(n_trials, np.random.default_rng(0))
    split = split_windows(windows, 0.2, 0.1)
    assert (len(split.validation), len(split.test)) == (
        round(0.2 * n_trials),
        round(0.1 * n_trials),
    )
    np.testing.assert_array_equal(
        np.sort(np.concatenate([split.train, split.validation, split.test])), np.arange(n_trials)
    )
    assert len(split_windows(windows, 0.2, 0.0).test) == 0
    everything = split_windows(windows, 0.0, 0.0)
    np.testing.assert_array_equal(everything.train, np.arange(n_trials))


@pytest.mark.parametrize(("n_windows", "stretches"), [(6, 1), (20, 1), (37, 2), (120, 1), (300, 4)])
@pytest.mark.parametrize("table", [None, "epochs"])
def test_no_bin_of_a_continuous_recording_lies_within_the_gap_of_another_part(
    n_windows, stretches, table
):
    """Without a table, and in a few long rows that were cut into pieces."""
    windows = continuous(n_windows, stretches, table)
    for seed in range(4):
        split = split_windows(windows, 0.15, 0.15, seed)
        parts = [split.train, split.validation, split.test][
            : 3 if n_windows >= ENOUGH_TO_TEST else 2
        ]
        assert split.gap == pytest.approx(13 * 0.03)
        for place, part in enumerate(parts):
            others = np.concatenate([*parts[:place], *parts[place + 1 :]])
            assert least_distance(windows, part, others) > split.gap - 1e-9
        assert len(np.concatenate(parts)) == len(np.unique(np.concatenate(parts)))
        for part in parts[1:]:
            assert 0 < len(part) <= max(1, round(0.15 * n_windows))
        assert len(split.train) >= 0.5 * n_windows - 2


def test_a_short_window_between_validation_and_test_is_no_gap():
    """As where a recording paused: every third window has 2 bins, which is less than the gap."""
    n_bins = np.tile([13, 13, 2], 20)
    windows = Windows(np.cumsum([0, *n_bins[:-1]]) * 0.03, n_bins, 0.03, None, np.full(60, -1))
    for seed in range(8):
        split = split_windows(windows, 0.4, 0.4, seed)
        assert len(split.validation)
        assert least_distance(windows, split.validation, split.test) > split.gap - 1e-9


def test_blocks_of_a_long_recording_lie_early_and_late_and_differ_between_seeds():
    windows = continuous(300)
    splits = [split_windows(windows, 0.15, 0.15, seed) for seed in range(6)]
    for split in splits:
        for part in (split.validation, split.test):
            assert np.ptp(windows.start[part]) > 0.2 * np.ptp(windows.start)
    assert len({tuple(split.test) for split in splits}) > 1


def test_pieces_of_one_of_many_trials_stay_in_one_part():
    rows = np.repeat(np.arange(30), np.arange(30) % 3 + 1)
    windows = Windows(np.arange(len(rows)) * 1.0, np.full(len(rows), 50), 0.02, "trials", rows)
    split = split_windows(windows, 0.2, 0.2)
    parts = [set(rows[part]) for part in (split.train, split.validation, split.test)]
    assert [len(part) for part in parts] == [18, 6, 6]
    assert len(set.union(*parts)) == 30


@pytest.mark.parametrize("n_windows", [2, 3, 5, 21])
@pytest.mark.parametrize("fractions", [(0.9, 0.09), (0.5, 0.4), (0.15, 0.0)])
def test_something_is_left_to_train_on(n_windows, fractions):
    for windows in (continuous(n_windows), trials(n_windows, np.random.default_rng(1))):
        split = split_windows(windows, *fractions)
        assert len(split.train) >= 1
        assert len(split.validation) >= 1
