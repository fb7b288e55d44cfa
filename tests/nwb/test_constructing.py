"""Series that pynwb cannot make cost that series, not the units and trials beside it."""

import warnings

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.behavior import Position, SpatialSeries

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError
from metadyn.nwb.constructing import read_objects, refused_series
from metadyn.nwb.read import read_session
from metadyn.pipeline.describe import describe

TIMES = np.arange(300) * 0.01


@pytest.fixture
def damaged(new_nwb, add_trials, save):
    """A file with two series of their own and one that takes its times from the first; `edit` gets
    the module's group."""

    def make(edit):
        nwbfile = add_trials(
            new_nwb(spikes=[np.arange(0, 3, 0.1), np.arange(0, 3, 0.07)]),
            [0.0, 0.7, 1.9],
            length=0.6,
        )
        module = nwbfile.create_processing_module("behavior", "what the animal did")
        speed = TimeSeries(name="speed", data=3 * TIMES, timestamps=TIMES, unit="m/s")
        module.add(speed)
        module.add(TimeSeries(name="pupil", data=5 * TIMES, timestamps=speed, unit="mm"))
        hand = SpatialSeries(
            name="hand", data=np.column_stack([TIMES, -TIMES]), rate=100.0, reference_frame="screen"
        )
        module.add(Position(name="Position", spatial_series=hand))
        path = save(nwbfile)
        with h5py.File(path, "r+") as file:
            edit(file["processing/behavior"])
        return path

    return make


def stored_as(times):
    """Replace the timestamps of `speed`."""

    def edit(module):
        attributes = dict(module["speed/timestamps"].attrs)
        del module["speed/timestamps"]
        module["speed"].create_dataset("timestamps", data=times).attrs.update(attributes)

    return edit


def without(name):
    return lambda module: module.__delitem__(name)


@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_timestamps_in_a_column_or_a_row_are_those_of_one_dimension(damaged, shape):
    path = damaged(stored_as(TIMES.reshape(shape)))
    for name, slope in (("speed", 3), ("pupil", 5)):
        series = read_session(path, behavior=name).behavior[name]
        np.testing.assert_array_equal(series.times, TIMES)
        np.testing.assert_array_equal(series.values[:, 0], slope * TIMES)
    assert not any("cannot be read" in problem for problem in describe(path).problems)


@pytest.mark.parametrize(
    ("edit", "lost", "why"),
    [
        (stored_as(np.stack([TIMES, TIMES + 0.01])), ["speed", "pupil"], "(2, 300)"),
        (without("speed/timestamps"), ["speed", "pupil"], "timestamps"),
        (without("Position/hand/starting_time"), ["hand"], "rate"),
        (
            lambda module: module["speed/data"].attrs.__setitem__("conversion", [1.0, 2.0]),
            ["speed", "pupil"],
            "conversion",
        ),
    ],
)
def test_a_series_that_cannot_be_made_leaves_units_trials_and_other_series(
    damaged, edit, lost, why
):
    whole = bin_spikes(read_session(damaged(lambda module: None)))
    path = damaged(edit)
    np.testing.assert_array_equal(bin_spikes(read_session(path)).counts, whole.counts)
    described = describe(path)
    assert described.next_commands
    names = {series.path.rsplit("/", 1)[-1] for series in described.behavior}
    assert names == {"speed", "pupil", "hand"} - set(lost)
    for name in lost:
        assert any(name in problem.split(" ")[0] for problem in described.problems)
        with pytest.raises(DataError, match="cannot be read") as error:
            read_session(path, behavior=name)
        assert error.value.item.endswith("/" + name)
    assert any(why in problem for problem in described.problems)
    for name in names:
        assert np.isfinite(read_session(path, behavior=name).behavior[name].values).all()


def test_a_file_that_lacks_a_series_can_be_added_to(damaged):
    path = damaged(stored_as(np.stack([TIMES, TIMES])))
    with h5py.File(path) as file:
        before = file["processing/behavior/speed/timestamps"][:]
    with warnings.catch_warnings(), NWBHDF5IO(path, "r+") as io:
        warnings.simplefilter("ignore")
        nwbfile = read_objects(io)
        nwbfile.add_acquisition(TimeSeries(name="new", data=TIMES, rate=10.0, unit="m"))
        io.write(nwbfile)
    with h5py.File(path) as file:
        assert "acquisition/new" in file
        np.testing.assert_array_equal(file["processing/behavior/speed/timestamps"][:], before)


def test_what_is_no_series_still_costs_the_file(damaged):
    path = damaged(lambda module: module.file.__delitem__("session_description"))
    with pytest.raises(DataError, match="cannot be read"):
        read_session(path)


def test_nothing_is_left_out_of_a_file_that_pynwb_reads(damaged):
    with NWBHDF5IO(damaged(lambda module: None), "r") as io:
        nwbfile = read_objects(io)
        assert refused_series(nwbfile) == {}
        assert {item.name for item in nwbfile.objects.values() if isinstance(item, TimeSeries)} == {
            "speed",
            "pupil",
            "hand",
        }
