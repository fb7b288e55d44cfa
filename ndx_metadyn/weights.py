"""Weights without code: bytes and JSON of a file are checked before anything is allocated or built.

A stored model names its architecture; what may be built from it is looked up in a registry here,
never imported by a name that a file gives. Layout of the bytes: the safetensors format (8-byte
little-endian header length, JSON header, data).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_BYTES = 500_000_000  # refuse: a larger model belongs at a checkpoint URI, not in every file
WARN_BYTES = 50_000_000  # warn: the model outweighs many a recording's units table
MAX_HEADER_BYTES = 16_000_000  # some 100 bytes a tensor: room for 100,000 tensors
MAX_CONFIG_CHARACTERS = 16_000_000  # some 10 characters a unit: room for a million units
BYTES_OF_DTYPE = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F16": 2,
    "I16": 2,
    "U16": 2,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F64": 8,
    "I64": 8,
    "U64": 8,
}
# Keys by which frameworks import code; any key that starts with "_" counts as one
CODE_KEYS = frozenset({"class_path", "import_path", "py/object", "py/type", "callable"})

Builder = Callable[[dict, dict[str, np.ndarray]], Any]
ARCHITECTURES: dict[str, Builder] = {}


class WeightsError(ValueError):
    """A stored model is damaged, hostile or of an unknown architecture.

    Parameters
    ----------
    problem : what is wrong, in a sentence.
    found, expected, remedy : shown on lines of their own where they are not None.

    >>> print(WeightsError("truncated weights", found="3 bytes", expected="8 or more"))
    truncated weights
      found: 3 bytes
      expected: 8 or more
    """

    def __init__(
        self,
        problem: str,
        *,
        found: object = None,
        expected: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = problem
        self.found = found
        self.expected = expected
        self.remedy = remedy
        details = [("found", found), ("expected", expected), ("try", remedy)]
        lines = [f"  {name}: {text}" for name, text in details if text is not None]
        super().__init__("\n".join([problem, *lines]))


class NoTwinError(WeightsError):
    """A stored model says what it is made of, and a part of it has no numpy form here."""


def register_architecture(name: str) -> Callable[[Builder], Builder]:
    """Decorator: `builder(config, tensors)` makes the numpy model of architecture `name`.

    config : dict of `parse_config`; tensors : arrays by name of `parse_tensors`.
    """

    def register(builder: Builder) -> Builder:
        ARCHITECTURES[name] = builder
        return builder

    return register


def build(architecture: str | None, config: dict, tensors: dict[str, np.ndarray]) -> Any:
    """The numpy model that is registered for `architecture`.

    Parameters
    ----------
    config, tensors : as `parse_config` and `parse_tensors` return them.

    Raises
    ------
    WeightsError : nothing is registered under that name, or config and tensors do not fit.
    """
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            "unknown model architecture",
            found=repr(architecture),
            expected=", ".join(sorted(ARCHITECTURES)),
            remedy="install the package that registers it with "
            "ndx_metadyn.weights.register_architecture",
        )
    return ARCHITECTURES[architecture](config, tensors)


def digest_of(data: bytes) -> str:
    """'sha256:<hex>' of the bytes.

    >>> digest_of(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_digest(data: bytes, digest: str) -> None:
    """Raise WeightsError unless `digest` is 'sha256:<hex>' (in any case) and that of the bytes."""
    algorithm = digest.partition(":")[0]
    if algorithm != "sha256":
        raise WeightsError("digest of an unknown kind", found=repr(digest), expected="sha256:<hex>")
    if digest_of(data) != digest.lower():
        raise WeightsError(
            "the stored weights are not the bytes that the digest was taken of",
            found=digest_of(data),
            expected=digest,
            remedy="fetch the file again, or the checkpoint from checkpoint_uris",
        )


def check_size(n_bytes: int, limit: int = MAX_BYTES) -> None:
    """Raise WeightsError where there are more bytes than `limit`."""
    if n_bytes > limit:
        raise WeightsError(
            "the weights are larger than the limit",
            found=f"{n_bytes:,} bytes",
            expected=f"at most {limit:,} bytes",
            remedy="raise max_bytes if you trust the file, or keep the checkpoint at a URI "
            "(checkpoint_uris)",
        )


def read_header(data: bytes) -> dict[str, dict]:
    """The header of a safetensors file, checked against the length of the bytes.

    No tensor is allocated.

    Returns
    -------
    dict of tensor name -> {dtype, shape, data_offsets}.

    Raises
    ------
    WeightsError : the bytes are truncated, or the header lies about types, shapes or offsets.
    """
    if len(data) < 8:
        raise WeightsError(
            "truncated weights: no room for a header length",
            found=f"{len(data)} bytes",
            expected="8 or more",
        )
    length = int.from_bytes(data[:8], "little")
    most = min(MAX_HEADER_BYTES, len(data) - 8)
    if length > most:
        raise WeightsError(
            "truncated or oversized header of the weights",
            found=f"{length:,} bytes",
            expected=f"at most {most:,}",
        )
    header = _json_object(data[8 : 8 + length], "header of the weights")
    header.pop("__metadata__", None)
    _check_layout(header, len(data) - 8 - length)
    return header


def _check_layout(header: dict, n_bytes: int) -> None:
    """Tensors must fill the `n_bytes` of data end to end: no hole, no overlap, nothing beyond."""
    for name, entry in header.items():
        _check_entry(name, entry)
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end:
            raise WeightsError(
                f"tensor {name!r} overlaps another or leaves a hole",
                found=f"offset {start}",
                expected=f"offset {end}",
            )
        end = stop
    if end != n_bytes:
        raise WeightsError(
            "truncated or padded weights", found=f"{n_bytes:,} bytes of data", expected=f"{end:,}"
        )


def _check_entry(name: str, entry: Any) -> None:
    """A tensor's dtype is known, and its shape takes as many bytes as its offsets leave."""
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(dtype, str) or dtype not in BYTES_OF_DTYPE:
        raise WeightsError(
            f"tensor {name!r} has no dtype that numpy holds",
            found=repr(entry)[:200],
            expected=", ".join(BYTES_OF_DTYPE),
        )
    shape = entry.get("shape")
    offsets = entry.get("data_offsets")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise WeightsError(
            f"tensor {name!r} has no valid shape or offsets",
            found=f"shape {shape!r}, offsets {offsets!r}"[:200],
        )
    claimed = math.prod(shape) * BYTES_OF_DTYPE[dtype]
    stored = offsets[1] - offsets[0]
    if claimed != stored:
        raise WeightsError(
            f"the shape of tensor {name!r} lies",
            found=f"{shape} = {claimed:,} bytes",
            expected=f"{stored:,} bytes",
        )


def _are_counts(values: Any) -> bool:
    """Whether these are at most 32 (numpy's most axes) whole numbers, none negative."""
    if not isinstance(values, list) or len(values) > 32:
        return False
    return all(type(value) is int and 0 <= value < 2**63 for value in values)


def parse_tensors(data: bytes, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name, each in its stored dtype and in memory of its own.

    Raises
    ------
    WeightsError : more than `max_bytes`, or no valid file; raised before anything is allocated.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    check_size(len(data), max_bytes)
    read_header(data)
    try:
        return load(data)
    except SafetensorError as error:
        raise WeightsError("the weights are no safetensors file", found=error) from None


def parse_config(text: str) -> dict:
    """The model configuration.

    Raises
    ------
    WeightsError : the text is no JSON object, too large, or has a key that names code to import.

    >>> parse_config('{"bin_width": 0.05}')
    {'bin_width': 0.05}
    """
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise WeightsError(
            "the model config is too large",
            found=f"{len(text):,}",
            expected=f"at most {MAX_CONFIG_CHARACTERS:,} characters",
        )
    config = _json_object(text, "model config")
    _refuse_code(config)
    return config


def _json_object(text: str | bytes, what: str) -> dict:
    """The JSON object in a text; WeightsError, which calls it `what`, where there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"the {what} is not JSON",
            found=f"{type(error).__name__}: {error}"[:200],
            expected="a JSON object",
        ) from None
    if not isinstance(value, dict):
        raise WeightsError(
            f"the {what} is not a JSON object", found=type(value).__name__, expected="a JSON object"
        )
    return value


def _refuse_code(config: dict) -> None:
    """Raise WeightsError for a key, at any depth, that frameworks take as "import this"."""
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            _check_keys(value)
        inner = value.values() if isinstance(value, dict) else value
        waiting += [item for item in inner if isinstance(item, dict | list)]


def _check_keys(settings: dict) -> None:
    """Raise WeightsError where a key of these settings names code."""
    for key, value in settings.items():
        if key.startswith("_") or key in CODE_KEYS:
            raise WeightsError(
                "the model config names code to import; nothing was imported",
                found=f"{key} = {value!r}"[:200],
                expected="plain settings, with the architecture named by the attribute "
                "'architecture'",
            )
