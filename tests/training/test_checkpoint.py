"""A checkpoint that the system refuses is an error of ours, and what was complete before stays."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from metadyn.errors import WriteError
from metadyn.training.execution.checkpoint import (
    check_writable,
    point,
    pointed,
    write_checkpoint,
    write_durably,
)


@pytest.fixture
def folder(tmp_path):
    """A model folder with one checkpoint, which both pointers name."""
    name = write_checkpoint(tmp_path / "model", "step-000001", b"weights", {}, {}, {"step": 1})
    for pointer in ("best", "latest"):
        point(tmp_path / "model", pointer, name)
    return tmp_path / "model"


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def in_another_process(lines, *arguments):
    """Run the lines after imports; what they print before a WriteError ends them with status 3."""
    script = f"""
import os, resource, sys
from pathlib import Path
from metadyn.errors import WriteError
from metadyn.training.execution.checkpoint import check_writable, point, write_checkpoint
folder = Path(sys.argv[1])
try:
{textwrap.indent(textwrap.dedent(lines), "    ")}
except WriteError as error:
    print(error)
    sys.exit(3)
"""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("room", [0, 5_000])
def test_a_full_disk_is_told_and_leaves_the_last_checkpoint_as_it_was(folder, room):
    before = contents(folder)
    lines = f"""
    resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
    write_checkpoint(folder, "step-000002", bytes(100_000), {{}}, {{}}, {{}})
    """
    done = in_another_process(lines, folder)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stdout
    assert "model.safetensors" in done.stdout
    assert "`resume=True`" in done.stdout
    assert contents(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["best", "latest", "step-000001"]


def test_a_pointer_that_cannot_be_written_names_what_it_named(folder):
    before = contents(folder)
    lines = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); point(folder, 'latest', 'step-000002')"
    )
    done = in_another_process(lines, folder)
    assert done.returncode == 3, done.stderr
    assert contents(folder) == before
    assert (pointed(folder, "latest") / "model.safetensors").read_bytes() == b"weights"


def test_a_full_disk_is_found_before_training(folder):
    done = in_another_process(
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); check_writable(folder)", folder
    )
    assert done.returncode == 3, done.stderr
    assert "cannot be written" in done.stdout


def test_a_folder_of_another_user_is_found_before_training():
    with tempfile.TemporaryDirectory() as closed:
        Path(closed).chmod(0o555)
        drop = "os.setgid(65534); os.setuid(65534)" if os.getuid() == 0 else ""
        done = in_another_process(f"{drop}\ncheck_writable(folder / 'model')", closed)
        assert done.returncode == 3, done.stderr
        assert "Permission denied" in done.stdout
        assert closed in done.stdout


def test_the_probe_leaves_nothing(tmp_path, folder):
    check_writable(tmp_path / "deep" / "new")
    check_writable(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not list(folder.glob(".*"))


def test_a_file_that_is_a_folder_is_a_write_error(folder):
    with pytest.raises(WriteError, match="step-000001"):
        write_durably(folder / "step-000001", b"")
    assert not list(folder.glob(".*"))


def test_the_next_checkpoint_removes_what_killed_runs_left_in_this_folder_alone(folder):
    left, beside = folder / ".step-000007.partial", folder.parent / ".step-000008.partial"
    for each in (left, beside, folder / ".notes"):
        each.mkdir()
        (each / "model.safetensors").write_bytes(b"half")
    point(folder, "latest", write_checkpoint(folder, "step-000002", b"more", {}, {}, {}))
    assert sorted(path.name for path in folder.iterdir()) == [
        ".notes",
        "best",
        "latest",
        "step-000001",
        "step-000002",
    ]
    assert beside.exists()


def test_files_of_a_checkpoint_get_their_names_when_their_bytes_are_on_the_disk(
    tmp_path, monkeypatch
):
    """Whole bytes are flushed, then the file has its name, and the pointer comes after all of
    them."""
    asked, flush, rename = [], os.fsync, os.replace

    def fsync(descriptor):
        flush(descriptor)
        asked.append(("flush", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size))

    def replace(old, new):
        asked.append(("name", os.stat(old).st_ino, Path(new).name))
        rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    name = write_checkpoint(
        tmp_path, "step-000003", b"weights" * 100, {}, {"model": {"rank": 2}}, {"step": 3}
    )
    point(tmp_path, "latest", name)
    files = ["model.safetensors", "state.safetensors", "config.toml", "metrics.json"]
    assert [each[2] for each in asked if each[0] == "name"] == [*files, "step-000003", "latest"]
    paths = [*(tmp_path / name / file for file in files), tmp_path / "latest"]
    for path in paths:
        there = path.stat()
        flushed, named = (
            asked.index(("flush", there.st_ino, there.st_size)),
            asked.index(("name", there.st_ino, path.name)),
        )
        assert flushed < named, path.name
