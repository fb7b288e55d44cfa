"""Event columns that count from elsewhere, or in other units: refused, with an option that puts
windows where they belong."""

from ast import literal_eval

import numpy as np
import pytest

from metadyn.cli.flags import PAIR
from metadyn.data.binning import bin_spikes
from metadyn.data.events import event_columns, misplaced_columns, share_inside
from metadyn.data.windows import make_windows
from metadyn.errors import WindowError

BUSY = [np.arange(0.003, 120, 0.01), np.arange(0.004, 120, 0.013)]
STARTS = np.array([2.0, 5.5, 9.5, 12.0, 20.0, 26.5, 31.0, 40.0, 47.0])
CUES = STARTS + np.array(
    [0.31, 0.52, 0.4, 0.75, 0.66, 0.35, 0.8, 0.44, 0.5]
)  # where they really are
STORED = {
    "from the start of each row": CUES - STARTS,
    "in ms from the start of each row": 1000 * (CUES - STARTS),
    "in ms on the clock": 1000 * CUES,
    "in microseconds on the clock": 1e6 * CUES,
    "in samples of 30 kHz": np.rint(30_000 * CUES).astype(np.int64),
    "in samples of 24.4 kHz": np.rint(24_414.0625 * CUES),
}


def options_of(remedy: str) -> dict:
    """The keyword arguments that a remedy proposes."""
    return {name: literal_eval(value) for name, value in PAIR.findall(remedy)}


@pytest.mark.parametrize("unit", STORED)
@pytest.mark.parametrize("column", ["cue_time", "cue on"])
def test_what_the_remedy_says_puts_windows_round_the_true_events(
    make_session, make_trials, unit, column
):
    trials = make_trials(STARTS, 1.5, **{column: STORED[unit]})
    session = make_session(BUSY, tables={"blocks": trials})
    with pytest.raises(WindowError, match="lie outside of their rows") as error:
        make_windows(session, intervals="blocks", align=column, start=-0.2, n_bins=30)
    options = options_of(error.value.remedy.split(" (")[0])
    assert options == error.value.options
    windows = make_windows(session, **options)
    np.testing.assert_allclose(windows.start, CUES - 0.2, atol=1e-4)
    assert set(windows.n_bins) == {30}


def test_they_are_taken_as_they_are_by_the_other_option(make_session, make_trials):
    session = make_session(BUSY, make_trials(STARTS, 1.5, light_time=90 + 3.0 * np.arange(9)))
    with pytest.raises(WindowError, match="lie outside") as error:
        make_windows(session, align="light_time", n_bins=20)
    again = options_of(error.value.remedy.partition("(or ")[2].split(",")[0])
    np.testing.assert_allclose(
        make_windows(session, **again, n_bins=20).start, 90 + 3.0 * np.arange(9)
    )


def test_rows_that_are_kept_decide_and_missing_events_stay_missing(make_session, make_trials):
    cues = np.where(np.arange(9) % 3 == 1, np.nan, CUES - STARTS)
    session = make_session(BUSY, make_trials(STARTS, 1.5, cue_time=cues, good=np.arange(9) > 2))
    with pytest.warns(UserWarning, match="2 of 6 rows of trials lack a time"):
        windows = make_windows(session, align="start_time + cue_time", n_bins=20, where="good")
    np.testing.assert_allclose(windows.start, CUES[[3, 5, 6, 8]])


def test_events_before_or_after_their_rows_are_no_error(make_session, make_trials):
    trials = make_trials(STARTS, 1.5, fixation_time=STARTS - 0.4, reward_time=STARTS + 1.9)
    session = make_session(BUSY, trials)
    for column in ("fixation_time", "reward_time"):
        np.testing.assert_allclose(
            make_windows(session, align=column, n_bins=10).start, trials[column]
        )
    assert event_columns(trials) == ["start_time", "stop_time", "fixation_time", "reward_time"]
    assert misplaced_columns(trials) == {}


def test_events_that_nothing_explains_are_used_as_they_are_and_said(make_session, make_trials):
    elsewhere = 9000 + 3.0 * np.arange(9)[::-1]
    session = make_session([np.arange(9100.0)] * 2, make_trials(STARTS, 1.5, light_time=elsewhere))
    with pytest.warns(
        UserWarning, match=r"most events lie outside of their rows: light_time from 9000 to 9024"
    ):
        windows = make_windows(session, align="light_time", n_bins=10)
    np.testing.assert_allclose(windows.start, elsewhere)


def test_lengths_and_numbers_that_only_look_like_times_are_not_proposed(make_trials):
    reaction = CUES - STARTS
    trials = make_trials(
        STARTS,
        1.5,
        reaction_time=reaction,
        trial_duration_time=reaction,
        speed=reaction,
        onset=CUES,
        n=range(9),
    )
    assert misplaced_columns(trials) == {}
    assert event_columns(trials) == ["start_time", "stop_time", "onset"]


def test_rows_in_any_order_without_stop_have_their_neighbours_in_time(make_trials):
    order = np.array([4, 0, 8, 2, 6, 1, 7, 3, 5])
    trials = make_trials(STARTS[order], np.nan)
    assert share_inside(trials, CUES[order]) == 1
    assert share_inside(trials, (CUES - STARTS)[order]) < 0.3


@pytest.mark.parametrize(
    "align",
    [
        "start_time + nothing",
        "cue_time + result",
        "cue_time < 3",
        "abs(cue_time)",
        "cue_time +",
        "3 + 4",
        "cue_time ** 2",
    ],
)
def test_other_than_arithmetic_on_columns_of_numbers_is_refused(make_session, make_trials, align):
    session = make_session(BUSY, make_trials(STARTS, 1.5, cue_time=CUES, result=["R"] * 9))
    with pytest.raises(WindowError, match=r"no event column|holds no times") as error:
        make_windows(session, align=align, n_bins=10)
    assert error.value.remedy.startswith("align=")


def test_a_division_by_zero_is_a_missing_event(make_session, make_trials):
    session = make_session(BUSY, make_trials(STARTS, 1.5, cue_time=CUES, scale=[1.0] * 8 + [0.0]))
    with pytest.warns(UserWarning, match="1 of 9 rows of trials lack a time"):
        counts = bin_spikes(session, align="cue_time / scale", n_bins=10)
    assert counts.windows.trial_row.tolist() == list(range(8))


def test_a_real_file_says_its_events_count_from_the_rows_start(real_data):
    from metadyn.nwb.read import read_session

    with pytest.warns(UserWarning, match="not in order"):
        session = read_session(real_data / "alm_nan_stop_times.nwb")
    with pytest.raises(WindowError, match="lie outside of their rows") as error:
        make_windows(session, align="cue_start_time", n_bins=50)
    assert error.value.options == {"align": "start_time + cue_start_time", "n_bins": 50}
