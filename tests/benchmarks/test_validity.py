"""Lost units and invalid time do to a small fit of real files what benchmarks/validity.py measures
on large ones."""

import numpy as np
import pytest

from benchmarks.validity import Size, invalid_pieces, lost_units, mapped_r2, recording, written
from metadyn.config import load_config
from metadyn.pipeline.inputs import read_counts, single

SMALL = Size(trials=30, bins=50, units=30, training=(("steps", 60), ("pretrain_steps", 100)))


@pytest.mark.filterwarnings("ignore:.*invalid:UserWarning")
def test_noise_in_invalid_time_reaches_no_count_and_leaves_no_bin(tmp_path):
    session, size = recording(SMALL, 0), SMALL
    pieces = invalid_pieces(session, size, 0)
    assert np.diff(pieces).sum() == pytest.approx(
        0.2 * (session.trial_start[-1] - session.trial_start[0]), rel=0.2
    )
    rng = np.random.default_rng(0)

    def noisy(unit, times):
        return np.concatenate([times, *(rng.uniform(*piece, 300) for piece in pieces)])

    noise, clean = (
        read_counts(single(path), load_config(data={}).data)
        for path in (
            written(session, tmp_path / "noise.nwb", spikes=noisy, invalid=pieces),
            written(session, tmp_path / "clean.nwb"),
        )
    )
    same = np.searchsorted(clean.windows.start, noise.windows.start - 1e-6)
    valid = noise.observed
    assert 0.7 < valid.sum() / clean.observed.sum() < 0.85
    np.testing.assert_array_equal(noise.counts, clean.counts[same] * valid[..., None])
    edges = noise.windows.start[:, None] + np.arange(SMALL.bins + 1) * noise.bin_width
    meets = (edges[:, :-1, None] < pieces[:, 1] - 1e-9) & (edges[:, 1:, None] > pieces[:, 0] + 1e-9)
    np.testing.assert_array_equal(valid, ~meets.any(-1))


def test_rates_of_lost_units_are_inferred_from_those_that_stay(tmp_path):
    """A model that took lost units for silent ones would infer rates near zero there: an r² far
    below zero."""
    found = lost_units(tmp_path, SMALL, 0)
    assert found["observed_half"] > 0.5
    assert found["ratio"] > 0.8


def test_the_affine_map_is_the_best_there_is():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((200, 2))
    assert mapped_r2(z @ rng.standard_normal((2, 2)) + 3.0, z) == pytest.approx(1)
    assert abs(mapped_r2(rng.standard_normal((200, 2)), z)) < 0.1
