"""What is done to a good file: each kind is a strategy of hypothesis, whose values are called with
the folder to spoil."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
from hypothesis import strategies as st

from ndx_metadyn.weights import digest_of
from tests.hostile.sandbox import CANARY
from tests.hostile.verbs import FILE, MODEL, PLAN

BILLION = 10**9
RUN, STORED = "processing/ecephys/LatentDynamics", "processing/ecephys/LatentDynamicsModel"
EVERY = (
    "inspect",
    "infer",
    "forecast",
    "model",
    "readers",
    "checks",
    "fit",
    "derive",
    "annotate",
    "resume",
    "align_to_it",
    "package",
)
OF_RECORDINGS = (
    "inspect",
    "infer",
    "forecast",
    "fit",
    "readers",
    "checks",
    "derive",
    "annotate",
    "align",
)
OF_MODELS = ("model", "readers", "infer", "forecast", "resume", "align_to_it")


@dataclass(frozen=True)
class Corruption:
    """What is spoilt how, and the verbs that then meet it, the quick ones first."""

    name: str
    spoil: st.SearchStrategy[Callable[[Path], None]]
    verbs: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Paths of what a good file holds, in order, so that a case can be tried again by its
    numbers."""

    datasets: tuple[str, ...]
    arrays: tuple[str, ...]  # of numbers, one or two axes
    floats: tuple[str, ...]
    texts: tuple[str, ...]
    rows: tuple[str, ...]  # regions and indices: numbers of rows
    groups: tuple[str, ...]
    float_attributes: tuple[tuple[str, str], ...]
    text_attributes: tuple[tuple[str, str], ...]
    references: tuple[tuple[str, str], ...]

    @staticmethod
    def of(path: Path) -> Layout:
        with h5py.File(path, "r") as file:
            items: dict[str, h5py.Group | h5py.Dataset] = {}
            file.visititems(
                lambda name, item: (
                    items.update({name: item}) if not name.startswith("specifications") else None
                )
            )
            sets = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
            attributes = [
                (name, key, item.attrs[key]) for name, item in items.items() for key in item.attrs
            ]
            types = {name: item.attrs.get("neurodata_type") for name, item in items.items()}
            return Layout(
                tuple(sets),
                tuple(
                    name
                    for name, each in sets.items()
                    if each.dtype.kind in "fiu" and each.ndim in (1, 2)
                ),
                tuple(name for name, each in sets.items() if each.dtype.kind == "f"),
                tuple(name for name, each in sets.items() if h5py.check_string_dtype(each.dtype)),
                tuple(
                    name
                    for name, each in types.items()
                    if each in ("DynamicTableRegion", "VectorIndex")
                ),
                tuple(name for name, item in items.items() if isinstance(item, h5py.Group)),
                tuple(
                    (name, key) for name, key, value in attributes if isinstance(value, np.floating)
                ),
                tuple(
                    (name, key)
                    for name, key, value in attributes
                    if isinstance(value, str) and key != "object_id"
                ),
                tuple(
                    (name, key)
                    for name, key, value in attributes
                    if isinstance(value, h5py.Reference)
                ),
            )


def corruptions(good: Path) -> dict[str, Corruption]:
    """All corruptions by name, for a good folder."""
    layout = Layout.of(good / FILE)
    made = (
        Corruption("bytes cut or flipped", damaged(), EVERY),
        Corruption("headers of safetensors", headers(), OF_MODELS),
        Corruption("settings of models", settings(), OF_MODELS),
        Corruption("shapes that lie", shapes(layout), EVERY),
        Corruption("claims of 1e9 rows", claims(layout), EVERY),
        Corruption("links", links(layout), EVERY),
        Corruption("NaN and inf", numbers(layout), EVERY),
        Corruption("rows out of range", out_of_range(layout), EVERY),
        Corruption("names", names(layout), EVERY),
        Corruption(
            "links in place of the target",
            targets(),
            ("annotate", "derive", "model", "fit", "package", "align"),
        ),
        Corruption("two processes at once", pairs(), ("annotate_twice",)),
    )
    return {kind.name: kind for kind in made}


# --- bytes


def damaged() -> st.SearchStrategy:
    """The end cut off, or some bytes changed; half of them in the first 16 KiB, where HDF5 keeps
    most of its structure."""
    share = st.floats(0, 1, exclude_max=True)
    place = share | st.integers(0, 2**14)
    return st.builds(partial, st.just(cut), share) | st.builds(
        partial,
        st.just(flip),
        st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=32),
    )


def cut(share: float, folder: Path) -> None:
    path = folder / FILE
    os.truncate(path, int(share * path.stat().st_size))


def flip(places: list, folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    for place, change in places:
        content[place if isinstance(place, int) else int(place * len(content))] ^= change
    (folder / FILE).write_bytes(content)


# --- stored models: bytes and settings


def headers() -> st.SearchStrategy:
    """Weights of the file and of the checkpoint, both spoilt alike, with a digest that fits."""
    length = st.sampled_from([0, 1, 7, 2**31, 2**40, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1)
    size = (
        st.integers(-(2**64), 2**64)
        | st.sampled_from([BILLION, 2**31, 2**62])
        | st.just("4")
        | st.none()
        | st.floats()
    )
    entry = st.fixed_dictionaries(
        {},
        optional={
            "dtype": st.sampled_from(
                ["F32", "F64", "BF16", "F8_E4M3", "I64", "BOOL", "", "object", 3, None, ["F32"]]
            ),
            "shape": st.lists(size, max_size=4) | size | st.just([1] * 100) | st.just([[1]]),
            "data_offsets": st.lists(size, max_size=3) | size,
        },
    )
    changes = (
        st.builds(partial, st.just(_cut_bytes), st.floats(0, 1, exclude_max=True)),
        st.builds(partial, st.just(_claim_length), length),
        st.builds(partial, st.just(_header_of), st.integers(0, 40), entry | size | st.lists(size)),
        st.builds(partial, st.just(_grow), st.integers(1, 2**21)),
        st.builds(
            partial,
            st.just(_other_bytes),
            st.binary(max_size=64) | st.sampled_from([DEEP, PICKLE, b"", bytes(8)]),
        ),
    )
    return st.builds(partial, st.just(_spoil_weights), st.one_of(changes))


def _spoil_weights(change: Callable[[bytes], bytes], folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        model = file[STORED]
        data = change(model["weights"][()].tobytes())
        attributes = dict(model["weights"].attrs)
        del model["weights"]
        model.create_dataset("weights", data=np.frombuffer(data, np.uint8)).attrs.update(attributes)
        model.attrs["digest"] = digest_of(data)
    for path in [*(folder / MODEL).glob("step-*/*.safetensors")]:
        path.write_bytes(change(path.read_bytes()))


def _cut_bytes(share: float, data: bytes) -> bytes:
    return data[: int(share * len(data))]


def _claim_length(length: int, data: bytes) -> bytes:
    return struct.pack("<Q", length) + data[8:]


def _header_of(which: int, entry, data: bytes) -> bytes:
    """One tensor's entry changed: the keys given, or all of it where `entry` is no dictionary."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if not header:
        return data
    name = sorted(header)[which % len(header)]
    header[name] = {**header[name], **entry} if isinstance(entry, dict) else entry
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _grow(more: int, data: bytes) -> bytes:
    """A header of many spaces, as safetensors allows, and more."""
    length = int.from_bytes(data[:8], "little")
    return (
        struct.pack("<Q", length + 16 * more)
        + data[8 : 8 + length]
        + b" " * (16 * more)
        + data[8 + length :]
    )


def _other_bytes(other: bytes, data: bytes) -> bytes:
    return other


class _Run:
    def __reduce__(self):
        return os.system, (f"python -c 'import {CANARY}'",)


PICKLE = pickle.dumps(_Run())
DEEP = struct.pack("<Q", 200_000) + b"[" * 200_000


def settings() -> st.SearchStrategy:
    """One value in the settings of the stored model, of the file and of the checkpoint, is
    another."""
    size = st.sampled_from([BILLION, 2**31, -1, 0])
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | size
    code = st.sampled_from(
        [
            {"class_path": f"{CANARY}.run"},
            {"_target_": CANARY},
            f"{CANARY}.run",
            {"py/object": CANARY},
        ]
    )
    value = (
        plain
        | code
        | st.lists(plain, max_size=3)
        | st.dictionaries(st.text(max_size=3), plain, max_size=2)
    )
    return st.builds(partial, st.just(_spoil_settings), st.integers(0, 10**6), value, st.booleans())


def _spoil_settings(place: int, value, remove: bool, folder: Path) -> None:
    def change(config: dict) -> dict:
        places = list(_places(config))
        holder, key = places[place % len(places)]
        if remove:
            del holder[key]
        else:
            holder[key] = value
        return config

    with h5py.File(folder / FILE, "r+") as file:
        text = json.dumps(change(json.loads(file[STORED]["config"][()])))
        file[STORED]["config"][()] = text
    for path in (folder / MODEL).glob("step-*/model.safetensors"):
        with safetensors.safe_open(path, "np") as file:
            tensors, config = (
                {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118  no mapping
                json.loads(file.metadata()["metadyn"]),
            )
        safetensors.numpy.save_file(tensors, path, {"metadyn": json.dumps(change(config))})
    for path in (folder / MODEL).glob("step-*/metrics.json"):
        path.write_text(json.dumps(change(json.loads(path.read_text()))))


def _places(value):
    """Every place in nested dictionaries and lists, outer ones first."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


# --- arrays


def shapes(layout: Layout) -> st.SearchStrategy:
    """A dataset of another length, number of axes or type than what refers to it says."""
    change = st.tuples(st.sampled_from(layout.datasets), st.sampled_from(sorted(RESHAPED)))
    return st.builds(
        partial,
        st.just(_reshape),
        st.lists(change, min_size=1, max_size=3, unique_by=itemgetter(0)),
    )


def _reshape(changes: list, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        for path, how in changes:
            if not file[path].shape:  # of a scalar: a row of numbers
                _put(file, path, np.array([1.0, 2.0]))
                continue
            kind = (
                file[path].dtype
                if how in OF_ONE_TYPE
                else h5py.string_dtype()
                if how == "text"
                else None
            )
            _put(file, path, RESHAPED[how](file[path][()]), kind)


OF_ONE_TYPE = ("shorter", "longer", "empty", "scalar", "more axes")
RESHAPED = {
    "shorter": lambda v: v[:-1],
    "longer": lambda v: np.concatenate([v, v[:1]]),
    "empty": lambda v: v[:0],
    "scalar": lambda v: v[0] if len(v) else v,
    "more axes": lambda v: np.stack([v, v]),
    "text": lambda v: np.full(v.shape, "text", object),
    "integers": lambda v: np.arange(v.size).reshape(v.shape),
    "nothing": lambda v: h5py.Empty("f8"),
    "huge integers": lambda v: np.full(v.shape, 2**63 - 1),
}


def _put(file: h5py.File, path: str, values, dtype=None, **options) -> None:
    """Another dataset of the same attributes in its place; what referred to it refers to the new
    one."""
    attributes = {key: file[path].attrs[key] for key in file[path].attrs}
    old = file[path].ref
    pointing = [(name, key) for name, key in _references(file) if file[name].attrs[key] == old]
    del file[path]
    new = file.create_dataset(path, data=values, dtype=dtype, **options)
    for key, value in attributes.items():
        new.attrs[key] = value
    for name, key in pointing:
        file[name].attrs[key] = new.ref


def _references(file: h5py.File) -> list[tuple[str, str]]:
    found = []
    file.visititems(
        lambda name, item: found.extend(
            (name, key) for key in item.attrs if isinstance(item.attrs[key], h5py.Reference)
        )
    )
    return found


def claims(layout: Layout) -> st.SearchStrategy:
    """A dataset of a thousand million rows that stores none, or the ids of a table as well, so that
    its length fits."""
    fill = st.sampled_from([0, 1, 3, 250])
    rows = st.sampled_from([BILLION, BILLION - 1, 2**31, 2**32 + 1, 2**40])
    compression = st.sampled_from([None, "gzip"])
    chosen = st.lists(
        st.sampled_from(layout.arrays + layout.texts), min_size=1, max_size=2
    ) | st.sampled_from(_tables(layout))
    return st.builds(partial, st.just(_claim), chosen, rows, fill, compression)


def _tables(layout: Layout) -> list[list[str]]:
    """Of each table the columns that have its length."""
    tables = [name.removesuffix("/id") for name in layout.datasets if name.endswith("/id")]
    return [
        [
            f"{table}/{name}"
            for name in ("id", "start_time", "stop_time")
            if f"{table}/{name}" in layout.datasets
        ]
        for table in tables
    ]


def _claim(paths: list[str], rows: int, fill: int, compression, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        for path in dict.fromkeys(paths):
            old = file[path]
            text = h5py.check_string_dtype(old.dtype) is not None
            shape = (rows, *old.shape[1:])
            attributes = {key: old.attrs[key] for key in old.attrs}
            before = old.ref
            pointing = [
                (name, key) for name, key in _references(file) if file[name].attrs[key] == before
            ]
            options = {} if text else {"fillvalue": fill}
            kind = old.dtype
            del file[path]
            chunks = (min(rows, 2**16), *shape[1:])
            new = file.create_dataset(
                path, shape, kind, chunks=chunks, compression=compression, **options
            )
            for key, value in attributes.items():
                new.attrs[key] = value
            for name, key in pointing:
                file[name].attrs[key] = new.ref


# --- links


def links(layout: Layout) -> st.SearchStrategy:
    """Objects replaced by links to nothing, to themselves, in circles, to other files; references
    to nothing or to others."""
    place = st.sampled_from(layout.datasets + layout.groups)
    how = st.sampled_from(
        [
            "missing",
            "itself",
            "circle",
            "up",
            "hard up",
            "file missing",
            "file itself",
            "file circle",
            "folder",
        ]
    )
    reference = st.tuples(
        st.sampled_from(layout.references),
        st.sampled_from(["nothing", "root", "itself", "gone", "other"]),
    )
    return st.builds(
        partial,
        st.just(_relink),
        st.lists(st.tuples(place, how), min_size=1, max_size=2, unique_by=itemgetter(0)),
    ) | st.builds(partial, st.just(_refer), st.lists(reference, min_size=1, max_size=3))


def _relink(changes: list, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        for path, how in changes:
            if any(path.startswith(f"{other}/") for other, _ in changes):
                continue  # it goes with what it lies in
            parent = file[path].parent.name
            del file[path]
            if how == "circle":
                file[f"{path}_b"] = h5py.SoftLink(f"/{path}")
            if how == "hard up":
                file[path] = file[parent]
            else:
                file[path] = {
                    "missing": h5py.SoftLink("/no/such/object"),
                    "itself": h5py.SoftLink(f"/{path}"),
                    "circle": h5py.SoftLink(f"/{path}_b"),
                    "up": h5py.SoftLink(parent),
                    "file missing": h5py.ExternalLink("nowhere.h5", "/x"),
                    "file itself": h5py.ExternalLink(FILE, f"/{path}"),
                    "file circle": h5py.ExternalLink("link.h5", "/back"),
                    "folder": h5py.ExternalLink("/", "/"),
                }[how]
    with h5py.File(folder / "link.h5", "w") as other:
        other["back"] = h5py.ExternalLink(FILE, f"/{changes[0][0]}")


def _refer(changes: list, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        gone = file.create_group("gone").ref
        del file["gone"]
        for (path, key), to in changes:
            target = {
                "nothing": h5py.Reference(),
                "root": file.ref,
                "itself": file[path].ref,
                "gone": gone,
                "other": file["general"].ref,
            }[to]
            file[path].attrs.create(key, target, dtype=h5py.ref_dtype)


# --- numbers

PLACES = {
    "all": slice(None),
    "first": slice(0, 1),
    "last": slice(-1, None),
    "some": slice(None, None, 3),
}


def numbers(layout: Layout) -> st.SearchStrategy:
    """NaN, infinite and absurd values in some or all places of arrays, attributes and weights."""
    value = st.sampled_from([np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, 0.0, -1.0, 1e18])
    where = st.sampled_from(sorted(PLACES))
    array = st.tuples(st.sampled_from(layout.floats), value, where)
    attribute = st.tuples(st.sampled_from(layout.float_attributes), value)
    return (
        st.builds(
            partial,
            st.just(_poison),
            st.lists(array, min_size=1, max_size=4),
            st.lists(attribute, max_size=2),
        )
        | st.builds(
            partial, st.just(_poison), st.just([]), st.lists(attribute, min_size=1, max_size=3)
        )
        | st.builds(
            partial,
            st.just(_spoil_weights),
            st.builds(partial, st.just(_poison_weights), st.integers(0, 40), value),
        )
    )


def _poison(arrays: list, attributes: list, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        for path, value, where in arrays:
            values = file[path][()]
            if np.ndim(values) == 0:
                values = np.asarray(value)
            else:
                with np.errstate(over="ignore"):
                    values[PLACES[where]] = value
            file[path][()] = values
        for (path, key), value in attributes:
            file[path].attrs.modify(key, value)


def _poison_weights(which: int, value: float, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    tensors, metadata = (
        safetensors.numpy.load(data),
        json.loads(data[8 : 8 + length]).get("__metadata__"),
    )
    if not tensors:  # the state of a finished model
        return data
    name = sorted(tensors)[which % len(tensors)]
    with np.errstate(over="ignore"):
        tensors[name] = np.full_like(tensors[name], value)
    return safetensors.numpy.save(tensors, metadata)


def out_of_range(layout: Layout) -> st.SearchStrategy:
    """Row numbers of regions, ends of ragged rows, and samples of windows that are not there."""
    number = st.sampled_from([-1, -(2**63), 2**63 - 1, 2**31, 2**32, 4, 1000, 0]) | st.integers(
        -(2**63), 2**63 - 1
    )
    where = st.sampled_from(sorted(PLACES))
    region = st.tuples(st.sampled_from(layout.rows), number, where)
    window = st.tuples(number, number, where)
    return st.builds(
        partial, st.just(_misplace), st.lists(region, min_size=1, max_size=3)
    ) | st.builds(partial, st.just(_miscount), window)


def _misplace(changes: list, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        for path, number, where in changes:
            values = file[path][()].astype("i8" if number < 2**63 else "u8")
            values[PLACES[where]] = number
            _put(file, path, values)


def _miscount(window: tuple, folder: Path) -> None:
    start, count, where = window
    with h5py.File(folder / FILE, "r+") as file:
        column = file[RUN]["embeddings/timeseries"]
        values, names = column[()], column.dtype.names
        place = PLACES[where]
        limits = np.iinfo(column.dtype[names[0]])
        for name, number in zip(names, (start, count), strict=False):
            values[name][place] = np.clip(number, limits.min, limits.max)
        column[()] = values


# --- names

PIECES = (
    *(
        "../",
        "/",
        "\\",
        "..",
        "[/red]",
        "[bold",
        "[link=file:///]",
        "\x1b]0;owned\x07",
        "\x1b[2J",
        "\u202e",
        "\n",
        "\r",
        "\t",
    ),
    *(
        "é",
        "名",
        "e\u0301",
        "👩‍🔬",
        "\u200b",
        "\ufeff",
        "'",
        '"',
        "`id`",
        "$(id)",
        "; id",
        "%s",
        "{0}",
        "{x!r}",
        "~",
        "C:\\",
    ),
    *("\x7f", "\x9b", "=", "#", ",", " ", ".", "__class__", CANARY),
)


def names(layout: Layout) -> st.SearchStrategy:
    """Texts of 200 characters with slashes, markup, escapes and more, as values, attributes and
    names of objects."""
    text = st.lists(
        st.sampled_from(PIECES) | st.text(min_size=1, max_size=4), min_size=1, max_size=12
    ).map(_of_200)
    texts = st.tuples(st.just("value"), st.sampled_from(layout.texts), text)
    attributes = st.tuples(st.just("attribute"), st.sampled_from(layout.text_attributes), text)
    objects = st.tuples(st.just("name"), st.sampled_from(layout.datasets + layout.groups), text)
    column = st.tuples(st.just("column"), st.sampled_from(["units", "intervals/trials"]), text)
    return st.builds(
        partial,
        st.just(_rename),
        st.lists(texts | attributes | objects | column, min_size=1, max_size=3),
    )


def _of_200(pieces: list[str]) -> str:
    text = "".join(pieces)
    return (text * (200 // len(text) + 1))[:200]


def _rename(changes: list, folder: Path) -> None:
    with h5py.File(folder / FILE, "r+") as file:
        for how, place, text in changes:
            {
                "value": _write_text,
                "attribute": _write_attribute,
                "name": _move,
                "column": _add_column,
            }[how](file, place, text)


def _write_text(file: h5py.File, path: str, text: str) -> None:
    if path in file:
        shape, raw = file[path].shape, _encoded(text)
        _put(file, path, np.full(shape, raw, object) if shape else raw, h5py.string_dtype())


def _write_attribute(file: h5py.File, place: tuple[str, str], text: str) -> None:
    path, key = place
    if path in file:
        file[path].attrs.create(key, _encoded(text), dtype=h5py.string_dtype())


def _move(file: h5py.File, path: str, text: str) -> None:
    name = text.replace("/", "|").replace("\x00", "0").strip(".") or "x"
    if path in file and name not in file[path].parent:
        parent = file[path].parent
        parent.move(path.rpartition("/")[2], name)
        if "colnames" in parent.attrs:
            names = [
                name if each == path.rpartition("/")[2] else each
                for each in parent.attrs["colnames"]
            ]
            parent.attrs.create("colnames", names, dtype=h5py.string_dtype())


def _add_column(file: h5py.File, path: str, text: str) -> None:
    """A further column of texts, of that name and those values."""
    name = text.replace("/", "|").replace("\x00", "0").strip(".") or "x"
    if path not in file or name in file[path]:
        return
    table = file[path]
    column = table.create_dataset(
        name, data=[_encoded(text)] * len(table["id"]), dtype=h5py.string_dtype()
    )
    for key, value in {
        "namespace": "hdmf-common",
        "neurodata_type": "VectorData",
        "description": "x",
        "object_id": text[:9],
    }.items():
        column.attrs[key] = value.replace("\x00", "0")
    table.attrs.create("colnames", [*table.attrs["colnames"], name], dtype=h5py.string_dtype())


def _encoded(text: str) -> bytes:
    """Bytes as HDF5 keeps them; half surrogates, which UTF-8 has not, are as in file names that are
    no UTF-8."""
    return text.replace("\x00", "0").encode("utf-8", "surrogatepass")


# --- links in place of the target


def targets() -> st.SearchStrategy:
    """The place that a result goes to is a link: to the source, to another's file or folder, to
    nothing, to itself."""
    names = (FILE, "slim.nwb", "weights.safetensors", "weights.json", "best", "dandiset.yaml")
    place = st.sampled_from(["out", *(f"out/{name}" for name in names)])
    lead = st.sampled_from(
        ["source", "precious", "folder", "nothing", "itself", "circle", "up", "device"]
    )
    return st.builds(partial, st.just(_link_target), place, lead)


def _link_target(place: str, lead: str, folder: Path) -> None:
    path = folder / place
    path.parent.mkdir(exist_ok=True)
    (folder / "theirs").mkdir()
    (folder / "theirs" / "precious").write_text("not ours")
    to = {
        "source": folder / FILE,
        "precious": folder / "theirs" / "precious",
        "folder": folder / "theirs",
        "nothing": folder / "theirs" / "new",
        "itself": path,
        "circle": path.with_name("circle"),
        "up": folder,
        "device": Path("/dev/null"),
    }[lead]
    path.symlink_to(to)
    if lead == "circle":
        to.symlink_to(path)


# --- two processes


def pairs() -> st.SearchStrategy:
    """Both into the file or both into one folder, of one name or two, one after the other by up to
    half a second."""
    wait = st.floats(0, 0.5)
    return st.builds(partial, st.just(_plan), st.booleans(), st.booleans(), wait, wait)


def _plan(in_place: bool, one_name: bool, first: float, second: float, folder: Path) -> None:
    names = ("Ours", "Ours" if one_name else "Theirs")
    plan = [
        {"name": name, "in_place": in_place, "wait": wait}
        for name, wait in zip(names, (first, second), strict=True)
    ]
    (folder / PLAN).write_text(json.dumps(plan))
