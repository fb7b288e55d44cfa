"""Results beside tables as labs have them: the run refers to the rows that the counts came from, to
the derived file."""

import h5py
import numpy as np
import pytest
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError, WindowError
from metadyn.nwb.derive import derive
from metadyn.nwb.read import read_session
from metadyn.nwb.write import write_run

BUSY = [
    np.arange(0.0043, 20, step) for step in (0.05, 0.0317, 0.07)
]  # no spike on the edge of a bin


def pad(path):
    with h5py.File(path, "r+") as file:
        for table in ("units", "intervals/trials"):
            names = [name.ljust(18).encode() for name in file[table].attrs["colnames"]]
            file[table].attrs["colnames"] = np.array(names, dtype="S18")


def test_padded_column_names_are_those_of_the_columns_through_to_a_derived_file(
    new_nwb, add_trials, save, made, tmp_path
):
    path = save(
        add_trials(
            new_nwb(BUSY, quality=["good", "mua", "good"]),
            [1, 5, 9],
            length=1.0,
            side=["l", "r", "l"],
        )
    )
    expected = bin_spikes(read_session(path), units="quality == 'good'", where="side == 'l'")
    pad(path)
    counts = bin_spikes(read_session(path), units="quality == 'good'", where="side == 'l'")
    np.testing.assert_array_equal(counts.counts, expected.counts)
    windows = counts.windows
    result = made.posterior(windows.start, windows.n_bins, counts.unit_rows, rows=windows.trial_row)
    write_run(path, tmp_path / "out.nwb", result)
    derived = read_session(derive(tmp_path / "out.nwb", tmp_path / "derived.nwb"))
    assert derived.units.quality.tolist() == ["good", "mua", "good"]
    assert derived.intervals["trials"].side.tolist() == ["l", "r", "l"]


def sorted_units(spikes, name="units", **columns) -> Units:
    """A Units table with ids and waveforms, to lie wherever it is put."""
    table = Units(name=name, description="sorted again")
    for column in columns:
        table.add_column(column, f"the {column}")
    for i, times in enumerate(spikes):
        own = {column: values[i] for column, values in columns.items()}
        table.add_unit(
            id=30 - i, spike_times=times, waveforms=[[[float(i)] * 4]] * len(times), **own
        )
    return table


@pytest.fixture
def in_modules(new_nwb, save):
    """Units, trials and events in processing modules, and nothing where NWB has them."""
    nwbfile = new_nwb(spikes=None)
    nwbfile.create_processing_module("ecephys", "e").add(
        sorted_units(BUSY, quality=["good", "good", "mua"])
    )
    behavior = nwbfile.create_processing_module("behavior", "b")
    trials = TimeIntervals(name="trials", description="of the task")
    trials.add_column("side", "left or right")
    for i in range(6):
        trials.add_row(
            start_time=3.0 * i + 0.5, stop_time=3.0 * i + 1.5 + 0.1 * i, side="lr"[i % 2]
        )
    behavior.add(trials)
    events = DynamicTable(name="rewards", description="drops", id=[5, 6, 7])
    events.add_column("timestamp", "when", data=[2.0, 7.0, 12.5])
    events.add_column("size", "how much", data=[1, 2, 3])
    behavior.add(events)
    return save(nwbfile)


def test_units_and_trials_in_modules_are_read_annotated_and_derived(
    in_modules, made, tmp_path, assert_no_new_fault
):
    with pytest.warns(UserWarning, match="no units at /units; taken from ecephys/units"):
        session = read_session(in_modules)
    counts = bin_spikes(session, units="quality == 'good'", where="side == 'r'")
    assert counts.windows.table == "behavior/trials"
    starts = 3.0 * counts.windows.trial_row + 0.5
    for unit in (0, 1):  # numpy counts what pynwb read
        for trial, (start, n_bins) in enumerate(zip(starts, counts.windows.n_bins, strict=True)):
            expected = np.histogram(BUSY[unit], start + 0.02 * np.arange(n_bins + 1))[0]
            np.testing.assert_array_equal(counts.counts[trial, :n_bins, unit], expected)
    result = made.posterior(
        starts,
        counts.windows.n_bins,
        counts.unit_rows,
        rows=counts.windows.trial_row,
        table="behavior/trials",
    )
    written = write_run(in_modules, tmp_path / "out.nwb", result)
    derived = derive(written, tmp_path / "derived.nwb")
    for path in (written, derived):
        assert_no_new_fault(path, in_modules)
        with NWBHDF5IO(path, "r") as io:
            nwbfile = io.read()
            run = nwbfile.processing["ecephys"]["LatentDynamics"]
            assert run.units.table is nwbfile.processing["ecephys"]["units"]
            assert run.units.table.id[run.units.data[:]].tolist() == [30, 29]
            trial = run.embeddings["trial"]
            assert trial.table is nwbfile.processing["behavior"]["trials"]
            assert list(trial.table["side"][trial.data[:]]) == ["r"] * 3
            assert ("waveforms" in run.units.table) == (path == written)
            assert ("rewards" in nwbfile.processing.get("behavior").data_interfaces) == (
                path == written
            )


@pytest.mark.filterwarnings("ignore:.*no units at /units:UserWarning")
def test_events_in_a_module_give_windows_by_name_or_path(in_modules):
    session = read_session(in_modules)
    for name in ("rewards", "behavior/rewards"):
        counts = bin_spikes(
            session, intervals=name, align="start_time", start=-0.5, n_bins=50, where="size > 1"
        )
        np.testing.assert_allclose(counts.windows.start, [6.5, 12.0])
        assert counts.windows.table == "behavior/rewards"
    with pytest.raises(WindowError, match="has a stop_time") as error:
        bin_spikes(session, intervals="rewards")
    assert bin_spikes(session, **error.value.options).n_trials == 3


def test_units_where_nwb_has_them_come_first_and_several_others_are_refused_by_name(
    new_nwb, add_trials, save, made, tmp_path
):
    nwbfile = add_trials(new_nwb(BUSY[:2]), [1, 5, 9], length=1.0)
    module = nwbfile.create_processing_module("ecephys", "e")
    module.add(sorted_units(BUSY, "kilosort"))
    path = save(nwbfile)
    assert read_session(path).n_units == 2
    nwbfile = add_trials(new_nwb(spikes=None, identifier="two sorters"), [1, 5, 9], length=1.0)
    module = nwbfile.create_processing_module("ecephys", "e")
    module.add(
        [
            sorted_units(BUSY, "kilosort"),
            sorted_units(BUSY[1:], "mountainsort"),
            Units(name="empty", description="none"),
        ]
    )
    path = save(nwbfile, "two.nwb")
    with pytest.raises(DataError, match="not clear which units") as error:
        read_session(path)
    assert "ecephys/kilosort (3 units), ecephys/mountainsort (2 units)" in error.value.found
    result = made.posterior([1.0], [50], [0, 1], rows=[0])
    with pytest.raises(DataError, match="not clear which units"):
        write_run(path, tmp_path / "out.nwb", result)
    assert not (tmp_path / "out.nwb").exists()


def test_a_table_that_shares_its_name_is_asked_for_by_path(new_nwb, add_trials, save):
    nwbfile = add_trials(new_nwb(BUSY), [1, 5, 9], length=1.0)
    for name, shift in (("one", 0.5), ("other", 2.0)):
        for table in ("licks", "trials"):
            rows = TimeIntervals(name=table, description="d")
            rows.add_row(start_time=shift, stop_time=shift + 1.5)
            (nwbfile.processing.get(name) or nwbfile.create_processing_module(name, "m")).add(rows)
    session = read_session(save(nwbfile))
    assert bin_spikes(session).n_trials == 3  # those of /intervals
    with pytest.raises(WindowError, match="2 interval tables are called 'licks'") as error:
        bin_spikes(session, intervals="licks")
    assert error.value.remedy == "intervals='one/licks'"
    assert bin_spikes(session, intervals="other/licks").windows.start.tolist() == [2.0]
    assert bin_spikes(session, intervals="one/trials").windows.start.tolist() == [0.5]


@pytest.mark.filterwarnings("ignore:.*no units at /units:UserWarning")
def test_windows_of_a_run_are_no_table_of_trials(in_modules, made, tmp_path):
    written = write_run(
        in_modules,
        tmp_path / "out.nwb",
        made.posterior([0.5, 3.5], [50, 55], [0, 2], table="behavior/trials"),
    )
    assert set(read_session(written).intervals) == {"behavior/rewards", "behavior/trials"}
