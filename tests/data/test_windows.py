"""Windows from rows, events and continuous recordings, and what is refused."""

import warnings
from ast import literal_eval

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metadyn.cli.flags import PAIR
from metadyn.data.binning import bin_spikes
from metadyn.data.windows import cut_windows, has_observed_bin, make_windows, observed_bins
from metadyn.errors import MetadynError, WindowError
from metadyn.records import Windows

BUSY = [np.arange(0, 100, 0.01), np.arange(0, 100, 0.01)]


def options_of(remedy: str) -> dict:
    """The keyword arguments that a remedy proposes."""
    return {name: literal_eval(value) for name, value in PAIR.findall(remedy)}


def test_rows_give_as_many_whole_bins_as_fit_before_stop_time(make_session):
    lengths = np.array([0.5, 0.519, 0.52, 0.02, 1.0])
    trials = pd.DataFrame(
        {"start_time": np.arange(5) * 10.0, "stop_time": np.arange(5) * 10 + lengths}
    )
    windows = make_windows(make_session(BUSY, trials))
    assert windows.n_bins.tolist() == [25, 25, 26, 1, 50]
    assert windows.trial_row.tolist() == [0, 1, 2, 3, 4]


def test_events_give_windows_of_n_bins_from_an_offset(make_session, make_trials):
    session = make_session(BUSY, make_trials([1, 3], go_time=[1.2, 3.4]))
    windows = make_windows(session, align="go_time", start=-0.1, n_bins=20)
    np.testing.assert_allclose(windows.start, [1.1, 3.3])
    assert windows.n_bins.tolist() == [20, 20]


def test_unsorted_rows_keep_their_order(make_session, make_trials):
    windows = make_windows(make_session(BUSY, make_trials([5, 1, 3])))
    assert windows.start.tolist() == [5, 1, 3]


def test_rows_without_an_event_are_left_out_with_their_number(make_session, make_trials):
    session = make_session(BUSY, make_trials([1, 3, 5], go_time=[1.2, np.nan, 5.5]))
    with pytest.warns(
        UserWarning, match=r"made.nwb: 1 of 3 rows of trials lack a time \(go_time in 1\)"
    ):
        windows = make_windows(session, align="go_time", n_bins=10)
    assert windows.trial_row.tolist() == [0, 2]


def test_stop_times_that_are_all_nan_name_the_column_and_a_command_that_works(
    make_session, make_trials
):
    trials = make_trials([1, 3, 5], stop_time=np.nan, cue_time=[1.2, 3.2, 5.2])
    session = make_session(BUSY, trials, tables={"other": make_trials([1.0], x_time=[2.0])})
    with pytest.raises(WindowError) as error:
        make_windows(session)
    assert error.value.item == "trials.stop_time"
    assert "cue_time" in error.value.found
    assert "x_time" in error.value.found
    assert error.value.remedy == "align='start_time', n_bins=50"
    assert len(make_windows(session, **options_of(error.value.remedy))) == 3


def test_touching_windows_are_fine_and_overlapping_ones_are_not(make_session, make_trials):
    assert len(make_windows(make_session(BUSY, make_trials(np.arange(20) * 0.1, 0.1)))) == 20
    session = make_session(BUSY, make_trials([0, 1, 1.3, 3]))
    with pytest.raises(WindowError, match="overlap") as error:
        make_windows(session)
    assert "rows 1 and 2" in error.value.found
    assert len(make_windows(session, **options_of(error.value.remedy))) == 4


def test_events_too_close_for_their_windows_name_the_length_that_fits(make_session, make_trials):
    session = make_session(BUSY, make_trials([0, 1, 2], go_time=[0.5, 1.5, 2.0]))
    with pytest.raises(WindowError) as error:
        make_windows(session, align="go_time", n_bins=40)
    again = options_of(error.value.remedy)
    assert again == {"align": "go_time", "n_bins": 20}
    assert len(make_windows(session, **again)) == 3


def test_a_remedy_for_rows_of_another_table_names_that_table(make_session, make_trials):
    session = make_session(
        BUSY, make_trials([50.0]), tables={"stimuli": make_trials([0, 1, 1.3, 3])}
    )
    with pytest.raises(WindowError, match="overlap") as error:
        make_windows(session, intervals="stimuli")
    assert options_of(error.value.remedy) == error.value.options
    assert len(make_windows(session, **error.value.options)) == 4


def test_rows_of_wildly_different_length_are_explained_and_both_remedies_work(make_session):
    starts = np.arange(20) * 2.0
    trials = pd.DataFrame({"start_time": starts, "stop_time": np.r_[starts[1:], starts[-1] + 50]})
    session = make_session(BUSY, trials)
    with pytest.raises(WindowError, match="differ too much") as error:
        make_windows(session)
    first, second = error.value.remedy.split(", or ")
    assert make_windows(session, **options_of(first.split(" (")[0])).n_bins.max() == 100
    assert len(make_windows(session, **options_of(second))) == 20


def test_long_windows_are_cut_into_touching_pieces_that_lose_nothing(make_session):
    whole = Windows(np.array([0.0, 100.0]), np.array([205, 30]), 0.02, "trials", np.array([4, 7]))
    pieces = cut_windows(whole, 100)
    assert pieces.n_bins.tolist() == [100, 100, 5, 30]
    assert pieces.trial_row.tolist() == [4, 4, 4, 7]
    np.testing.assert_allclose(pieces.start, [0, 2, 4, 100])


@pytest.mark.parametrize(("start", "length"), [(200.0, 0.5), (-50.0, 0.5)])
def test_windows_beyond_the_recording_are_left_out_or_refused(
    make_session, make_trials, start, length
):
    with pytest.warns(UserWarning, match="1 of 2 windows"):
        windows = make_windows(make_session(BUSY, make_trials([1.0, start], length)))
    assert windows.trial_row.tolist() == [0]
    with pytest.raises(WindowError, match="nothing was recorded") as error:
        make_windows(make_session(BUSY, make_trials([start], length)))
    assert "99.99" in error.value.found


def test_a_window_that_ends_on_the_first_spike_saw_nothing_of_the_recording(
    make_session, make_trials
):
    """From the first spike to the last: the bin that ends there ends before it, the one that begins
    on the last has it."""
    trials = make_trials([0.5, 1.0, 2.5, 3.0])
    with pytest.warns(UserWarning, match="1 of 4 windows"):
        windows = make_windows(make_session([[1.0, 2.2], [1.5, 3.0]], trials))
    assert windows.trial_row.tolist() == [1, 2, 3]


def test_empty_rows_are_left_out_or_refused(make_session):
    trials = pd.DataFrame({"start_time": [1.0, 2.0, 3.0], "stop_time": [1.5, 2.0, 2.5]})
    with pytest.warns(UserWarning, match="2 of 3 rows of trials are shorter than a bin"):
        assert make_windows(make_session(BUSY, trials)).trial_row.tolist() == [0]
    with pytest.raises(WindowError, match="every window is empty"):
        make_windows(make_session(BUSY, trials[1:].reset_index(drop=True)))


def test_a_recording_without_trials_is_covered_end_to_end(make_session, make_trials):
    spikes = [[1.0, 4.2, 9.0], [2.0]]
    session = make_session(spikes, tables={"epochs": make_trials([0.0], 5.0)})
    windows = make_windows(session, n_bins=100)
    assert windows.table is None
    assert windows.n_bins.tolist() == [100] * 4
    assert set(windows.trial_row) == {-1}
    np.testing.assert_allclose(windows.start, [1, 3, 5, 7])


def test_each_observed_stretch_is_covered_by_itself(make_session):
    session = make_session(BUSY, observed=[[0, 3], [10, 10.5], [20, 20.01]])
    windows = make_windows(session)
    np.testing.assert_allclose(windows.start, [0, 2, 10])
    assert windows.n_bins.tolist() == [100, 50, 25]


def test_minutes_without_a_spike_are_not_taken_for_silence(make_session):
    session = make_session([[0.0, 10.0, 1e9, 1e9 + 4.0], [5.0]])
    with pytest.warns(UserWarning, match="1 stretches of over 60 s"):
        windows = make_windows(session)
    assert len(windows) == 7


@pytest.mark.parametrize(("silence", "stretches"), [(59.0, 1), (61.0, 2), (590.0, 2)])
def test_a_minute_without_any_spike_ends_a_stretch_of_the_recording(
    make_session, silence, stretches
):
    before = np.arange(0.0, 4.5, 0.5)
    session = make_session([np.r_[before, 4.0 + silence + before], [2.0, 3.0]])
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        windows = make_windows(session)
    assert windows.start[0] == 0.0
    assert (len(windows) == 4) == (stretches == 2)  # 2 s each of 4 s, twice
    gaps = np.diff(windows.start) > 2.0 + 1e-9
    assert gaps.sum() == stretches - 1


def test_tables_of_a_task_are_not_silently_passed_over(make_session, make_trials):
    tables = {"ripples": make_trials([1.0]), "encoding": make_trials([1.0, 2.0], accuracy=[1, 0])}
    session = make_session(BUSY, tables=tables)
    with pytest.raises(WindowError, match="no trials") as error:
        make_windows(session)
    assert "encoding (2 rows: start_time, stop_time, accuracy)" in error.value.found
    assert len(make_windows(session, intervals="encoding")) == 2
    assert make_windows(session, intervals="recording").table is None
    del session.intervals["encoding"]
    assert make_windows(session).table is None  # times alone do not make a task


def test_an_unknown_table_or_event_lists_those_there_are(make_session, make_trials):
    session = make_session(BUSY, make_trials([1.0], go_cue_time=[1.1]))
    with pytest.raises(
        WindowError, match="trials \\(1 rows: start_time, stop_time, go_cue_time\\)"
    ) as error:
        make_windows(session, intervals="trails")
    assert error.value.remedy == "intervals='trials'"
    with pytest.raises(WindowError) as error:
        make_windows(session, align="gocue_time", n_bins=5)
    assert error.value.remedy == "align='go_cue_time'"


def test_a_column_of_times_within_each_trial_is_no_event(make_session, make_trials):
    session = make_session(BUSY, make_trials([50.0, 60.0], cue_time=[1.1, 1.2]))
    with pytest.raises(WindowError) as error:
        make_windows(session, align="go_time", n_bins=5)
    assert error.value.found == "event columns: start_time, stop_time"


@pytest.mark.parametrize(
    "options",
    [
        {"n_bins": 20},
        {"start": -0.1},
        {"align": "start_time"},
        {"align": "result", "n_bins": 5},
        {"intervals": "recording", "where": "result == 'R'"},
        {"intervals": "recording", "align": "start_time", "n_bins": 5},
        {"bin_width": 1e-12},
    ],
)
def test_options_that_contradict_each_other_are_refused_with_a_remedy(
    make_session, make_trials, options
):
    with pytest.raises(MetadynError) as error:
        make_windows(make_session(BUSY, make_trials([1.0], result=["R"])), **options)
    assert error.value.remedy


def test_an_absurd_stop_time_is_refused_before_any_bin_is_made(make_session, make_trials):
    trials = make_trials([1.0], 1e9)
    with pytest.raises(WindowError, match="too many bins") as error:
        make_windows(make_session(BUSY, trials), max_bins=100)
    assert "row 0 of trials" in error.value.found
    with pytest.raises(WindowError, match="too many bins"):
        make_windows(make_session(BUSY, observed=[[0, 3e9]]))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_window_has_an_observed_bin_when_its_mask_has_one(seed):
    rng = np.random.default_rng(seed)
    edges = np.unique(np.round(rng.uniform(0, 1, 8), 3))
    observed = edges[: len(edges) // 2 * 2].reshape(-1, 2)
    starts = np.round(rng.uniform(-0.2, 1.2, 12), 3)
    windows = Windows(starts, rng.integers(1, 6, 12), 0.03, None, np.full(12, -1))
    np.testing.assert_array_equal(
        has_observed_bin(observed, windows), observed_bins(observed, windows).any(axis=1)
    )


def test_photostim_trials_explain_themselves_and_run_as_told(real_data):
    from metadyn.nwb.read import read_session

    session = read_session(real_data / "alm_photostim.nwb")
    with pytest.raises(WindowError, match="differ too much"):
        bin_spikes(session)
    for options in ({"align": "start_time", "n_bins": 50}, {"align": "start_time", "n_bins": 100}):
        with pytest.warns(UserWarning, match="3 of 412 windows"):
            assert bin_spikes(session, **options).counts.shape == (409, options["n_bins"], 4)
    with pytest.warns(UserWarning, match="nothing was recorded"):
        assert bin_spikes(session, max_bins=100).counts.shape[1:] == (100, 4)
    with pytest.warns(UserWarning, match="cue_start_time in 70"):
        assert bin_spikes(session, align="cue_start_time", n_bins=50).n_trials == 342
