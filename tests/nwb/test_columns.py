"""Columns of every kind that the schema allows, against pynwb's own view of the same file, and what
labs store beside it."""

import h5py
import numpy as np
import pytest
from hdmf.common import DynamicTable, DynamicTableRegion
from pynwb import NWBHDF5IO
from pynwb.epoch import TimeIntervals

from metadyn.data.binning import bin_spikes
from metadyn.data.selection import select_rows
from metadyn.nwb.read import read_session

BUSY = [np.arange(0, 20, 0.05), np.arange(0, 20, 0.031), np.arange(0, 20, 0.07)]


def restored(path, dataset, change):
    """Store a dataset of the file anew, as `change` makes it."""
    with h5py.File(path, "r+") as file:
        old = file[dataset]
        values, attributes, dtype = change(old[:]), dict(old.attrs), old.dtype
        del file[dataset]
        file.create_dataset(dataset, data=values, dtype=dtype).attrs.update(attributes)


@pytest.mark.filterwarnings("ignore:EnumData is experimental")
def test_an_enumerated_column_holds_its_texts_as_pynwb_shows_them(new_nwb, save):
    nwbfile = new_nwb(BUSY)
    nwbfile.add_trial_column("stim", "stimulus", enum=True)
    for i, stim in enumerate(["left", "right", "catch", "left", "left"]):
        nwbfile.add_trial(start_time=3.0 * i, stop_time=3.0 * i + 1, stim=stim)
    path = save(nwbfile)
    with NWBHDF5IO(path, "r") as io:
        expected = io.read().trials.to_dataframe().stim.tolist()
    session = read_session(path)
    assert session.intervals["trials"].columns.tolist() == ["start_time", "stop_time", "stim"]
    assert session.intervals["trials"].stim.tolist() == expected
    counts = bin_spikes(session, where="stim == 'left'", condition="stim")
    assert counts.windows.trial_row.tolist() == [0, 3, 4]
    assert set(counts.condition) == {"left"}


def test_ragged_columns_give_the_distinct_values_of_each_row(new_nwb, save):
    nwbfile = new_nwb()
    table = TimeIntervals(name="blocks", description="blocks of the task")
    table.add_column("kind", "what")
    table.add_column("deep", "words in sentences", index=2)
    table.add_column("reward", "when there was one", index=True)
    table.add_column("licks", "as many as there were", index=True)
    table.add_column("picture", "vectors", index=True)
    rows = [
        (["x", "y", "x"], [["b", "a"], ["b"]], [0.5], [0.1, 0.2], [[1.0, 2.0]]),
        ([], [["c"]], [], [], []),
        (["y"], [[], ["a", "c"]], [2.5], [2.1], [[3.0, 4.0], [5.0, 6.0]]),
    ]
    for i, (tags, deep, reward, licks, picture) in enumerate(rows):
        own = {"deep": deep, "reward": reward, "licks": licks, "picture": picture, "tags": tags}
        table.add_row(start_time=float(i), stop_time=i + 1.0, kind="a", **own)
    nwbfile.add_time_intervals(table)
    frame = read_session(save(nwbfile)).intervals["blocks"]
    assert set(frame.columns) == {"start_time", "stop_time", "kind", "deep", "reward", "tags"}
    assert [set(each) for each in frame.tags] == [set(tags) for tags, *_ in rows]
    assert [set(each) for each in frame.deep] == [{"a", "b"}, {"c"}, {"a", "c"}]
    np.testing.assert_array_equal(frame.reward, [0.5, np.nan, 2.5])


def test_a_number_for_each_spike_is_not_read_with_the_units(new_nwb, save):
    nwbfile, ends = new_nwb(BUSY), np.cumsum([len(times) for times in BUSY])
    nwbfile.add_unit_column(
        "spike_amplitudes", "of each spike", data=np.sqrt(np.concatenate(BUSY)), index=ends
    )
    path = save(nwbfile)
    with h5py.File(path, "r+") as file:
        old = file["units/spike_amplitudes"]
        values, attributes = old[:], dict(old.attrs)
        del file["units/spike_amplitudes"]
        new = file.create_dataset(
            "units/spike_amplitudes", data=values, chunks=(100,), compression="gzip"
        )
        new.attrs.update(attributes)
        file["units/spike_amplitudes_index"].attrs["target"] = new.ref
        new.id.write_direct_chunk((100,), b"no gzip")  # whoever reads all of it meets an error
        with pytest.raises(OSError, match="filter"):
            new[:]
    session = read_session(path)
    assert session.n_units == len(BUSY)
    assert "spike_amplitudes" not in session.units


@pytest.fixture
def probes(new_nwb, save):
    """Units on electrodes of two areas: one, several of one area, several of both, and none."""
    nwbfile = new_nwb(spikes=None)
    device = nwbfile.create_device("probe")
    groups = [
        nwbfile.create_electrode_group(name, "d", area, device)
        for name, area in (("g1", "M1"), ("g0", "PMd"))
    ]
    nwbfile.add_electrode_column("depth", "below the surface")
    for k, area in enumerate(["M1", "M1", "PMd", "PMd", "V1"]):
        nwbfile.add_electrode(id=10 * k, location=area, group=groups[k // 2 % 2], depth=float(k))
    nwbfile.add_unit_column("depth", "the unit's own")
    for i, rows in enumerate([[1], [0, 1], [3, 0, 2], [], [2]]):
        own = {"id": [7, 5, 103, 9, 100][i], "electrode_group": groups[i % 2], "depth": 100.0 + i}
        nwbfile.add_unit(spike_times=np.arange(0, 20, 0.05 + 0.01 * i), electrodes=rows, **own)
    return save(nwbfile)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("id in [100, 5]", [1, 4]),
        ("id > 8", [2, 3, 4]),
        ("electrode_group == 'g1'", [0, 2, 4]),
        ("'M1' in location", [0, 1, 2]),
        ("not 'M1' in location", [4]),
        ("'PMd' in location and 'M1' in location", [2]),
        ("group == 'g0'", [4]),
        ("20 in electrodes", [2, 4]),
        ("depth > 100", [1, 2, 3, 4]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*some values of 'group':UserWarning")
def test_units_are_chosen_by_what_pynwb_says_of_their_electrodes(probes, expression, rows):
    assert (
        np.flatnonzero(select_rows(read_session(probes).units, expression, what="units")).tolist()
        == rows
    )
    with NWBHDF5IO(probes, "r") as io:
        nwbfile = io.read()
        areas = [set(nwbfile.units["electrodes"][unit].location) for unit in range(5)]
        assert [unit for unit, own in enumerate(areas) if "M1" in own] == [0, 1, 2]


def test_a_unit_on_electrodes_of_two_areas_is_of_neither_alone_and_that_is_said(probes):
    session = read_session(probes)
    for expression, rows in (
        ("location == 'M1'", [0, 1]),
        ("location in ['M1', 'PMd']", [0, 1, 2, 4]),
    ):
        if rows == [0, 1]:
            with pytest.warns(
                UserWarning, match=r"of 1 of 5 units some values of 'location' .*'M1' in location"
            ):
                counts = bin_spikes(session, units=expression, n_bins=50)
        else:
            counts = bin_spikes(session, units=expression, n_bins=50)
        assert counts.unit_rows.tolist() == rows


def test_a_region_of_one_row_gives_the_columns_of_that_row(new_nwb, add_trials, save):
    nwbfile = add_trials(new_nwb(BUSY), [0, 3, 6], length=1.0)
    images = DynamicTable(name="images", description="d", id=[4, 8])
    images.add_column("picture", "file", data=["face.png", "house.png"])
    images.add_column("start_time", "of another clock", data=[500.0, 600.0])
    nwbfile.add_scratch(images)
    nwbfile.trials.add_column(
        "image", "shown", data=[1, 0, 1], table=images, col_cls=DynamicTableRegion
    )
    session = read_session(save(nwbfile))
    assert session.intervals["trials"].start_time.tolist() == [0, 3, 6]
    assert bin_spikes(session, where="picture == 'house.png'").windows.trial_row.tolist() == [0, 2]
    assert (
        bin_spikes(session, where="image == 8", condition="picture").condition.tolist()
        == ["house.png"] * 2
    )


def test_columns_of_one_column_are_read_like_flat_ones(new_nwb, add_trials, save):
    starts = [1.0, 5.0, 9.0, 12.0]
    nwbfile = add_trials(
        new_nwb(BUSY, quality=["good", "mua", "good"]), starts, side=["l", "r", "r", "l"]
    )
    path = save(nwbfile)
    expected = read_session(path)
    for dataset in ("units/quality", "intervals/trials/start_time", "intervals/trials/side"):
        restored(path, dataset, lambda values: values.reshape(-1, 1))
    session = read_session(path)
    assert session.units.equals(expected.units)
    assert session.intervals["trials"].equals(expected.intervals["trials"])


def test_a_table_of_one_row_may_hold_scalars(new_nwb, add_trials, save):
    path = save(add_trials(new_nwb(BUSY), [2.0], 3.0, side=["l"], n=[7]))
    expected = read_session(path)
    for column in ("start_time", "stop_time", "side", "n", "id"):
        restored(path, f"intervals/trials/{column}", lambda values: values[0])
    session = read_session(path)
    assert session.intervals["trials"].equals(expected.intervals["trials"])
    assert bin_spikes(session, where="side == 'l'").windows.n_bins.tolist() == [150]
