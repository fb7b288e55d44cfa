"""What a person hands over: files wherever and however they lie, and what is said of those that are
not here."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import metadyn
from metadyn.errors import ConfigError, DataError, ModelFileError
from metadyn.nwb.read import read_session
from metadyn.pipeline.inputs import recordings, single

HIDDEN = (
    *(
        ".git/annex/objects/a/b/KEY/KEY.nwb",
        ".ipynb_checkpoints/day1-checkpoint.nwb",
        "sub-a/.dandi/day1.nwb",
    ),
    *("._day1.nwb", "sub-a/._day2.nwb", ".Trashes/501/day3.nwb"),
)
TOOL = """#!/bin/sh
# Stands for git-annex, DataLad or Git LFS: puts the bytes that GOOD names in the place of every file named.
for each in "$@"; do case "$each" in *.nwb) rm -f "$each"; cp "$GOOD" "$each";; esac; done
"""


@pytest.fixture
def recording(world):
    """recording(path, which=0) → a copy of one of the world's recordings at that path, in folders
    that are made."""

    def copy(path: Path, which: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(world.files[which], path))

    return copy


def test_of_a_folder_only_what_is_not_hidden_is_taken(recording, tmp_path):
    shown = [
        recording(tmp_path / name)
        for name in ("DAY0.NWB", "day1.nwb", "sub-a/day2.nwb", "sub-b/c/day3.nwb")
    ]
    for name in HIDDEN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07Mac OS X")
    assert {each.source for each in recordings(tmp_path)} == set(shown)
    assert [each.source for each in recordings(tmp_path / "sub-a" / ".dandi")] == [
        tmp_path / "sub-a/.dandi/day1.nwb"
    ]


def test_a_store_in_a_folder_is_refused_by_name_and_not_passed_over(recording, tmp_path):
    recording(tmp_path / "day1.nwb")
    (tmp_path / "day2.nwb").mkdir()
    (tmp_path / "day2.nwb" / ".zgroup").write_text("{}")
    with pytest.raises(DataError, match=r"(?s)Zarr.*day2.nwb"):
        read_session(recordings(tmp_path)[1].source)


@pytest.mark.parametrize("tool", ["datalad", "git annex", "git lfs"])
def test_files_that_were_not_fetched_are_named_with_a_command_that_fetches_them(
    recording, tmp_path, monkeypatch, tool, world
):
    """The command as the message gives it, run by a shell from where the person is; the tools
    themselves are stand-ins."""
    home = tmp_path / "data set"
    recording(home / "sub-a" / "day1.nwb")
    left = [home / "sub-a" / "day 2.nwb", home / "sub-b" / "day3.nwb"]
    left[1].parent.mkdir()
    subprocess.run(["git", "init", "-q", home], check=True)
    key = "annex/objects/Xx/Yy/SHA256E-s9--0/SHA256E-s9--0.nwb"
    if tool == "git lfs":
        for each in left:
            each.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    else:
        left[0].write_text(f"/{key}\n")  # unlocked
        left[1].symlink_to(f"../.git/{key}")
    if tool == "datalad":
        (home / ".datalad").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="not fetched yet") as error:
        recordings("data set")
    assert all(str(each.relative_to(tmp_path)) in str(error.value) for each in left)
    assert "2 of 3 files" in str(error.value)
    command = shlex.split(error.value.remedy)
    (tmp_path / "bin").mkdir()
    for name in ("datalad", "git-annex", "git-lfs"):
        (tmp_path / "bin" / name).write_text(
            TOOL.replace('"$@"', '$(echo "$@" | tr , " ")') if name == "git-lfs" else TOOL
        )
        (tmp_path / "bin" / name).chmod(0o755)
    if tool == "git lfs":
        assert command[:5] == ["git", "-C", "data set", "lfs", "pull"]
        assert command[-1].split(",") == ["sub-a/day 2.nwb", "sub-b/day3.nwb"]
        return
    if tool == "datalad":  # its own -C, which the stand-in has not
        assert command[:4] == ["datalad", "-C", "data set", "get"]
        error.value.remedy = error.value.remedy.replace(
            "datalad -C 'data set'", "cd 'data set' && datalad"
        )
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "GOOD": str(world.files[1]),
    }
    subprocess.run(error.value.remedy, shell=True, check=True, env=environment)
    keys = {each.source.name: read_session(each.source).key for each in recordings("data set")}
    assert (
        keys["day 2.nwb"]
        == keys["day3.nwb"]
        == read_session(world.files[1]).key
        != keys["day1.nwb"]
    )


def test_a_link_to_nowhere_is_named_with_where_it_leads(recording, tmp_path):
    recording(tmp_path / "day1.nwb")
    (tmp_path / "day2.nwb").symlink_to("moved/away.nwb")
    with pytest.raises(DataError, match=r"(?s)day2.nwb.*moved/away.nwb"):
        recordings(tmp_path)
    with pytest.raises(DataError, match=r"(?s)day2.nwb.*moved/away.nwb"):
        read_session(tmp_path / "day2.nwb")


def test_a_model_that_was_not_fetched_is_named_with_its_command(tmp_path, world):
    (tmp_path / "annotated.nwb").symlink_to(".git/annex/objects/Xx/Yy/K/K.nwb")
    with pytest.raises(
        ModelFileError, match=r"(?s)not fetched yet.*git -C \S+ annex get annotated.nwb"
    ):
        metadyn.infer(tmp_path / "annotated.nwb", world.files[0])


def test_a_link_to_a_model_folder_is_that_model(tmp_path, world):
    (tmp_path / "model").symlink_to(world.model)
    assert (
        metadyn.load_model(tmp_path / "model").file().digest
        == metadyn.load_model(world.model).file().digest
    )


@pytest.mark.parametrize(
    "given",
    [
        tuple,
        iter,
        np.array,
        lambda p: dict(enumerate(p)).values(),
        lambda p: (each for each in p),
        pd.Series,
    ],
)
def test_any_iterable_of_paths_is_taken_in_its_order(world, given):
    paths = [str(world.files[place]) for place in (2, 0, 1)]
    assert [str(each.source) for each in recordings(given(paths))] == paths


def test_a_set_is_taken_in_the_order_of_names_whatever_hashes_say(world):
    assert [each.source for each in recordings(set(map(Path, world.files)))] == sorted(world.files)


def test_home_is_where_a_tilde_says(recording, tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("HOME", str(tmp_path))
    file = recording(tmp_path / "raw" / "day1.nwb")
    assert single("~/raw").source == file
    assert (single("mine=~/raw/day1.nwb").name, single("mine=~/raw/day1.nwb").source) == (
        "mine",
        file,
    )
    key = metadyn.fit("~/raw", "~/model", tiny).sessions[0].key
    assert metadyn.read_session("~/raw/day1.nwb").key == key
    (written,) = metadyn.annotate("~/model", "~/raw", "~/out")
    assert written == tmp_path / "out" / "day1.nwb"
    assert metadyn.load_model("~/out/day1.nwb").sessions[0].key == key


@pytest.mark.parametrize("given", [3, None, [["a.nwb"]], [b"a.nwb"], [], iter(())])
def test_what_is_no_recording_is_refused_in_words(given):
    with pytest.raises(ConfigError, match="no recording"):
        recordings(given)


def test_numbers_of_numpy_mean_the_decimals_that_they_were_written_as(world):
    session = read_session(world.files[0])
    options = {"align": "start_time", "n_bins": 30, "start": 0.1, "bin_width": 0.03}
    expected = metadyn.bin_spikes(session, **options)
    given = {
        **options,
        "n_bins": np.int16(30),
        "start": np.float32(0.1),
        "bin_width": np.float32(0.03),
    }
    for found in (
        metadyn.bin_spikes(session, **given),
        metadyn.bin_spikes(session, **_config(given)),
    ):
        np.testing.assert_array_equal(found.windows.start, expected.windows.start)
        np.testing.assert_array_equal(found.counts, expected.counts)


def _config(options: dict) -> dict:
    return metadyn.load_config(data=options).data.model_dump(exclude={"preset"}, exclude_none=True)


@pytest.fixture
def mixed(recording, tmp_path):
    """A folder of two good recordings and, between them, one that is damaged and one that was never
    fetched."""
    recording(tmp_path / "raw" / "a.nwb", 0)
    recording(tmp_path / "raw" / "d.nwb", 1)
    (tmp_path / "raw" / "b.nwb").write_bytes(b"no HDF5")
    (tmp_path / "raw" / "c.nwb").symlink_to("../.git/annex/objects/K/K.nwb")
    return tmp_path / "raw"


LISTED = pytest.mark.filterwarnings(
    r"default:\d recordings left out"
)  # which the commands show as a note
FEW = (
    "--steps",
    3,
    "--pretrain-steps",
    2,
    "--latent-hidden",
    4,
    "--readin-hidden",
    4,
    "--hidden",
    4,
    4,
)


@LISTED
def test_bad_files_are_left_out_where_that_is_asked_for_and_listed_with_the_reason(
    run, mixed, tmp_path, world
):
    model = tmp_path / "model"
    assert run("fit", mixed, "-o", model, *FEW).exit_code == 1
    assert not model.exists()
    done = run("fit", mixed, tmp_path / "nowhere.nwb", "-o", model, *FEW, "--skip-bad")
    assert done.exit_code == 0, done.stderr
    listed = done.stderr[done.stderr.index("3 recordings left out") :]
    assert (
        "b.nwb: not a readable HDF5 file" in listed,
        "annex get" in listed,
        "nowhere.nwb" in listed,
    ) == (True,) * 3
    assert done.stdout.splitlines()[-1].endswith(" --skip-bad"), (
        "or the command of the verdict stops at the same files"
    )
    found, expected = (
        metadyn.load_model(model),
        metadyn.fit(world.files[:2], None, _settings()),
    )  # of the good ones alone
    weights = expected.module.state_dict()
    assert all(
        torch.equal(value, weights[name]) for name, value in found.module.state_dict().items()
    )
    done = run("annotate", model, mixed, world.files[2], "-o", tmp_path / "out", "--skip-bad")
    assert done.exit_code == 0, done.stderr
    assert [Path(line).name for line in done.stdout.split()] == ["a.nwb", "d.nwb"]
    assert "metadyn align" in done.stderr[done.stderr.index("3 recordings left out") :]
    done = run("score", model, mixed, "--all-windows", "--skip-bad")
    assert done.exit_code == 0, done.stderr
    assert "2 recordings left out" in done.stderr
    assert all(entry.key in done.stdout for entry in metadyn.load_model(model).sessions)


def _settings():
    return metadyn.load_config(
        training={"steps": 3, "pretrain_steps": 2},
        model={"latent_hidden": 4, "readin_hidden": 4, "hidden": (4, 4)},
    )


@LISTED
def test_where_all_files_are_bad_each_reason_is_told_and_nothing_is_written(run, mixed, tmp_path):
    for command in (
        ("fit", mixed / "b.nwb", mixed / "c.nwb", "-o", tmp_path / "model"),
        ("score", mixed, mixed / "b.nwb"),
    ):
        done = run(*command, "--skip-bad")
        assert done.exit_code == 1
    done = run("fit", mixed / "b.nwb", mixed / "c.nwb", "-o", tmp_path / "model", "--skip-bad")
    assert "no recording is left" in done.stderr
    assert ("not a readable HDF5 file" in done.stderr, "annex get" in done.stderr) == (True, True)
    assert not (tmp_path / "model").exists()


def test_what_was_asked_for_wrongly_is_no_fault_of_a_file(run, world, tmp_path):
    done = run(
        "annotate", world.model, *world.files[:2], "-o", tmp_path, "--skip-bad", "--bin-width", 0.5
    )
    assert (done.exit_code, "ConfigError" in done.stderr) == (2, True)
