"""Bytes from a stranger: each lie is found before anything is allocated, built or imported."""

import json
import tracemalloc

import numpy as np
import pytest
from hdmf.backends.hdf5 import H5DataIO
from pynwb import NWBHDF5IO
from safetensors.numpy import save

from ndx_metadyn import LatentDynamicsModel, WeightsError, rollout, weights
from ndx_metadyn.testing.mock import (
    mock_LatentDynamicsModel,
    mock_NWBFile,
    mock_settings,
    mock_tensors,
)

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(4, dtype=np.int64)}
GOOD = save(TENSORS)


def packed(header, data=b""):
    """Bytes with a header of our own making."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def model_of(data, config='{"format": 1}', architecture="MetaSSM", digest=None):
    return LatentDynamicsModel(
        description="d",
        architecture=architecture,
        weights=np.frombuffer(data, np.uint8),
        config=config,
        digest=digest,
    )


def test_tensors_are_those_that_were_saved():
    model = LatentDynamicsModel.from_safetensors(GOOD, {"format": 1}, "d", "MetaSSM")
    assert model.weights_bytes() == GOOD
    assert {name: array.tolist() for name, array in model.tensors().items()} == {
        k: v.tolist() for k, v in TENSORS.items()
    }


def test_bytes_and_path_give_the_same_model(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(GOOD)
    models = [
        LatentDynamicsModel.from_safetensors(source, {}, "d", "MetaSSM")
        for source in (GOOD, bytearray(GOOD), path, str(path))
    ]
    assert len({(model.digest, model.weights_bytes()) for model in models}) == 1


def test_a_changed_byte_is_found_and_both_digests_are_named():
    damaged = bytearray(GOOD)
    damaged[-1] ^= 1
    model = model_of(bytes(damaged), digest=weights.digest_of(GOOD))
    for read in (model.verify, model.tensors):
        with pytest.raises(WeightsError, match="not the bytes") as caught:
            read()
        assert caught.value.found == weights.digest_of(bytes(damaged))
        assert caught.value.expected == weights.digest_of(GOOD)


@pytest.mark.parametrize("digest", ["md5:00", "sha256", "", weights.digest_of(GOOD)[7:]])
def test_a_digest_of_another_kind_is_refused(digest):
    with pytest.raises(WeightsError, match=r"unknown kind|not the bytes"):
        weights.check_digest(GOOD, digest)


def test_digest_survives_the_file(tmp_path):
    path, nwbfile = tmp_path / "m.nwb", mock_NWBFile()
    model = mock_LatentDynamicsModel()
    data = model.weights_bytes()
    nwbfile.create_processing_module("ecephys", "m").add(model)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    with NWBHDF5IO(str(path), "r") as io:
        stored = io.read().processing["ecephys"]["LatentDynamicsModel"]
        stored.verify()
        assert stored.weights_bytes() == data
        assert stored.weights.attrs["format"] == "safetensors"
        assert (stored.weights.compression, stored.weights.dtype) == ("gzip", np.uint8)


HOSTILE = {
    "nothing": b"",
    "no room for a length": b"\x01\x02",
    "truncated header": GOOD[:20],
    "truncated data": GOOD[:-1],
    "bytes after the end": GOOD + b"\x00",
    "header length of 2**63": (2**63).to_bytes(8, "little") + GOOD[8:],
    "header one byte too long": (len(GOOD) - 7).to_bytes(8, "little") + GOOD[8:],
    "header that is no JSON": packed(b"{not json"),
    "header that is no text": packed(b"\xff\xfe\x00"),
    "header that is a list": packed([]),
    "header nested too deep": packed(b'{"a":' + b"[" * 100_000),
    "shape larger than its bytes": packed({"a": entry([10**6, 10**6], [0, 4])}, bytes(4)),
    "shape whose product overflows": packed({"a": entry([2**62, 4], [0, 0])}),
    "negative shape": packed({"a": entry([-1, -4], [0, 16])}, bytes(16)),
    "shape of floats": packed({"a": entry([1.0], [0, 4])}, bytes(4)),
    "shape of booleans": packed({"a": entry([True], [0, 4])}, bytes(4)),
    "shape of text": packed({"a": entry("1", [0, 4])}, bytes(4)),
    "offsets beyond the end": packed({"a": entry([4], [0, 16])}, bytes(4)),
    "offsets in reverse": packed({"a": entry([1], [4, 0])}, bytes(4)),
    "overlapping tensors": packed({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}, bytes(4)),
    "hole between tensors": packed({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, bytes(12)),
    "dtype that is no number": packed({"a": entry([1], [0, 4], "object")}, bytes(4)),
    "dtype that numpy lacks": packed({"a": entry([2], [0, 4], "BF16")}, bytes(4)),
    "dtype that is no word": packed({"a": entry([1], [0, 4], [])}, bytes(4)),
    "entry that is no object": packed({"a": 1}),
    "pickle": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_refused_without_allocating_what_they_claim(data):
    with pytest.raises(WeightsError):
        weights.read_header(data)  # our own checks, before the library's
    tracemalloc.start()
    with pytest.raises(WeightsError):
        model_of(data, digest=weights.digest_of(data)).tensors()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    with pytest.raises(WeightsError):
        LatentDynamicsModel.from_safetensors(data, {}, "d", "MetaSSM")


def test_header_longer_than_the_limit_is_not_parsed(monkeypatch):
    assert weights.read_header(GOOD).keys() == TENSORS.keys()
    monkeypatch.setattr(weights, "MAX_HEADER_BYTES", int.from_bytes(GOOD[:8], "little") - 1)
    with pytest.raises(WeightsError, match="oversized header"):
        weights.read_header(GOOD)


def test_what_only_the_library_refuses_is_refused_in_our_words():
    with pytest.raises(WeightsError, match="no safetensors file"):
        weights.parse_tensors(packed({"__metadata__": 1, "a": entry([1], [0, 4])}, bytes(4)))


def test_empty_and_scalar_tensors_are_no_lies():
    odd = {
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(2.0, np.float32),
        "none": np.zeros((3, 0), np.float64),
    }
    assert {k: v.shape for k, v in weights.parse_tensors(save(odd)).items()} == {
        k: v.shape for k, v in odd.items()
    }


@pytest.mark.parametrize("architecture", ["os.system", "torch.nn.Linear", None])
def test_unknown_architecture_names_those_there_are(architecture):
    with pytest.raises(WeightsError, match="unknown model architecture") as caught:
        rollout(model_of(GOOD, architecture=architecture), np.zeros(2), np.zeros(2), 1, "mock-0")
    assert "MetaSSM" in caught.value.expected


@pytest.mark.parametrize("key", ["_target_", "__reduce__", "class_path", "py/object"])
@pytest.mark.parametrize("place", [lambda c: c, lambda c: c["model"], lambda c: c["sessions"][1]])
def test_config_that_names_code_is_refused_wherever_it_stands(key, place):
    config = mock_settings()
    place(config)[key] = "os.system"
    with pytest.raises(WeightsError, match="names code to import"):
        rollout(
            model_of(save(mock_tensors(mock_settings())), json.dumps(config)),
            np.zeros(2),
            np.zeros(2),
            1,
            "mock-0",
        )
    with pytest.raises(WeightsError, match="names code to import"):
        LatentDynamicsModel.from_safetensors(GOOD, config, "d", "MetaSSM")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "[" * 100_000, " " * (weights.MAX_CONFIG_CHARACTERS + 1)]
)
def test_config_that_is_no_bounded_object_is_refused(text):
    with pytest.raises(WeightsError):
        weights.parse_config(text)


def test_config_nested_as_deep_as_json_goes_is_still_searched():
    depth = 500
    text = '{"a":' * depth + '{"_target_": "os.system"}' + "}" * depth
    with pytest.raises(WeightsError, match="names code to import"):
        weights.parse_config(text)


@pytest.mark.parametrize("values", [np.zeros((1, 10**6), np.uint8), np.zeros(10, np.float64)])
def test_weights_that_are_no_row_of_bytes_are_refused(values):
    with pytest.raises(WeightsError, match="no row of bytes"):
        LatentDynamicsModel(description="d", weights=values).weights_bytes()


def test_a_model_without_weights_says_where_they_may_be():
    model = LatentDynamicsModel(description="d", checkpoint_uris=["https://example.org/m"])
    with pytest.raises(WeightsError, match="stored without weights") as caught:
        model.tensors()
    assert "https://example.org/m" in caught.value.found


def test_large_weights_warn_and_larger_ones_are_refused_on_the_way_in_and_out(monkeypatch):
    monkeypatch.setattr(weights, "WARN_BYTES", 100)
    with pytest.warns(UserWarning, match="bytes to every file"):
        model = LatentDynamicsModel.from_safetensors(GOOD, {}, "d", "MetaSSM")
    with pytest.raises(WeightsError, match="larger than the limit"):
        model.tensors(max_bytes=100)
    with pytest.raises(WeightsError, match="larger than the limit"):
        LatentDynamicsModel.from_safetensors(GOOD, {}, "d", "MetaSSM", max_bytes=100)


def test_a_compression_bomb_is_refused_by_its_length_before_it_is_read(tmp_path):
    path, nwbfile = tmp_path / "bomb.nwb", mock_NWBFile()
    bomb = H5DataIO(np.zeros(30_000_000, np.uint8), compression="gzip", chunks=True)
    nwbfile.create_processing_module("ecephys", "m").add(
        LatentDynamicsModel(description="d", weights=bomb)
    )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwbfile)
    assert path.stat().st_size < 2_000_000
    with NWBHDF5IO(str(path), "r") as io:
        stored = io.read().processing["ecephys"]["LatentDynamicsModel"]
        tracemalloc.start()
        with pytest.raises(WeightsError, match="30,000,000 bytes"):
            stored.tensors(max_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()
