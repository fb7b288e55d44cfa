"""Each reason for which a file cannot be read has words of its own, and what they propose works."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries

from metadyn.errors import DataError
from metadyn.nwb.read import read_session

HOLD = """
import h5py, sys
file = h5py.File(sys.argv[1], "r+")
print("open", flush=True)
sys.stdin.readline()
"""
STOPPED = """
import h5py, os, sys
with h5py.File(sys.argv[1], "r") as old, h5py.File(sys.argv[2], "w", libver="latest") as new:
    for key in old:
        old.copy(key, new)
    for key, value in old.attrs.items():
        if key != ".specloc":
            new.attrs[key] = value
    new.flush()
    os._exit(1)
"""
EXTENSION = """
import sys
from pathlib import Path
from pynwb.spec import NWBNamespaceBuilder, NWBGroupSpec, NWBAttributeSpec
folder = Path(sys.argv[1]) / "ndx_strange"
folder.mkdir(parents=True)
builder = NWBNamespaceBuilder("strange things", "ndx-strange", version="0.1.0", author="a", contact="a@b.org")
builder.include_type("TimeSeries", namespace="core")
kind = NWBGroupSpec("a strange series", neurodata_type_def="StrangeSeries", neurodata_type_inc="TimeSeries")
builder.add_spec("strange.extensions.yaml", kind)
builder.export("strange.namespace.yaml", outdir=str(folder))
(folder / "__init__.py").write_text('''
from pathlib import Path
from pynwb import get_class, load_namespaces
load_namespaces(str(Path(__file__).parent / "strange.namespace.yaml"))
StrangeSeries = get_class("StrangeSeries", "ndx-strange")
''')
sys.path.insert(0, sys.argv[1])
from ndx_strange import StrangeSeries
from pynwb import NWBHDF5IO
with NWBHDF5IO(sys.argv[2], "r+") as io:
    nwbfile = io.read()
    nwbfile.add_acquisition(StrangeSeries(name="odd", data=[1.0, 2.0], rate=1.0, unit="m"))
    io.write(nwbfile, cache_spec=False)
"""


@pytest.fixture
def file(new_nwb, add_trials, save):
    """A recording with trials and a series."""
    nwbfile = add_trials(
        new_nwb([np.arange(40) / 9, np.arange(50) / 11, np.arange(7) / 3]), [0.5, 1.5, 3.25]
    )
    nwbfile.add_acquisition(TimeSeries(name="raw", data=np.arange(60.0), rate=10.0, unit="V"))
    return save(nwbfile)


def packed_by(path, name: str, number: int) -> None:
    """The dataset as a filter of this number would have stored it, which HDF5 here does not
    have."""
    with h5py.File(path, "r+") as file:
        old, parent = file[name], file[name].parent
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk(old.shape)
        settings.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (3,))
        attributes, values, last = dict(old.attrs), old[:], name.rpartition("/")[2]
        del parent[last]
        made = h5py.h5d.create(
            parent.id,
            last.encode(),
            h5py.h5t.IEEE_F64LE,
            h5py.h5s.create_simple(values.shape),
            settings,
        )
        new = h5py.Dataset(made)
        new.id.write_direct_chunk((0,), values.tobytes()[:80])
        for key, value in attributes.items():
            new.attrs[key] = value
        if name == "units/spike_times":
            file["units/spike_times_index"].attrs["target"] = new.ref


@pytest.mark.parametrize(
    ("number", "said"),
    [(32015, "Zstandard"), (32001, "Blosc"), (32026, "Blosc2"), (40001, "HDF5_PLUGIN_PATH")],
)
def test_a_filter_that_is_not_installed_is_named_with_its_package(file, number, said):
    if find_spec("hdf5plugin") and number != 40001:
        pytest.skip("it is installed here")
    packed_by(file, "units/spike_times", number)
    with pytest.raises(DataError, match=rf"(?s)units/spike_times.*{said}") as error:
        read_session(file)
    assert error.value.remedy == "pip install hdf5plugin" or number == 40001


def test_a_filter_that_only_other_data_need_is_not_asked_for(file):
    packed_by(file, "acquisition/raw/data", 40001)
    assert read_session(file).n_units == 3
    with pytest.raises(DataError, match=r"(?s)acquisition/raw/data.*HDF5_PLUGIN_PATH"):
        read_session(file, behavior="raw")


def test_values_packed_by_a_plugin_are_read_where_it_is_installed(file):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    expected = read_session(file).spike_times
    with h5py.File(file, "r+") as opened:
        attributes = dict(opened["units/spike_times"].attrs)
        del opened["units/spike_times"]
        new = opened.create_dataset("units/spike_times", data=expected, **hdf5plugin.Zstd())
        for key, value in attributes.items():
            new.attrs[key] = value
        opened["units/spike_times_index"].attrs["target"] = new.ref
    script = "import sys; from metadyn.nwb.read import read_session; print(len(read_session(sys.argv[1]).spike_times))"
    done = subprocess.run(
        [sys.executable, "-c", script, file], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == len(expected)


def test_a_file_that_another_program_writes_is_read_when_it_was_closed_there(file):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    with pytest.raises(
        DataError, match=r"(?s)another program has the file open for writing.*close it there"
    ):
        read_session(file)
    process.communicate("\n", timeout=60)
    assert read_session(file).n_units == 3


def test_a_file_that_a_stopped_program_did_not_close_is_told_from_damage(file, tmp_path):
    left = tmp_path / "left open.nwb"
    assert subprocess.run([sys.executable, "-c", STOPPED, file, left], check=False).returncode == 1
    with pytest.raises(DataError, match=r"(?s)has not closed it.*h5clear -s copy.nwb") as error:
        read_session(left)
    if shutil.which("h5clear"):
        subprocess.run(error.value.remedy.partition(",")[0], shell=True, check=True, cwd=tmp_path)
        assert read_session(tmp_path / "copy.nwb").n_units == 3


def test_a_file_that_was_copied_in_part_is_to_be_copied_again(file, tmp_path):
    part = tmp_path / "part.nwb"
    part.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"(?s)cut short.*truncated.*copy it again"):
        read_session(part)


def test_an_extension_that_is_not_installed_is_named_and_loaded_when_it_is(file, tmp_path):
    """A real one, in a package of its own; the file does not hold its schema."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXTENSION, tmp_path / "site", file], check=True
    )
    with h5py.File(file, "r+") as opened:
        del opened["specifications"]
        del opened.attrs[".specloc"]
    with pytest.raises(DataError, match=r"(?s)acquisition/odd.*ndx-strange") as error:
        read_session(file)
    assert error.value.remedy == "pip install ndx-strange"
    script = "import sys; from metadyn.nwb.read import read_session; print(read_session(sys.argv[1]).behavior_names)"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, "-c", script, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "odd" in done.stdout


def test_what_pynwb_could_not_make_is_told_by_its_cause_and_not_by_what_it_was_building(file):
    with h5py.File(file, "r+") as opened:
        column = opened["intervals/trials/stop_time"]
        values, attributes = column[:-1], dict(column.attrs)
        del opened["intervals/trials/stop_time"]
        opened["intervals/trials/stop_time"] = values
        for key, value in attributes.items():
            opened["intervals/trials/stop_time"].attrs[key] = value
    with pytest.raises(
        DataError, match=r"(?s)cannot be read.*intervals/trials.*same length"
    ) as error:
        read_session(file)
    assert "Builder" not in error.value.found
    assert len(error.value.found) <= 300


@pytest.mark.parametrize("name", ["description", "neurodata_type"])
def test_a_column_called_as_an_attribute_is_named_and_what_is_proposed_keeps_its_values(
    file, tmp_path, monkeypatch, name
):
    with h5py.File(file, "r+") as opened:
        table = opened["intervals/trials"]
        column = table.create_dataset(name, data=np.array([b"a", b"b", b"a"]))
        column.attrs.update(
            {**table["start_time"].attrs, "object_id": "00000000-0000-0000-0000-000000000001"}
        )
        table.attrs["colnames"] = np.array([*table.attrs["colnames"], name], dtype=object)
    with pytest.raises(DataError, match="the name of an attribute") as error:
        read_session(file)
    assert error.value.item == f"intervals/trials/{name}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    subprocess.run(error.value.remedy, shell=True, check=True)
    assert list(read_session("renamed.nwb").intervals["trials"][f"{name}_"]) == ["a", "b", "a"]
