"""Commands with an address in place of a path, from a real server on this machine; and where
results say they come from."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO

import metadyn
from metadyn.config import DataConfig
from metadyn.pipeline import inputs


@pytest.fixture
def net(journey, serve):
    """The journey's folder on the net: its `address(path)` has a token, as signed ones have."""
    server = serve(journey.folder)
    server.address = lambda path: (
        f"{server.url}/{Path(path).relative_to(journey.folder)}?token=secret"
    )
    return server


def sha256(path) -> str:
    return f"sha256:{hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


def latents(path):
    """The latents of a run, and the source that its parameters tell."""
    with NWBHDF5IO(str(path), "r") as io:
        run = io.read().processing["ecephys"]["LatentDynamics"]
        return run.latent_series["LatentSeries"].data[:], json.loads(run.parameters)


def assert_no_token(*folders):
    files = [path for folder in folders for path in Path(folder).rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"secret" in path.read_bytes()]


@pytest.mark.parametrize("derive", [(), ("--derive",)])
def test_a_recording_on_the_net_is_annotated_as_one_on_disk(
    journey, net, run, tmp_path, untouched, derive
):
    before, out = untouched(journey.folder), tmp_path / "out"
    written = run.worked(
        "annotate", journey.aligned, net.address(journey.files[2]), "-o", out, *derive
    ).strip()
    (ours, told), (others, _) = latents(written), latents(journey.annotated)
    np.testing.assert_array_equal(ours, others)
    for source in [told["source"], *([told["derived_from"]] if derive else [])]:
        assert source["uri"] == net.address(journey.files[2]).partition("?")[0]
        assert source["digest"] == sha256(journey.files[2])
    assert [path for path in out.rglob("*") if path.is_file()] == [Path(written)]
    assert untouched(journey.folder) == before
    assert_no_token(out, tmp_path / "cache")


def test_a_recording_on_the_net_is_not_replaced(journey, net, run):
    said = run.refused(
        "annotate", journey.aligned, net.address(journey.files[2]), "--in-place", code=2
    )
    assert "by -o" in said
    assert net.sent == 0


def test_what_cannot_be_written_is_said_before_a_download(journey, net, run, tmp_path):
    address = net.address(journey.annotated)
    key = metadyn.load_model(journey.aligned).sessions[2].key
    assert "--name LatentDynamics2" in run.refused(
        "annotate", journey.aligned, f"{key}={address}", "-o", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_a_model_in_somebodys_file_on_the_net_is_shown_and_aligned_to(journey, net, run, tmp_path):
    (mine,) = metadyn.simulate(
        "limit-cycle",
        tmp_path / "mine",
        parameters=[1.0],
        n_trials=6,
        n_bins=40,
        units=(5, 5),
        seed=9,
    )
    address, out = net.address(journey.annotated), tmp_path / "out"
    assert "MetaSSM" in run.worked("model", address)
    assert "model of 4 sessions" in run.worked(
        "align", address, f"mine={mine}", "-o", out, "--steps", 1
    )
    theirs, ours = metadyn.load_model(journey.aligned), metadyn.load_model(out)
    assert ours.sessions[:3] == theirs.sessions
    assert ours.sessions[3].source.digest == sha256(mine)
    for name, values in theirs.module.dynamics.state_dict().items():
        np.testing.assert_array_equal(ours.module.dynamics.state_dict()[name], values)
    assert_no_token(out, tmp_path / "cache")


def test_a_model_says_which_bytes_trained_it(journey, net, run, tmp_path):
    """Of files on disk; of those on the net only what the archive says, since all of them would
    have to be fetched."""
    said = run.worked("model", journey.annotated)
    assert all(sha256(path) in said for path in journey.files)
    run.worked(
        "fit",
        net.address(journey.files[0]),
        f"B={net.address(journey.files[1])}",
        "-o",
        tmp_path / "out",
        *run.haste,
    )
    first, second = metadyn.load_model(tmp_path / "out").sessions
    assert (first.source.uri, first.source.digest) == (
        net.address(journey.files[0]).partition("?")[0],
        None,
    )
    assert second.key == "B"
    assert_no_token(tmp_path / "out", tmp_path / "cache")


def test_files_are_fetched_once(journey, net, run, tmp_path):
    address = net.address(journey.files[0])
    fetched = run.worked("fetch", address, "-o", tmp_path / "fetched").strip()
    assert Path(fetched).read_bytes() == journey.files[0].read_bytes()
    before = net.sent
    run.worked("fetch", address, "-o", tmp_path / "fetched")
    assert net.sent == before
    assert "neither a dandiset nor an address" in run.refused(
        "fetch", "day1.nwb", "-o", tmp_path / "fetched", code=2
    )


def test_what_is_streamed_is_there_for_the_commands_that_follow(journey, net, run):
    address = net.address(journey.files[0])
    assert "units" in run.worked("fetch", address, "--stream")
    before, n_before = net.sent, len(net.requests)
    assert "metadyn fit" in run.worked("inspect", address)
    assert net.sent - before == len(net.requests) - n_before  # a byte each: is it the same file?


def test_an_annotated_file_on_the_net_is_derived(journey, net, run, tmp_path):
    target = tmp_path / "out" / "derived.nwb"
    said = run.worked("derive", net.address(journey.annotated), "-o", target)
    assert "left out: processing/ecephys/SimulatedLatents" in said
    origin = latents(target)[1]["derived_from"]
    assert origin["uri"] == net.address(journey.annotated).partition("?")[0]
    assert origin["digest"] == sha256(journey.annotated)
    assert_no_token(tmp_path / "out")


def test_what_is_packaged_is_on_disk(journey, net, run, tmp_path):
    assert "metadyn fetch" in run.refused(
        "package", net.address(journey.annotated), "-o", tmp_path / "dandiset", code=2
    )


def test_the_units_of_a_large_file_are_read_without_reading_all_of_it_for_its_digest(
    journey, monkeypatch
):
    recording = inputs.Recording(journey.files[0])
    assert inputs.read_counts(recording, DataConfig()).source.digest == sha256(journey.files[0])
    monkeypatch.setattr(inputs, "HASHED", journey.files[0].stat().st_size - 1)
    assert inputs.read_counts(recording, DataConfig()).source.digest is None


def test_a_recording_on_the_net_may_have_a_name_as_long_as_a_file_system_takes(
    journey, serve, run, tmp_path
):
    name = "sub-" + "x" * 235 + "_ecephys.nwb"
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / name).write_bytes(journey.files[2].read_bytes())
    address = f"{serve(tmp_path / 'net').url}/{name}"
    written = run.worked("annotate", journey.aligned, address, "-o", tmp_path / "out").strip()
    np.testing.assert_array_equal(latents(written)[0], latents(journey.annotated)[0])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
