"""The two dandiset layouts of the paper, rebuilt small: their presets take them as they are."""

import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries

from metadyn.config import DataConfig
from metadyn.data.binning import bin_spikes
from metadyn.errors import ConfigError, SelectionError
from metadyn.nwb.read import read_session
from metadyn.pipeline.inputs import preset_options

STARTS = np.arange(6) * 3.0
TIMES = np.arange(0, 20, 0.01)


@pytest.fixture
def perich(new_nwb, add_trials, save):
    """DANDI:000688: a failed trial has no movement onset, some rewarded ones neither."""
    nwbfile = new_nwb(spikes=[np.arange(0, 19, 0.05), np.arange(0, 19, 0.031)])
    add_trials(
        nwbfile,
        STARTS,
        2.5,
        result=["R", "F", "R", "I", "R", "R"],
        target_id=[0.0, np.nan, 3.0, np.nan, 7.0, 1.0],
        target_dir=[0.0, np.nan, 2.3, np.nan, -0.8, 0.8],
        target_on_time=STARTS + 0.3,
        go_cue_time=STARTS + 0.8,
        move_onset_time=np.where([0, 1, 0, 1, 0, 1], np.nan, STARTS + 1.1),
    )
    velocity = TimeSeries(
        name="cursor_vel", data=np.column_stack([TIMES, -TIMES]), timestamps=TIMES, unit="cm/s"
    )
    module = nwbfile.create_processing_module("behavior", "cursor")
    module.add(BehavioralTimeSeries(name="Velocity", time_series=velocity))
    return save(nwbfile)


@pytest.fixture(params=["correct_reach", "task_success", "neither"])
def churchland(request, new_nwb, add_trials, save):
    """DANDI:000070: the column of correct trials goes by two names."""
    correct = (
        {}
        if request.param == "neither"
        else {request.param: np.array([1, 1, 0, 1, 1, 1], dtype=bool)}
    )
    nwbfile = new_nwb(spikes=[np.arange(0, 19, 0.05), np.arange(0, 19, 0.031)])
    add_trials(
        nwbfile,
        STARTS,
        2.5,
        **correct,
        discard_trial=[0, 0, 0, 1, 0, 0],
        trial_version=[3, 1, 2, 2, 1, 3],
        target_presentation_time=STARTS + 0.2,
        go_cue_time=STARTS + 0.8,
        move_begins_time=STARTS + 1.0,
        hit_target_position=np.zeros((6, 2)),
    )
    hand = SpatialSeries(
        name="Hand",
        data=np.column_stack([TIMES**2, -TIMES]),
        timestamps=TIMES,
        reference_frame="screen",
    )
    nwbfile.create_processing_module("behavior", "hand").add(
        Position(name="Position", spatial_series=hand)
    )
    return save(nwbfile), request.param


def run_preset(name, path):
    """As a pipeline does it: the preset looks at the session, then the session is read with the
    behaviour it names."""
    fields = preset_options(name, read_session(path))
    DataConfig(**fields)  # every field is one of the configuration's
    return bin_spikes(read_session(path, behavior=fields["behavior"]), **fields)


def test_perich_trials_are_rewarded_and_aligned_to_movement(perich):
    with pytest.warns(UserWarning, match="1 of 4 rows of trials lack a time"):
        counts = run_preset("perich-co", perich)
    assert counts.windows.trial_row.tolist() == [0, 2, 4]
    assert counts.counts.shape == (3, 36, 2)
    np.testing.assert_allclose(counts.windows.start, STARTS[[0, 2, 4]] + 1.1 - 0.26)
    np.testing.assert_allclose(
        counts.behavior[1, :, 0], 6 + 1.1 - 0.26 + (np.arange(36) + 0.5) * 0.02
    )
    assert counts.condition.tolist() == ["0", "3", "7"]


def test_churchland_trials_are_correct_and_not_discarded_under_either_name(churchland):
    path, column = churchland
    counts = run_preset("churchland-maze", path)
    assert counts.windows.trial_row.tolist() == (
        [0, 1, 2, 4, 5] if column == "neither" else [0, 1, 4, 5]
    )
    np.testing.assert_allclose(counts.windows.start, STARTS[counts.windows.trial_row] + 0.75)
    centres = counts.windows.start[:, None] + (np.arange(35) + 0.5) * 0.02
    np.testing.assert_allclose(counts.behavior[..., 0], 2 * centres, atol=1e-6)
    np.testing.assert_allclose(counts.behavior[..., 1], -1, atol=1e-6)


def test_a_preset_that_does_not_fit_or_exist_says_so(perich):
    with pytest.raises(SelectionError, match="move_begins_time"):
        preset_options("churchland-maze", read_session(perich))
    with pytest.raises(ConfigError) as error:
        preset_options("perich", read_session(perich))
    assert error.value.remedy == "preset='perich-co'"
