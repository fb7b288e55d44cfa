import numpy as np
import pytest

from metadyn.data.splits import split_trials
from metadyn.errors import DataError


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
    [(10, (0.5, 0.5, 0.5)), (10, (5, 5, 5)), (2, (0.6, 0.2, 0.2)), (10, (1.2, -0.1, -0.1)), (10, (0.5, 0.5))],
)
def test_parts_that_do_not_fit_are_refused(n_trials, parts):
    with pytest.raises(DataError, match=r"split"):
        split_trials(n_trials, parts)
