"""A copy in another folder points to the other files that its source points to, or is refused
before anything is computed."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries, get_manager
from pynwb.image import ImageSeries

from metadyn.errors import DataError, WriteError
from metadyn.nwb.read import read_session
from metadyn.nwb.write import check_target, write_run

HAND = np.column_stack([np.sin(np.arange(300) / 7), np.arange(300.0)])


@pytest.fixture
def raw(source):
    """A file `voltage/raw.nwb` beside the source, which has `hand` (300, 2); and a video."""
    nwbfile = NWBFile("raw", "raw", datetime(2020, 1, 1, tzinfo=UTC))
    nwbfile.add_acquisition(
        TimeSeries(name="hand", data=HAND, rate=50.0, starting_time=0.0, unit="m")
    )
    (source.parent / "voltage").mkdir()
    (source.parent / "a.avi").write_bytes(b"a film")
    with NWBHDF5IO(source.parent / "voltage" / "raw.nwb", "w") as io:
        io.write(nwbfile)
    return source.parent / "voltage" / "raw.nwb"


@pytest.fixture
def linked(source, raw):
    """The source, with a series of the other file and a film by relative names, as pynwb itself
    writes them."""
    manager = get_manager()
    with (
        NWBHDF5IO(raw, "r", manager=manager) as other,
        NWBHDF5IO(source, "r+", manager=manager) as io,
    ):
        nwbfile, hand = io.read(), other.read().acquisition["hand"]
        nwbfile.add_acquisition(
            TimeSeries(name="linked", data=hand.data, rate=50.0, starting_time=0.0, unit="m")
        )
        film = {
            "external_file": ["./a.avi", "https://example.org/b.avi", "/c.avi"],
            "starting_frame": [0, 1, 2],
            "num_samples": 3,
        }
        nwbfile.add_acquisition(
            ImageSeries(name="film", format="external", rate=25.0, unit="n.a.", **film)
        )
        io.write(nwbfile)
    with h5py.File(source, "r+") as file:
        file["acquisition/hand"] = h5py.ExternalLink("voltage/raw.nwb", "/acquisition/hand")
    return source


def told(path: Path) -> dict:
    """What pynwb reads of both series, and the files of the film by the place that they have on the
    disk."""
    with NWBHDF5IO(path, "r", load_namespaces=True) as io:
        acquisition = io.read().acquisition
        series = {name: acquisition[name].data[:] for name in ("hand", "linked")}
        names = [os.fsdecode(name) for name in acquisition["film"].external_file[:]]
    return {
        **series,
        "film": [name if "://" in name else (path.parent / name).resolve() for name in names],
    }


def assert_same(copy: Path, source: Path) -> None:
    one, other = told(copy), told(source)
    for name in ("hand", "linked"):
        np.testing.assert_array_equal(one[name], other[name])
    assert one["film"] == other["film"]
    assert one["film"][0].read_bytes() == b"a film"


def test_a_copy_elsewhere_points_to_what_its_source_does_and_so_does_a_copy_of_it(
    linked, result, tmp_path
):
    before = linked.read_bytes()
    first = write_run(linked, tmp_path / "out" / "far" / "away" / "day1.nwb", result)
    second = write_run(first, tmp_path / "again.nwb", result, name="Again")
    for copy in (first, second):
        assert_same(copy, linked)
        np.testing.assert_array_equal(
            read_session(copy, behavior="hand").behavior["hand"].values, HAND
        )
        with h5py.File(copy) as file:
            assert not Path(file.get("acquisition/hand", getlink=True).filename).is_absolute()
    assert linked.read_bytes() == before


def test_names_of_a_fixed_length_have_room_for_longer_ones(linked, result, tmp_path):
    with h5py.File(linked, "r+") as file:
        names, attributes = (
            file["acquisition/film/external_file"][:],
            dict(file["acquisition/film/external_file"].attrs),
        )
        del file["acquisition/film/external_file"]
        short = file.create_dataset("acquisition/film/external_file", data=names.astype("S30"))
        for key, value in attributes.items():
            short.attrs[key] = value
    copy = write_run(
        linked, tmp_path / "a folder of a name that is long" / "out" / "day1.nwb", result
    )
    assert_same(copy, linked)
    with h5py.File(copy) as file:
        np.testing.assert_array_equal(
            file["acquisition/film/external_file"].attrs["starting_frame"], [0, 1, 2]
        )


def test_in_place_and_beside_nothing_is_renamed(linked, result):
    def names(path):
        with h5py.File(path) as file:
            link = file.get("acquisition/hand", getlink=True).filename
            return link, file["acquisition/film/external_file"].asstr()[:].tolist()

    before = names(linked)
    beside = write_run(linked, linked.with_name("copy.nwb"), result)
    assert names(beside) == names(write_run(linked, linked, result)) == before


@pytest.mark.parametrize("beside", ["link", "file"])
def test_a_recording_that_is_a_link_points_from_where_hdf5_begins(
    linked, raw, result, tmp_path, beside
):
    """git-annex keeps the file itself in a folder of its own, and what it points to lies beside the
    link; or beside it."""
    store = tmp_path / "store"
    shutil.copytree(linked.parent, store) if beside == "file" else store.mkdir()
    kept = store / "KEY.nwb"
    linked.rename(kept)
    if beside == "file":
        shutil.rmtree(linked.parent / "voltage")
    linked.symlink_to(kept)
    copy = write_run(linked, tmp_path / "out" / "day1.nwb", result)
    with h5py.File(copy) as one, h5py.File(linked) as other:
        assert one["acquisition/hand/data"].file.filename != copy
        np.testing.assert_array_equal(
            one["acquisition/hand/data"][:], other["acquisition/hand/data"][:]
        )


def test_what_is_not_there_is_told_and_the_copy_points_to_where_it_would_be(
    linked, raw, result, tmp_path
):
    away = raw.rename(raw.with_name("away"))
    with pytest.warns(UserWarning, match=r"acquisition/hand needs voltage/raw.nwb.*not there"):
        copy = write_run(linked, tmp_path / "out" / "day1.nwb", result)
    away.rename(raw)
    assert_same(copy, linked)


@pytest.fixture
def virtual(source):
    """The source, whose spike times are those of another file, shown by an HDF5 virtual dataset."""
    with h5py.File(source, "r+") as file, h5py.File(source.parent / "spikes.h5", "w") as other:
        old = file["units/spike_times"]
        other["spikes"], values, attributes = old[:], old[:], dict(old.attrs)
        layout = h5py.VirtualLayout(shape=values.shape, dtype=values.dtype)
        layout[:] = h5py.VirtualSource("spikes.h5", "spikes", shape=values.shape)
        del file["units/spike_times"]
        new = file.create_virtual_dataset("units/spike_times", layout)
        for key, value in attributes.items():
            new.attrs[key] = value
        file["units/spike_times_index"].attrs["target"] = new.ref
    return source


def test_values_that_a_copy_would_lose_are_refused_before_anything_is_computed(
    virtual, result, tmp_path
):
    with pytest.raises(WriteError, match=r"(?s)units/spike_times.*spikes.h5.*in_place=True"):
        check_target(virtual, tmp_path / "out" / "day1.nwb")
    with pytest.raises(WriteError, match="virtual dataset"):
        write_run(virtual, tmp_path / "out" / "day1.nwb", result)
    assert not list((tmp_path / "out").glob("*"))


def test_what_is_proposed_in_their_stead_keeps_the_values(virtual, result, tmp_path):
    expected = read_session(virtual).spike_times
    derived = write_run(virtual, tmp_path / "out" / "day1.nwb", result, derived=True)
    write_run(virtual, virtual, result)
    np.testing.assert_array_equal(read_session(virtual).spike_times, expected)
    (virtual.parent / "spikes.h5").unlink()
    np.testing.assert_array_equal(read_session(derived).spike_times, expected)


def test_a_derived_file_of_a_recording_that_links_to_units_elsewhere_has_them_itself(
    source, result, tmp_path
):
    spikes = read_session(source).spike_times
    kept = source.parent / "units.nwb"
    shutil.copyfile(source, kept)
    with h5py.File(source, "r+") as file:
        del file["units"]
        file["units"] = h5py.ExternalLink("units.nwb", "/units")
    derived = write_run(source, tmp_path / "out" / "day1.nwb", result, derived=True)
    kept.unlink()
    np.testing.assert_array_equal(read_session(derived).spike_times, spikes)
    with pytest.raises(DataError):
        read_session(source)
