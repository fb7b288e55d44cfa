"""Files on the net, from a real server that counts what it sends: little is read, and connections
that break are survived."""

import hashlib
import os
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries

from metadyn.data.binning import bin_spikes
from metadyn.errors import DataError, RemoteError
from metadyn.nwb import remote
from metadyn.nwb.addresses import _asset_of, assets, dandi_address, is_address, located
from metadyn.nwb.derive import describe_origin
from metadyn.nwb.read import read_session
from metadyn.nwb.remote import BLOCK_BYTES, RemoteFile, download
from metadyn.pipeline.describe import describe

RAW = (2**29 // 64, 64)  # 1 GiB of int16


@pytest.fixture
def recording(new_nwb, add_trials, save):
    """40 units with 200 spikes each, 50 trials, and a gigabyte of raw voltage, of which the disk
    sees nothing."""
    times = np.sort(np.random.default_rng(0).uniform(0, 100, (40, 200)))
    nwbfile = add_trials(new_nwb(list(times)), np.arange(50) * 2.0)
    nwbfile.add_acquisition(
        TimeSeries(name="voltage", data=np.zeros((2, 64), np.int16), unit="V", rate=30000.0)
    )
    path = save(nwbfile, "raw.nwb")
    with h5py.File(path, "r+") as file:
        kept = dict(file["acquisition/voltage/data"].attrs)
        del file["acquisition/voltage/data"]
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple(RAW)
        h5py.h5d.create(
            file["acquisition/voltage"].id, b"data", h5py.h5t.NATIVE_INT16, space, layout
        )
        for name, value in kept.items():
            file["acquisition/voltage/data"].attrs[name] = value
    assert path.stat().st_size > 2**30
    assert path.stat().st_blocks * 512 < 2**24
    return path


def test_units_and_trials_are_read_with_less_than_a_fiftieth_of_the_file(recording, serve):
    server = serve(recording.parent)
    session = read_session(f"{server.url}/raw.nwb")
    assert server.sent < 0.02 * recording.stat().st_size
    ours, whole = bin_spikes(session), bin_spikes(read_session(recording))
    np.testing.assert_array_equal(ours.counts, whole.counts)
    assert ours.counts.sum() > 1000
    assert describe(f"{server.url}/raw.nwb").n_units == 40
    assert server.sent < 0.02 * recording.stat().st_size


def test_what_was_read_once_comes_from_the_cache(recording, serve):
    server = serve(recording.parent)
    read_session(f"{server.url}/raw.nwb")
    before, n_before = server.sent, len(server.requests)
    read_session(f"{server.url}/raw.nwb")
    assert (
        server.sent - before == len(server.requests) - n_before <= 2
    )  # a byte each, to see whether the file is the same


def test_a_file_that_was_changed_is_fetched_anew(new_nwb, save, serve):
    path = save(new_nwb())
    server = serve(path.parent)
    assert read_session(f"{server.url}/small.nwb").n_units == 2
    save(new_nwb(spikes=[[0.1, 0.2]] * 5))
    assert read_session(f"{server.url}/small.nwb").n_units == 5


def test_a_file_that_changes_while_it_is_read_is_not_a_mixture_of_two(noise, serve):
    server = serve(noise.parent)
    with RemoteFile(located(f"{server.url}/noise.bin")) as file:
        file.read(10)
        noise.write_bytes(bytes(noise.stat().st_size))
        os.utime(noise, ns=(0, 0))
        with pytest.raises(RemoteError, match="changed while it was read"):
            file.read()


@pytest.fixture
def noise(tmp_path):
    """A file of a few blocks and a bit."""
    path = tmp_path / "noise.bin"
    path.write_bytes(np.random.default_rng(0).bytes(3 * BLOCK_BYTES + 1000))
    return path


@pytest.mark.parametrize("trouble", [["cut"], [503, "cut", 503], [429, 502, 504]])
def test_connections_that_break_are_survived(noise, serve, trouble):
    server = serve(noise.parent)
    with RemoteFile(located(f"{server.url}/noise.bin")) as file:
        server.trouble = list(trouble)
        assert file.read() == noise.read_bytes()
    assert server.trouble == []


def test_a_server_that_falls_silent_is_asked_again(noise, serve, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT", 0.5)
    server = serve(noise.parent)
    with RemoteFile(located(f"{server.url}/noise.bin")) as file:
        server.trouble = ["silent"]
        assert file.read() == noise.read_bytes()


def test_any_stretch_of_a_file_is_what_it_is_on_disk(noise, serve):
    """Of bytes at random, across the borders of blocks and behind the end; each block is sent
    once."""
    server = serve(noise.parent)
    whole = noise.read_bytes()
    with RemoteFile(located(f"{server.url}/noise.bin")) as file:
        for start, length in (
            np.random.default_rng(1)
            .integers(0, (len(whole) + 10, 2 * BLOCK_BYTES), (200, 2))
            .tolist()
        ):
            file.seek(start)
            assert file.read(length) == whole[start : start + length]
    assert server.sent == len(whole) + 1


@pytest.mark.parametrize(
    ("trouble", "words"), [(503, "503"), ("cut", "IncompleteRead|closed connection|reset")]
)
def test_a_connection_that_stays_broken_is_said_with_the_address_and_a_remedy(
    recording, serve, trouble, words, caplog
):
    """And the same command goes on from there when the server is well again; nothing false is in
    the cache."""
    server = serve(recording.parent)
    server.trouble = [None, None]
    server.always = trouble
    with pytest.raises(RemoteError, match="did not come back") as caught:
        read_session(f"{server.url}/raw.nwb?token=secret")
    assert str(caught.value.file) == f"{server.url}/raw.nwb"
    assert re.search(words, str(caught.value))
    assert "what was fetched is kept" in str(caught.value)
    assert "secret" not in str(caught.value) + caplog.text
    assert len(server.requests) < 2 + 2 * (
        remote.TRIES + 1
    )  # a failure is not tried for every object of the file
    server.always = None
    assert read_session(f"{server.url}/raw.nwb").n_units == 40


def test_an_address_may_lead_to_another(noise, serve):
    """As those of DANDI's archive lead to its storage."""
    server = serve(noise.parent)
    with RemoteFile(located(f"{server.url}/moved/noise.bin")) as file:
        assert file.read() == noise.read_bytes()


def test_a_server_that_is_gone_is_said(serve, tmp_path):
    address = serve(tmp_path).url.rpartition(":")[0] + ":9/some.nwb"
    with pytest.raises(RemoteError, match="refused"):
        read_session(address)


@pytest.mark.parametrize(("status", "remedy"), [(404, "check the address"), (403, "token")])
def test_what_the_server_refuses_is_not_tried_again(noise, serve, status, remedy):
    server = serve(noise.parent)
    server.always = status
    with pytest.raises(RemoteError, match=remedy):
        RemoteFile(located(f"{server.url}/noise.bin"))
    assert len(server.requests) == 1


def test_a_server_without_ranges_is_not_asked_for_the_whole_file(noise, serve):
    server = serve(noise.parent)
    server.always = 200
    with pytest.raises(RemoteError, match="curl -O"):
        RemoteFile(located(f"{server.url}/noise.bin"))


def test_a_file_on_the_net_that_is_no_nwb_is_said(noise, serve):
    server = serve(noise.parent)
    with pytest.raises(DataError, match=r"not a readable HDF5 file(.|\n)*noise\.bin"):
        read_session(f"{server.url}/noise.bin")


def test_a_download_that_was_broken_off_goes_on_from_there(tmp_path, serve):
    whole = np.random.default_rng(0).bytes(remote.BLOCKS_A_REQUEST * BLOCK_BYTES + 5)
    (tmp_path / "large.bin").write_bytes(whole)
    server, target = serve(tmp_path), tmp_path / "here" / "large.bin"
    server.trouble = [None, None, *[503] * (remote.TRIES + 1)]
    with pytest.raises(RemoteError, match="the same command"):
        download(located(f"{server.url}/large.bin"), target)
    assert not target.exists()
    before = server.sent
    assert download(located(f"{server.url}/large.bin"), target).read_bytes() == whole
    assert server.sent - before == 1 + 5
    assert os.listdir(target.parent) == ["large.bin"]


def test_a_download_is_held_against_the_digest_of_the_archive(noise, serve, tmp_path):
    server = serve(noise.parent)
    (plain,) = assets(f"{server.url}/noise.bin")
    right = f"sha256:{hashlib.sha256(noise.read_bytes()).hexdigest()}"
    assert download(replace(plain, digest=right), tmp_path / "right").exists()
    with pytest.raises(RemoteError, match="digest"):
        download(replace(plain, digest=f"sha256:{'0' * 64}"), tmp_path / "wrong" / "noise.bin")
    assert os.listdir(tmp_path / "wrong") == []


def test_the_origin_of_a_derived_file_may_be_on_the_net(new_nwb, save, serve):
    """Its digest is what the archive says: to take it, all of it would have to be fetched."""
    path = save(new_nwb())
    (asset,) = assets(f"{serve(path.parent).url}/small.nwb?token=secret")
    here = describe_origin(path)
    there = describe_origin(replace(asset, digest=here["digest"]))
    assert there == {**here, "uri": asset.uri}
    assert "digest" not in describe_origin(asset)


def test_a_name_and_password_are_sent_and_not_told(noise, serve):
    server = serve(noise.parent)
    (asset,) = assets(
        server.url.replace("//", "//me:secret@") + "/noise.bin?X-Amz-Signature=abc&versionId=7#part"
    )
    with RemoteFile(asset) as file:
        assert file.read(10) == noise.read_bytes()[:10]
    assert server.requests[0]["Authorization"] == "Basic bWU6c2VjcmV0"
    assert asset.uri == f"{server.url}/noise.bin?versionId=7"
    assert "secret" not in repr(asset)
    assert not [
        path
        for path in noise.parent.rglob("*")
        if path.is_file() and b"secret" in path.read_bytes()
    ]


@pytest.fixture
def listed(monkeypatch):
    """listed(server, path, file) → an asset as dandi's client has it, whose bytes are a file on the
    server."""
    pytest.importorskip("dandi")
    monkeypatch.setenv("DANDI_NO_ET", "1")
    from dandi.consts import DandiInstance
    from dandi.dandiapi import BaseRemoteAsset, DandiAPIClient

    def make(server, path, file):
        client = DandiAPIClient(dandi_instance=DandiInstance("here", None, f"{server.url}/api"))
        now = datetime.now(UTC)
        data = {
            "asset_id": "12ab",
            "path": path,
            "size": file.stat().st_size,
            "created": now,
            "modified": now,
            "blob": "34cd",
        }
        urls = [f"{server.url}/api/assets/12ab/download/", f"{server.url}/{file.name}"]
        digest = {
            "dandi:dandi-etag": "0-1",
            "dandi:sha2-256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        return BaseRemoteAsset.from_base_data(client, data, {"contentUrl": urls, "digest": digest})

    return make


def test_an_asset_of_dandi_is_read_and_keeps_its_address_and_digest(new_nwb, save, serve, listed):
    path = save(new_nwb())
    server = serve(path.parent)
    asset = _asset_of(listed(server, "sub-A/sub-A_ecephys.nwb", path))
    session = read_session(asset)
    np.testing.assert_array_equal(session.spike_times, read_session(path).spike_times)
    assert session.source.uri == f"{server.url}/api/assets/12ab/download/"
    assert session.source.digest == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert str(asset.path) == "sub-A/sub-A_ecephys.nwb"


def test_an_address_that_dandi_does_not_know_is_said():
    pytest.importorskip("dandi")
    with pytest.raises(RemoteError, match="Unknown instance"):
        located("dandi://nowhere/000140/sub-A/sub-A.nwb")


def test_without_dandi_its_addresses_are_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dandi.dandiarchive", None)
    with pytest.raises(RemoteError, match=r"ndx-metadyn\[dandi\]"):
        located("dandi://DANDI:000140/sub-A/sub-A.nwb")


@pytest.mark.parametrize("path", ["../sub-A.nwb", "/etc/sub-A.nwb", "sub-A/../../sub-A.nwb"])
def test_a_path_that_leads_out_of_the_dandiset_is_refused(noise, serve, listed, path):
    with pytest.raises(RemoteError, match="leads out"):
        _asset_of(listed(serve(noise.parent), path, noise))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("000140", "dandi://dandi/000140"),
        ("DANDI:000140/0.220113.0408", "dandi://dandi/000140@0.220113.0408"),
        ("000140/sub-Jenkins", "dandi://dandi/000140/sub-Jenkins/"),
        ("dandi://DANDI:000140/sub-J/sub-J.nwb", "dandi://dandi/000140/sub-J/sub-J.nwb"),
        ("dandi://000140@draft/sub-J/sub-J.nwb", "dandi://dandi/000140@draft/sub-J/sub-J.nwb"),
        (
            "dandi://dandi-sandbox/000140/sub-J/sub-J.nwb",
            "dandi://dandi-sandbox/000140/sub-J/sub-J.nwb",
        ),
    ],
)
def test_addresses_are_turned_into_what_dandis_own_parser_understands(text, address):
    dandiarchive = pytest.importorskip("dandi.dandiarchive")
    assert dandi_address(text) == address
    pattern = next(
        regex
        for regex, _, _ in dandiarchive._dandi_url_parser.known_urls
        if regex.pattern.startswith("dandi://")
    )
    found = pattern.fullmatch(address)
    assert found["dandiset_id"] == "000140"
    assert not is_address("recordings/day1.nwb")
