import numpy as np
import pytest

from metadyn.data.behavior import bin_behavior
from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError
from metadyn.records import BehaviorSeries, Windows


def series(times, values, name="hand"):
    values = np.asarray(values, dtype=float)
    return {name: BehaviorSeries(name, np.asarray(times, dtype=float), values.reshape(len(values), -1), "m")}


def windows_at(starts, n_bins):
    return Windows(np.asarray(starts, dtype=float), np.asarray(n_bins), 0.02, "trials", np.arange(len(starts)))


def test_values_at_bin_centres_equal_np_interp(make_session):
    rng = np.random.default_rng(0)
    times = np.arange(2000) * 0.0025 + rng.uniform(0, 0.002, 2000)
    values = rng.normal(size=(2000, 3))
    session = make_session([[0.1], [0.2]], behavior=series(times, values))
    binned = bin_behavior(session, windows_at([0.5, 3.01], [20, 30]), "hand")
    centres = 0.5 + (np.arange(20) + 0.5) * 0.02
    for channel in range(3):
        np.testing.assert_allclose(binned[0, :20, channel], np.interp(centres, times, values[:, channel]))
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

    session = read_session(real_data / "maze.nwb", behavior=("hand_velocity", "velocity:hand_position"))
    velocity = bin_spikes(session, behavior="hand_velocity").behavior
    derived = bin_spikes(session, behavior="velocity:hand_position").behavior
    assert velocity.shape == (165, 25, 2)
    assert np.isfinite(velocity).all()
    known = np.isfinite(derived)
    assert known[:, 1:-1].all()  # the samples begin and end within the first and last bin
    assert np.corrcoef(velocity[known], derived[known])[0, 1] > 0.99
