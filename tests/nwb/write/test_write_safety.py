"""Whatever happens during a write, the user's file is as it was or whole, and nothing is left
behind."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from pynwb import read_nwb

from metadyn.errors import WriteError
from metadyn.nwb import write
from metadyn.nwb.replace import private_name, replacement
from metadyn.nwb.write import write_run


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def pickled(tmp_path, result):
    """The result as a file, for other processes."""
    result.to_netcdf(tmp_path / "result.nc", engine="scipy")
    return tmp_path / "result.nc"


def start_writing(source, pickled, before="", **options):
    """Another process that annotates `source` in place, after running the lines `before`."""
    script = f"""
import os, resource, signal, sys, time
import numpy as np, xarray as xr
from metadyn.errors import WriteError
from metadyn.nwb import validity, write
from metadyn.records import ModelFile
with xr.open_dataset({str(pickled)!r}, engine="scipy") as opened:
    result = opened.load()
result = result.assign_attrs(bin_width=float(result.attrs["bin_width"]))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite started in the background ignores Ctrl-C, and so would this
{textwrap.dedent(before)}
try:
    write.write_run({str(source)!r}, {str(source)!r}, result)
except WriteError as error:
    print(error)
    sys.exit(3)
"""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_in_place_replaces_the_file_whole_and_leaves_nothing_else(source, result):
    write_run(source, source, result)
    assert files_in(source.parent) == [source.name]
    assert "LatentDynamics" in read_nwb(source).processing["ecephys"].data_interfaces


def test_the_source_of_a_copy_is_not_touched(source, tmp_path, result):
    before = digest(source), source.stat().st_mtime_ns
    write_run(source, tmp_path / "out" / "copy.nwb", result)
    assert (digest(source), source.stat().st_mtime_ns) == before


@pytest.mark.parametrize("error", [RuntimeError("no luck"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_in_the_middle_leaves_the_file_as_it_was(source, result, monkeypatch, error):
    before = digest(source)

    def fail(*_):
        raise error

    monkeypatch.setattr(write, "embeddings_table", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else WriteError):
        write_run(source, source, result)
    assert (digest(source), files_in(source.parent)) == (before, [source.name])


def test_a_result_that_would_be_invalid_is_not_written(source, tmp_path, result, monkeypatch):
    def spoil(path, add):
        import h5py

        with h5py.File(path, "r+") as file:
            del file["units/spike_times"].attrs["description"]
            del file["session_description"]

    monkeypatch.setattr(write, "_append", spoil)
    with pytest.raises(WriteError, match="would not be valid NWB"):
        write_run(source, tmp_path / "out.nwb", result)
    assert files_in(tmp_path) == ["raw"]


def test_an_existing_target_is_kept_unless_told_otherwise(source, tmp_path, result):
    target = write_run(source, tmp_path / "out.nwb", result)
    before = digest(target)
    with pytest.raises(WriteError, match="overwrite=True"):
        write_run(source, target, result)
    assert digest(target) == before
    write_run(source, target, result, overwrite=True)


def test_a_link_stays_a_link_and_what_it_names_is_replaced(source, tmp_path, result):
    link = tmp_path / "link.nwb"
    link.symlink_to(source)
    assert write_run(link, link, result) == source.resolve()
    assert link.is_symlink()
    assert "LatentDynamics" in read_nwb(link).processing["ecephys"].data_interfaces


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_replaced_keeps_its_owner_group_and_mode(source, result):
    os.chown(source, 12345, 23456)
    source.chmod(0o4640)
    write_run(source, source, result)
    there = source.stat()
    assert (there.st_uid, there.st_gid, there.st_mode & 0o7777) == (12345, 23456, 0o4640)
    assert "LatentDynamics" in read_nwb(source).processing["ecephys"].data_interfaces


def test_permissions_are_those_of_the_source(source, tmp_path, result):
    source.chmod(0o440)
    assert write_run(source, tmp_path / "out.nwb", result).stat().st_mode & 0o777 == 0o440


@pytest.fixture
def open_folder():
    """A folder that every user may enter (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_read_only_folder_is_said_to_be_one(source, pickled, open_folder):
    source, pickled = (Path(shutil.copy(path, open_folder)) for path in (source, pickled))
    before = digest(source)
    open_folder.chmod(0o555)
    drop = "os.setgid(65534); os.setuid(65534)" if os.getuid() == 0 else ""
    process = start_writing(source, pickled, drop)
    told, trouble = process.communicate(timeout=60)
    open_folder.chmod(0o755)
    assert process.returncode == 3, trouble
    assert "Permission denied" in told
    assert "(`output`)" in told
    assert (digest(source), files_in(open_folder)) == (before, sorted([source.name, pickled.name]))


@pytest.mark.parametrize("room", [10_000, 200_000])
def test_a_full_disk_leaves_the_file_as_it_was(source, pickled, room):
    """The limit stops the copy (10 kB) or, with some room more than the source, the write (HDF5
    meets it when it flushes)."""
    before = digest(source)
    limit = room if room < source.stat().st_size else source.stat().st_size + 20_000
    process = start_writing(
        source, pickled, f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    )
    told, trouble = process.communicate(timeout=60)
    assert process.returncode == 3, trouble
    assert "nothing was changed" in told
    assert (digest(source), files_in(source.parent)) == (before, [source.name])


def test_a_killed_write_leaves_the_file_as_it_was_and_the_next_run_cleans_up(
    source, pickled, result
):
    before = digest(source)
    pause = """
    def wait(*_):
        print("written", flush=True)
        time.sleep(60)
    write.assert_no_worse = wait
    """
    process = start_writing(source, pickled, pause)
    assert process.stdout.readline() == "written\n", process.stderr.read()
    process.kill()
    process.communicate()
    assert digest(source) == before
    assert len(files_in(source.parent)) == 2
    write_run(source, source, result)
    assert files_in(source.parent) == [source.name]


def test_a_private_copy_of_another_machine_is_left_alone_whatever_its_process_number(
    source, result
):
    ours = private_name(source)
    theirs = ours.with_name(ours.name.replace(f".{socket.gethostname()}.", ".elsewhere."))
    theirs.write_bytes(b"")
    write_run(source, source, result)
    assert theirs.exists()


LONG_NAMES = [
    "sub-" + "x" * 235 + "_ecephys.nwb",
    "é" * 123 + "[1]*.nwb",
    "😀" * 62 + ".nwb",
]  # 251, 254, 252 bytes


@pytest.mark.parametrize("name", LONG_NAMES)
def test_a_name_as_long_as_a_file_system_takes_is_written_and_what_a_killed_run_left_is_removed(
    source, result, tmp_path, name
):
    long = source.rename(source.with_name(name))
    target = tmp_path / "out" / name
    target.parent.mkdir()
    left = private_name(target)
    left = left.with_name(
        left.name.replace(f".{os.getpid()}.", ".999999999.")
    )  # no system gives this number
    left.write_bytes(b"half")
    write_run(long, target, result)
    write_run(long, long, result, name="Again")
    assert files_in(target.parent) == [name]
    assert files_in(long.parent) == [name]
    assert "Again" in read_nwb(long).processing["ecephys"].data_interfaces


def test_ctrl_c_in_another_process_removes_the_private_copy(source, pickled):
    before = digest(source)
    pause = "write.assert_no_worse = lambda *_: (print('written', flush=True), time.sleep(60))"
    process = start_writing(source, pickled, pause)
    assert process.stdout.readline() == "written\n", process.stderr.read()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert (digest(source), files_in(source.parent)) == (before, [source.name])


def test_a_file_that_another_process_wrote_meanwhile_stays_as_that_one_wrote_it(source):
    theirs = source.with_name("theirs")
    theirs.write_bytes(b"theirs")
    with pytest.raises(WriteError, match="another process"), replacement(source, source):
        os.replace(theirs, source)
    assert source.read_bytes() == b"theirs"
    assert files_in(source.parent) == [source.name]


def test_a_target_that_came_meanwhile_is_kept(source, tmp_path):
    with (
        pytest.raises(WriteError, match="another process"),
        replacement(source, tmp_path / "new.nwb"),
    ):
        (tmp_path / "new.nwb").write_bytes(b"theirs")
    assert (tmp_path / "new.nwb").read_bytes() == b"theirs"


@pytest.fixture
def noted(monkeypatch):
    """What the system is asked for, in order: inodes flushed to the disk and the size they had, and
    names that are given."""
    asked, flush, rename = [], os.fsync, os.replace

    def fsync(descriptor):
        there = os.fstat(descriptor)
        asked.append(("flush", there.st_ino, there.st_size))
        flush(descriptor)

    def replace(old, new):
        asked.append(("name", os.stat(old).st_ino, str(new)))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return asked


def test_a_file_gets_its_name_when_its_bytes_are_on_the_disk_and_the_name_follows_them_there(
    source, tmp_path, noted
):
    """Bytes, name, folder: after a loss of power the name stands for the whole new file, or for the
    old one."""
    with replacement(source, tmp_path / "copy.nwb") as work:
        work.write_bytes(b"new" * 1000)
        inode = work.stat().st_ino
    folder = tmp_path.stat()
    assert [each[:2] for each in noted] == [
        ("flush", inode),
        ("name", inode),
        ("flush", folder.st_ino),
    ]
    assert noted[0][2] == 3000
    assert noted[1][2] == str(tmp_path / "copy.nwb")


def test_who_reads_the_file_while_it_is_replaced_reads_the_old_one_to_its_end(source):
    """The file that was there is not written into; another takes its name."""
    before = source.read_bytes()
    with source.open("rb") as reader:
        with replacement(source, source) as work:
            work.write_bytes(b"new")
        assert reader.read() == before
    assert source.read_bytes() == b"new"


def test_links_in_a_circle_are_named(source, tmp_path, result):
    circle = tmp_path / "circle.nwb"
    circle.symlink_to(circle)
    with pytest.raises(WriteError, match=r"in a circle[^$]*circle\.nwb"):
        write_run(source, circle, result)
    assert circle.is_symlink()
