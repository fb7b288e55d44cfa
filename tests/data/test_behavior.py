from itertools import pairwise

import numpy as np
import pytest

from metadyn.data.behavior import bin_behavior, interpolate
from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError
from metadyn.records import BehaviorSeries, Windows


def series(times, values, name="hand", **more):
    values = np.asarray(values, dtype=float)
    return {
        name: BehaviorSeries(
            name, np.asarray(times, dtype=float), values.reshape(len(values), -1), "m", **more
        )
    }


def windows_at(starts, n_bins):
    return Windows(
        np.asarray(starts, dtype=float), np.asarray(n_bins), 0.02, "trials", np.arange(len(starts))
    )


def test_values_at_bin_centres_equal_np_interp(make_session):
    rng = np.random.default_rng(0)
    times = np.arange(2000) * 0.0025 + rng.uniform(0, 0.002, 2000)
    values = rng.normal(size=(2000, 3))
    session = make_session([[0.1], [0.2]], behavior=series(times, values))
    binned = bin_behavior(session, windows_at([0.5, 3.01], [20, 30]), "hand")
    centres = 0.5 + (np.arange(20) + 0.5) * 0.02
    for channel in range(3):
        np.testing.assert_allclose(
            binned[0, :20, channel], np.interp(centres, times, values[:, channel])
        )
    assert np.isnan(binned[0, 20:]).all()


def test_there_is_no_behaviour_outside_the_series_or_in_its_gaps(make_session):
    times = np.concatenate([np.arange(1, 2, 0.005), np.arange(3, 4, 0.005)])
    session = make_session([[0.1], [0.2]], behavior=series(times, times))
    binned = bin_behavior(session, windows_at([0.9, 1.9, 3.9], [10, 60, 10]), "hand")[..., 0]
    centres = np.array([0.9, 1.9, 3.9])[:, None] + (np.arange(60) + 0.5) * 0.02
    inside = ((centres >= 1) & (centres <= 1.995)) | ((centres >= 3) & (centres <= 3.995))
    inside &= np.arange(60) < np.array([10, 60, 10])[:, None]
    np.testing.assert_array_equal(np.isfinite(binned), inside)
    np.testing.assert_allclose(binned[inside], centres[inside])


def test_at_its_samples_a_series_is_its_samples_those_beside_a_gap_too(make_session):
    times = np.r_[0.35 + np.arange(12) * 0.02, 1.41 + np.arange(9) * 0.02, 3.03, 3.05]
    values = np.random.default_rng(0).normal(size=(len(times), 2))
    own = series(times, values)["hand"]
    np.testing.assert_allclose(interpolate(own, times), values, atol=1e-6)
    assert np.isnan(interpolate(own, np.array([times[11] + 0.001, times[12] - 0.001, 2.9]))).all()


def test_many_long_gaps_do_not_pass_for_the_sampling_period():
    times = np.concatenate(
        [start + np.arange(4) * 0.01 for start in np.arange(20) * 0.23]
    )  # the mean step is 57 ms
    own = series(times, np.sin(times))["hand"]
    assert np.isnan(interpolate(own, times[3:-1:4] + 0.1)).all()
    assert np.isfinite(interpolate(own, times[:-1:4] + 0.005)).all()


def test_a_channel_that_is_not_known_hides_no_other(make_session):
    rng = np.random.default_rng(1)
    times = 0.2 + np.cumsum(rng.uniform(0.004, 0.006, 700))
    values = rng.normal(size=(700, 3))
    values[100:103, 0] = np.nan  # short enough to be bridged
    values[300:420, 0] = values[::2, 1] = np.nan
    session = make_session(
        [[0.1], [0.2]], behavior=series(times, values) | series(times, values, "velocity:hand")
    )
    windows = windows_at([0.5, 1.13, 2.01], [13, 40, 31])
    binned, velocity = (bin_behavior(session, windows, name) for name in ("hand", "velocity:hand"))
    left = windows.start[:, None] + np.arange(40) * 0.02
    inside = np.arange(40) < windows.n_bins[:, None]
    for channel in range(3):
        known = np.isfinite(values[:, channel])
        own = times[known], values[known, channel]
        lost = (
            (left + 0.02 >= times[299]) & (left <= times[420])
            if channel == 0
            else np.zeros_like(inside)
        )
        apart = (left > times[300]) & (left + 0.02 < times[419]) & (channel == 0)
        np.testing.assert_allclose(
            binned[inside & ~lost, channel], np.interp(left + 0.01, *own)[inside & ~lost]
        )
        steps = (np.interp(left + 0.02, *own) - np.interp(left, *own)) / 0.02
        np.testing.assert_allclose(
            velocity[inside & ~lost, channel], steps[inside & ~lost], atol=1e-9
        )
        for found in (binned, velocity):
            assert np.isnan(found[apart | ~inside, channel]).all()


@pytest.mark.parametrize(
    ("turn", "lowest"), [(2 * np.pi, 0.0), (2 * np.pi, -np.pi), (360.0, 0.0), (360.0, -180.0)]
)
def test_an_angle_goes_the_shorter_way_round(make_session, turn, lowest):
    rng = np.random.default_rng(2)
    times = np.arange(400) / 28.3
    course = np.cumsum(rng.normal(scale=0.1, size=400)) * turn  # right and left, many times round
    stored = lowest + (course - lowest) % turn
    session = make_session([[0.1], [0.2]], behavior=series(times, stored, period=np.array([turn])))
    windows = windows_at([1.07, 5.5], [50, 77])
    binned = bin_behavior(session, windows, "hand")[..., 0]
    for trial in range(2):
        for i in range(windows.n_bins[trial]):
            now = windows.start[trial] + (i + 0.5) * 0.02
            before = max(k for k in range(400) if times[k] <= now)
            share = (now - times[before]) * 28.3
            ends = [np.exp(2j * np.pi * stored[k] / turn) for k in (before, before + 1)]
            expected = ends[0] * np.exp(1j * share * np.angle(ends[1] / ends[0]))
            assert abs(np.exp(2j * np.pi * binned[trial, i] / turn) - expected) < 1e-9
            assert lowest <= binned[trial, i] < lowest + turn


def test_the_velocity_of_an_angle_counts_turns_however_wide_the_bin(make_session):
    times = np.arange(0, 20, 1 / 30)
    place = np.column_stack([360 * (-4.7 * times) % 360, 3 * times])
    hand = series(times, place, "velocity:hand", period=np.array([360.0, np.inf]))
    session = make_session([[0.1], [0.2]], behavior=hand)
    windows = Windows(
        np.array([0.5, 7.25]), np.array([9, 4]), 0.6, "trials", np.arange(2)
    )  # 2.8 turns a bin
    velocity = bin_behavior(session, windows, "velocity:hand")
    np.testing.assert_allclose(velocity[0], np.tile([-4.7 * 360, 3], (9, 1)))
    np.testing.assert_allclose(velocity[1, :4], np.tile([-4.7 * 360, 3], (4, 1)))


def test_an_angle_between_its_samples_stays_in_their_range():
    turn = np.array([2 * np.pi])
    for samples in ([3.0, -2.9], [6.0, 0.2], [0.1, -0.1]):
        own = series([0, 1], samples, period=turn)["hand"]
        found = interpolate(own, np.array([0.25, 0.5, 0.75]))[:, 0]
        step = (samples[1] - samples[0] + np.pi) % (2 * np.pi) - np.pi
        lowest = 0.0 if min(samples) >= 0 else -np.pi
        expected = [samples[0] + share * step for share in (0.25, 0.5, 0.75)]
        np.testing.assert_allclose(
            found, [lowest + (each - lowest) % (2 * np.pi) for each in expected], atol=1e-9
        )


def test_an_angle_that_leaves_the_usual_ranges_stays_in_its_own():
    own = series([0, 1, 2, 3], [5.0, 6.0, 7.0, 5.5], period=np.array([2 * np.pi]))["hand"]
    np.testing.assert_allclose(
        interpolate(own, np.array([0.5, 1.5, 2.0, 2.5]))[:, 0], [5.5, 6.5, 7.0, 6.25]
    )


def test_states_hold_until_the_next_sample_or_give_way_half_way(make_session):
    times = np.array([0.51, 0.9, 1.13, 4.0])
    states = np.array(
        [
            [0, 5, np.nan, np.nan],
            [1, np.nan, np.nan, np.nan],
            [0, 7, 3, np.nan],
            [2, 8, np.nan, np.nan],
        ]
    )
    at = np.arange(0.3, 5, 0.013)
    held = interpolate(series(times, states, between="held")["hand"], at)
    for now, found in zip(at, held, strict=True):
        for channel in range(4):
            before = [
                states[k, channel]
                for k in range(4)
                if times[k] <= now and np.isfinite(states[k, channel])
            ]
            np.testing.assert_equal(found[channel], before[-1] if before else np.nan)
    regular = 0.5 + np.arange(30) * 0.1
    at = np.delete(regular, 12)[:, None] + [0.01, 0.03, 0.06, 0.08]
    nearest = interpolate(series(regular, np.arange(30) % 3, between="nearest")["hand"], at[:-1])[
        ..., 0
    ]
    expected = [
        [min((abs(now - regular[k]), k) for k in range(30))[1] % 3 for now in row]
        for row in at[:-1]
    ]
    np.testing.assert_array_equal(nearest, expected)
    gap = series(np.delete(regular, np.s_[8:20]), np.zeros(18), between="nearest")["hand"]
    assert np.isnan(interpolate(gap, np.array([1.5, 1.8]))).all()


def test_events_are_counted_as_numpy_counts_them_each_in_one_bin(make_session):
    rng = np.random.default_rng(3)
    times = np.sort(
        np.r_[rng.uniform(0, 4, 300), 0.5 + np.arange(50) * 0.02, 1.0, 1.0]
    )  # some on edges, some at once
    kinds = (rng.integers(0, 3, len(times))[:, None] == np.arange(3)).astype(float)
    session = make_session([[0.1], [0.2]], behavior=series(times, kinds, between="events"))
    windows = windows_at([0.5, 2.013, 3.9], [31, 50, 20])
    rates = bin_behavior(session, windows, "hand")
    ticks = np.rint(times * 1e9).astype(int)
    for trial, n_bins in enumerate(windows.n_bins):
        edges = np.rint(windows.start[trial] * 1e9).astype(int) + np.arange(n_bins + 1) * 20_000_000
        for kind in range(3):
            expected = [
                ((ticks >= a) & (ticks < b) & (kinds[:, kind] > 0)).sum()
                for a, b in pairwise(edges)
            ]
            np.testing.assert_allclose(rates[trial, :n_bins, kind] * 0.02, expected)
        assert np.isnan(rates[trial, n_bins:]).all()


@pytest.mark.parametrize("between", ["held", "nearest", "events"])
def test_states_and_events_have_no_velocity(make_session, between):
    session = make_session(
        [[0.1], [0.2]], behavior=series([0, 1, 2], [0, 1, 0], "velocity:hand", between=between)
    )
    with pytest.raises(DataError, match="no velocity") as error:
        bin_behavior(session, windows_at([0.5], [5]), "velocity:hand")
    assert error.value.remedy == "behavior='hand'"


def test_a_decoder_sees_an_angle_as_its_cosine_and_sine_and_the_rest_as_it_is(
    make_session, make_trials
):
    times = np.arange(0, 4, 0.01)
    place = np.column_stack([times, (170 * times) % 360, -times])
    place[100:150, 1] = np.nan
    hand = BehaviorSeries("hand", times, place, "m", period=np.array([np.inf, 360, np.inf]))
    spikes = [np.arange(0, 4, 0.03), np.arange(0, 4, 0.05)]
    velocity = {
        "velocity:hand": BehaviorSeries("velocity:hand", times, place, "m", period=hand.period)
    }
    session = make_session(spikes, make_trials([0.3, 0.9, 2.1]), behavior={"hand": hand} | velocity)
    counts = bin_spikes(session, behavior="hand").select(trials=[2, 1])
    targets, radians = counts.behavior_targets, np.deg2rad(counts.behavior[..., 1])
    assert targets.shape == (2, 25, 4)
    np.testing.assert_allclose(targets[..., :2], counts.behavior[..., [0, 2]])
    np.testing.assert_allclose(targets[..., 2], np.cos(radians))
    np.testing.assert_allclose(targets[..., 3], np.sin(radians))
    assert np.isnan(targets[1, :, 2:]).any()
    assert np.isfinite(targets[..., :2]).all()
    moving = bin_spikes(session, behavior="velocity:hand")
    assert moving.behavior_targets is moving.behavior
    assert bin_spikes(session).behavior_targets is None


def test_velocity_is_the_displacement_over_the_bin(make_session):
    times = np.arange(0, 2, 0.001)
    position = np.column_stack([3 * times, times**2])
    session = make_session([[0.1], [0.2]], behavior=series(times, position, "velocity:hand"))
    velocity = bin_behavior(session, windows_at([0.5], [25]), "velocity:hand")[0]
    centres = 0.5 + (np.arange(25) + 0.5) * 0.02
    np.testing.assert_allclose(velocity, np.column_stack([np.full(25, 3), 2 * centres]), atol=1e-6)


def test_behaviour_that_was_not_read_says_how_to_read_it(make_session, make_trials):
    with pytest.raises(DataError) as error:
        bin_spikes(make_session([[0.1], [0.2]], make_trials([0.0])), behavior="cursor_vel")
    assert error.value.remedy == "read_session(..., behavior=('cursor_vel',))"


def test_maze_velocity_is_the_derivative_of_its_position(real_data):
    from metadyn.nwb.read import read_session

    session = read_session(
        real_data / "maze.nwb", behavior=("hand_velocity", "velocity:hand_position")
    )
    velocity = bin_spikes(session, behavior="hand_velocity").behavior
    derived = bin_spikes(session, behavior="velocity:hand_position").behavior
    assert velocity.shape == (165, 25, 2)
    assert np.isfinite(velocity).all()
    known = np.isfinite(derived)
    assert known[:, 1:-1].all()  # the samples begin and end within the first and last bin
    assert np.corrcoef(velocity[known], derived[known])[0, 1] > 0.99
