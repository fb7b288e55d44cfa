"""Reading NWB files: against what was written, against pynwb unit by unit, and everything that
cannot be used."""

import os
import subprocess
import sys
import tracemalloc
import warnings

import h5py
import numpy as np
import pytest
import zarr
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.behavior import BehavioralTimeSeries, CompassDirection, Position, SpatialSeries

from metadyn.data.binning import bin_spikes
from metadyn.data.intervals import union
from metadyn.errors import DataError
from metadyn.nwb.read import read_session
from metadyn.pipeline.inputs import recordings

RATS = ["alme_17724_fambegin1", "alme_17769_novel4begin2", "alme_17894_fambegin1"]
ALL_REAL = ["maze", "head_direction", "human_mtl", "alm_photostim", "alm_nan_stop_times", *RATS]


def own_spikes(session, unit):
    return session.spike_times[session.spike_index[unit] : session.spike_index[unit + 1]]


def test_what_was_written_is_read(new_nwb, add_trials, save):
    nwbfile = new_nwb(
        spikes=[[0.1, 0.2], [], [0.3]], quality=["good", "mua", "good"], depth=[1.5, 2.5, np.nan]
    )
    add_trials(nwbfile, [0, 1], result=["R", "F"], go_time=[0.1, np.nan], n=[1, 2])
    session = read_session(save(nwbfile))
    assert [own_spikes(session, unit).tolist() for unit in range(3)] == [[0.1, 0.2], [], [0.3]]
    assert session.units.quality.tolist() == ["good", "mua", "good"]
    assert session.units.columns.tolist() == ["quality", "depth"]
    assert session.intervals["trials"].result.tolist() == ["R", "F"]
    assert session.intervals["trials"].n.tolist() == [1, 2]
    assert session.observed is None
    assert session.key == session.source.identifier == "small"
    assert session.source.object_id == nwbfile.object_id
    assert session.source.units_object_id == nwbfile.units.object_id


def test_an_open_file_is_read_like_its_path_and_stays_open(new_nwb, add_trials, save):
    path = save(add_trials(new_nwb(), [0.0]))
    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        session = read_session(nwbfile, key="mine")
        assert nwbfile.units["spike_times"].data[0] > 0
    assert session.key == "mine"
    np.testing.assert_array_equal(session.spike_times, read_session(str(path)).spike_times)
    assert session.source.uri.endswith("small.nwb")


def test_a_file_in_memory_is_read_like_one_on_disk(new_nwb, add_trials, save):
    nwbfile = add_trials(new_nwb(quality=["good", "mua"]), [0.0, 0.5], result=["R", "F"])
    memory, disk = read_session(nwbfile), read_session(save(nwbfile))
    np.testing.assert_array_equal(memory.spike_times, disk.spike_times)
    np.testing.assert_array_equal(memory.spike_index, disk.spike_index)
    assert memory.units.quality.tolist() == disk.units.quality.tolist()
    assert memory.intervals["trials"].to_dict() == disk.intervals["trials"].to_dict()
    assert memory.source.uri is None


def test_the_file_is_closed_after_reading_and_after_an_error(new_nwb, save):
    path = save(new_nwb())
    for behavior in ((), ("none",)):
        try:
            read_session(path, behavior=behavior)
        except DataError:
            assert behavior
        with h5py.File(
            path, "r+"
        ) as file:  # HDF5 refuses to write to what is still open for reading
            file.attrs["touched"] = True


def test_observed_is_the_union_over_units(new_nwb, save):
    observed = [[[0, 1], [2, 3]], [[0.5, 1.5], [3, 4]]]
    session = read_session(save(new_nwb(obs_intervals=observed)))
    assert session.observed.tolist() == [[0, 1.5], [2, 4]]


def test_the_union_of_intervals_equals_a_mask_of_milliseconds():
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = rng.integers(0, 900, 12)
        intervals = np.column_stack([starts, starts + rng.integers(1, 60, 12)])
        mask = np.zeros(1000, dtype=bool)
        for start, stop in intervals:
            mask[start:stop] = True
        merged = np.zeros(1000, dtype=int)
        found = np.rint(union(intervals / 1000) * 1000).astype(int)
        for start, stop in found:
            merged[start:stop] += 1
        np.testing.assert_array_equal(merged, mask.astype(int))
        assert (found[1:, 0] > found[:-1, 1]).all()


def test_unusable_obs_intervals_are_left_out_with_a_warning(new_nwb, save):
    path = save(new_nwb(obs_intervals=[[[0, 1], [np.nan, 2]], [[3, 3], [5, 4]]]))
    with (
        pytest.warns(UserWarning, match="3 obs_intervals"),
        pytest.warns(UserWarning, match="1 of 2 units have no usable"),
    ):
        assert read_session(path).observed.tolist() == [[0, 1]]


def test_unsorted_spikes_are_sorted_with_a_warning_that_names_the_file(new_nwb, save):
    path = save(new_nwb(spikes=[[0.3, 0.1, 0.2], [0.5, 0.6], [0.9, 0.8]]))
    with pytest.warns(UserWarning, match=r"small.nwb: the spike times of 2 units"):
        session = read_session(path)
    assert [own_spikes(session, unit).tolist() for unit in range(3)] == [
        [0.1, 0.2, 0.3],
        [0.5, 0.6],
        [0.8, 0.9],
    ]


def test_reading_holds_hardly_more_than_the_spikes(new_nwb, save):
    rng = np.random.default_rng(0)
    path = save(new_nwb(spikes=[np.sort(rng.uniform(0, 100, 200_000)) for _ in range(4)]))
    read_session(path)  # what is looked up once
    tracemalloc.start()
    session = read_session(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * session.spike_times.nbytes


def test_what_is_mended_for_us_stays_as_it_was_in_an_open_file(new_nwb):
    nwbfile = new_nwb(spikes=[[0.3, 0.1], [0.2, np.nan]])
    before = np.array(nwbfile.units["spike_times"].data[:])
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.warns(UserWarning, match="not in order"),
    ):
        session = read_session(nwbfile)
    assert [own_spikes(session, unit).tolist() for unit in range(2)] == [[0.1, 0.3], [0.2]]
    np.testing.assert_array_equal(nwbfile.units["spike_times"].data[:], before)


def test_nan_spikes_are_left_out_with_a_warning(new_nwb, save):
    path = save(new_nwb(spikes=[[0.1, np.nan], [np.nan], [0.2, np.inf, 0.4]]))
    with pytest.warns(UserWarning, match="3 spike times"):
        session = read_session(path)
    assert [own_spikes(session, unit).tolist() for unit in range(3)] == [[0.1], [], [0.2, 0.4]]


@pytest.mark.parametrize(
    ("spikes", "problem"),
    [(None, "no units"), ([[], []], "no spikes"), ([[0.1, 1e12]], "cannot be used")],
)
def test_files_without_usable_spikes_say_what_is_missing(new_nwb, save, spikes, problem):
    path = save(new_nwb(spikes=spikes))
    with pytest.raises(DataError, match=problem) as error:
        read_session(path)
    assert error.value.file == str(path)
    assert error.value.item.startswith("/units")
    assert error.value.found
    assert error.value.remedy


def test_units_without_spike_times_say_which_columns_there_are(new_nwb, save):
    nwbfile = new_nwb(spikes=None)
    nwbfile.add_unit_column("quality", "how good")
    nwbfile.add_unit(quality="good")
    with pytest.raises(DataError, match="no spike times") as error:
        read_session(save(nwbfile))
    assert error.value.found == "columns quality"


def test_only_nan_spikes_are_an_error(new_nwb, save):
    path = save(new_nwb(spikes=[[np.nan], [np.nan]]))
    with (
        pytest.warns(UserWarning, match="2 spike times"),
        pytest.raises(DataError, match="cannot be used"),
    ):
        read_session(path)


def test_a_damaged_spike_index_is_noticed(new_nwb, save):
    path = save(new_nwb())
    with h5py.File(path, "r+") as file:
        file["units/spike_times_index"][:] = [4, 2]
    with pytest.raises(DataError, match="index"):
        read_session(path)


def make_missing(folder):
    return folder / "absent.nwb"


def make_text(folder):
    (folder / "text.nwb").write_text("not HDF5")
    return folder / "text.nwb"


def make_hdf5(folder):
    with h5py.File(folder / "plain.nwb", "w") as file:
        file["x"] = 1
    return folder / "plain.nwb"


def make_nwb1(folder):
    with h5py.File(folder / "one.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
    return folder / "one.nwb"


def make_hollow(folder):
    with h5py.File(folder / "hollow.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
    return folder / "hollow.nwb"


def make_folder(folder):
    return folder


@pytest.mark.parametrize(
    "make", [make_missing, make_text, make_hdf5, make_nwb1, make_hollow, make_folder]
)
def test_what_is_no_nwb_file_is_refused_by_name(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(DataError) as error:
        read_session(path)
    assert str(path) in str(error.value)
    assert error.value.remedy


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_zarr_store_is_refused_with_the_reason_and_what_to_install(tmp_path, zarr_format):
    zarr.open_group(tmp_path / "session.nwb", mode="w", zarr_format=zarr_format)
    with pytest.raises(DataError, match="pickles") as error:
        read_session(*(each.source for each in recordings(tmp_path / "session.nwb")))
    assert "pip install hdmf-zarr" in error.value.remedy


def test_a_truncated_file_is_refused(new_nwb, save):
    path = save(new_nwb())
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match="cut short"):
        read_session(path)


@pytest.fixture
def with_behavior(new_nwb, save):
    times = np.arange(100) * 0.01
    nwbfile = new_nwb()
    module = nwbfile.create_processing_module("behavior", "what the animal did")
    velocity = TimeSeries(
        name="cursor_vel",
        data=np.column_stack([times, -times]),
        timestamps=times,
        unit="cm/s",
        conversion=2.0,
        offset=1.0,
    )
    module.add(BehavioralTimeSeries(name="Velocity", time_series=velocity))
    hand = SpatialSeries(
        name="Hand",
        data=np.column_stack([times, times]),
        rate=100.0,
        starting_time=5.0,
        reference_frame="screen",
    )
    module.add(Position(name="Position", spatial_series=hand))
    twin = SpatialSeries(name="Hand", data=times, timestamps=times, reference_frame="north")
    module.add(CompassDirection(name="CompassDirection", spatial_series=twin))
    gappy = np.where(times > 0.5, np.nan, times)
    nwbfile.add_acquisition(TimeSeries(name="pupil", data=gappy, timestamps=velocity, unit="mm"))
    nwbfile.add_acquisition(
        TimeSeries(name="movie", data=np.zeros((100, 2, 2)), rate=10.0, unit="a.u.")
    )
    with pytest.warns(UserWarning, match=r"rate of 0\.0"):
        nwbfile.add_acquisition(TimeSeries(name="timeless", data=times, rate=0.0, unit="a.u."))
    nwbfile.add_acquisition(TimeSeries(name="words", data=["a", "b"], rate=1.0, unit="n/a"))
    return save(nwbfile)


def test_behaviour_is_listed_by_short_unique_names_or_paths(with_behavior):
    names = set(read_session(with_behavior).behavior_names)
    assert names == {
        "cursor_vel",
        "behavior/Position/Hand",
        "behavior/CompassDirection/Hand",
        "pupil",
        "timeless",
        "words",
    }


@pytest.mark.parametrize(
    "name", ["cursor_vel", "Velocity/cursor_vel", "behavior/Velocity/cursor_vel"]
)
def test_behaviour_is_read_by_short_or_full_name_in_its_unit(with_behavior, name):
    series = read_session(with_behavior, behavior=(name,)).behavior[name]
    np.testing.assert_allclose(series.times, np.arange(100) * 0.01)
    np.testing.assert_allclose(series.values[:, 0], 2 * series.times + 1)
    assert series.unit == "cm/s"


def test_behaviour_with_a_rate_starts_at_its_starting_time(with_behavior):
    name = "velocity:Position/Hand"
    series = read_session(with_behavior, behavior=name).behavior[name]
    assert series.times[[0, -1]].tolist() == pytest.approx([5.0, 5.99])


def test_samples_that_are_nan_and_linked_timestamps_are_understood(with_behavior):
    series = read_session(with_behavior, behavior=("pupil",)).behavior["pupil"]
    assert series.values.shape == (51, 1)
    np.testing.assert_allclose(series.values[:, 0], series.times)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("cursor_pos", "no behaviour"), ("Hand", "2 behaviour"), ("timeless", "time base")],
)
def test_behaviour_that_cannot_be_read_lists_what_there_is(with_behavior, name, problem):
    with pytest.raises(DataError, match=problem) as error:
        read_session(with_behavior, behavior=(name,))
    assert error.value.remedy
    assert error.value.found


def test_behaviour_that_is_not_named_is_not_read(with_behavior):
    with h5py.File(with_behavior, "r+") as file:  # a series whose data cannot be read any more
        group = file["processing/behavior/Velocity/cursor_vel"]
        attributes = dict(group["data"].attrs)
        del group["data"]
        chunked = group.create_dataset(
            "data", shape=(100, 2), dtype=float, chunks=(10, 2), compression="gzip"
        )
        chunked.attrs.update(attributes)
        chunked.id.write_direct_chunk((0, 0), b"not gzip at all")
    assert "cursor_vel" in read_session(with_behavior).behavior_names
    with pytest.raises(DataError, match="filter"):
        read_session(with_behavior, behavior=("cursor_vel",))


def test_reading_imports_no_torch(real_data):
    code = "import sys; from metadyn.nwb.read import read_session; read_session(sys.argv[1]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(real_data / "maze.nwb")]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


@pytest.mark.parametrize("name", ALL_REAL)
def test_every_real_file_is_read_like_pynwb_reads_it_unit_by_unit(real_data, name):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # what pynwb has to say of these files; read_session itself must be silent
        with NWBHDF5IO(real_data / f"{name}.nwb", "r") as io:
            nwbfile = io.read()
            expected = [
                np.sort(nwbfile.units["spike_times"][unit]) for unit in range(len(nwbfile.units))
            ]
            rows = {table: len(nwbfile.intervals[table]) for table in nwbfile.intervals}
    if name == "alm_nan_stop_times":
        with pytest.warns(UserWarning, match="1 units are not in order"):
            session = read_session(real_data / f"{name}.nwb")
    else:
        session = read_session(real_data / f"{name}.nwb")
    assert session.n_units == len(expected)
    for unit, times in enumerate(expected):
        np.testing.assert_array_equal(own_spikes(session, unit), times)
    assert {table: len(frame) for table, frame in session.intervals.items()} == rows
    assert all({"start_time", "stop_time"} <= set(frame) for frame in session.intervals.values())


@pytest.mark.parametrize(
    ("name", "options", "windows"),
    [
        ("maze", {}, 165),
        ("human_mtl", {"intervals": "encoding_table"}, 90),
        ("head_direction", {}, 600),
        ("alme_17724_fambegin1", {}, 510),
        ("alme_17769_novel4begin2", {}, 440),
        ("alme_17894_fambegin1", {}, 451),
    ],
)
def test_every_real_file_that_must_train_is_binned_without_a_word(
    real_data, name, options, windows
):
    counts = bin_spikes(read_session(real_data / f"{name}.nwb"), **options)
    assert counts.n_trials == windows
    assert counts.counts.any(axis=(0, 1)).all()
