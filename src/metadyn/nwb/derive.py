"""A derived file: the results and what they rest on, without the raw data.

It is small, and complete by itself. Kept are /general but for the tables of single cells, /units
but for raw waveforms, /intervals, and of /processing the results of models and the tables that they
refer to. Datasets are copied as they are (docs/decisions/derived-files.md). The file gets an
identifier and a root object id of its own, its objects keep theirs.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py

from metadyn.errors import DataError, WriteError
from metadyn.nwb.addresses import Asset, located
from metadyn.nwb.opening import open_hdf5, open_nwb2
from metadyn.nwb.provenance import describe_source, file_digest, to_json
from metadyn.nwb.references import drop_unlinked, restore_references, tables_referred_to, walk
from metadyn.nwb.replace import new_file, real_path
from metadyn.nwb.validity import assert_no_worse
from metadyn.nwb.zarr import is_zarr, refuse_to_write
from metadyn.records import Source
from ndx_metadyn.containers.registry import standalone_types
from ndx_metadyn.values import check_claim

RUN = "LatentDynamics"
KEPT = ("general", "intervals", "units", "specifications")
# Below what is kept, and raw all the same: tables of sweeps of the acquisition
RAW = ("general/intracellular_ephys",)
# Columns of units that hold a piece of the voltage for every spike
WAVEFORMS = ("waveforms", "waveforms_index", "waveforms_index_index")
# Groups that every NWB file has
EMPTY = (
    "acquisition",
    "analysis",
    "processing",
    "stimulus/presentation",
    "stimulus/templates",
)
# Key of a run's parameters: uri, identifier, object_id and digest of the source
DERIVED_FROM = "derived_from"


def derive(
    source: str | Path,
    target: str | Path,
    *,
    recording: str | Path | Asset | None = None,
    uri: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the derived file of an annotated `source` to `target`.

    Parameters
    ----------
    source : NWB (HDF5) file with a run; never opened for writing.
    target : the file to write.
    recording : the original file, which may be on the net, where `source` is an annotated copy of
        it; its name and digest are kept as those of the origin.
    uri : where others find the origin; by default its file name.
    overwrite : replace an existing `target`.

    Returns
    -------
    The real path of the written file. Warns of objects that are left out for what they refer to.

    Raises
    ------
    DataError : `source` is no NWB file, holds no run, links to a file that is not there, or is no
        copy of `recording`.
    WriteError : `target` exists (and not `overwrite`), cannot be written or would not be valid;
        nothing was changed.
    """
    source, target = Path(source), real_path(target)
    check_derivable(source)
    if is_zarr(target):
        raise refuse_to_write(target)
    if target.exists() and not overwrite:
        raise WriteError(
            "the target exists already",
            file=target,
            remedy="another path (`output`), or `overwrite=True`",
        )
    recording = recording or source
    recording = recording if isinstance(recording, Asset) else real_path(recording)
    origin = _origin(source, recording, uri)
    with derived_copy(source, target) as work:
        record_source(work, origin)
        assert_no_worse(work, source)
    return target


def check_derivable(source: Path) -> None:
    """Raise DataError unless the file is NWB and holds a run."""
    with open_nwb2(source) as file:
        if not _of_type(file, RUN):
            raise DataError(
                "the file holds no run to derive a file from",
                file=source,
                item="processing",
                remedy=f"metadyn annotate MODEL {source.name} -o DIR --derive",
            )


@contextmanager
def derived_copy(source: Path, target: Path) -> Iterator[Path]:
    """A private derived copy of `source` that becomes `target` when the block ends well.

    The source may be without a run; then nothing of /processing is kept.

    Raises
    ------
    WriteError : source and target are one file, or the target cannot be written.
    DataError : `source` links to a file that is not there.
    """
    if target == real_path(source):
        problem = "a derived file lacks the raw data and may not take its source's place"
        raise WriteError(problem, file=source, remedy="another path (`output`)")
    with new_file(source, target) as work:
        with h5py.File(source, "r") as old, h5py.File(work, "w") as new:
            unlinked = _copy_kept(old, new, source)
        for path, other in unlinked.items():
            warnings.warn(
                f"{source.name}: {path} is left out: it refers to {other}, which is not in a "
                "derived file",
                stacklevel=4,
            )
        yield work


def _copy_kept(old: h5py.File, new: h5py.File, source: Path) -> dict[str, str]:
    """Copy what a derived file keeps of `old`, the opened `source`.

    Returns
    -------
    Path of each object that is left out for what it refers to -> a path that it refers to.
    """
    keep = _Keep(old)
    unlinked = drop_unlinked(old, keep.holds, keep.dropped, source)
    _copy(old, new, "", keep)
    for name in EMPTY:
        new.require_group(name)
    restore_references(old, new)
    _make_own(new)
    return unlinked


def describe_origin(
    source: Path | Asset, uri: str | None = None, digest: str | None = None
) -> dict[str, str]:
    """The facts by which results derived from a file name it.

    Parameters
    ----------
    source : the file, on disk or on the net.
    uri : where others find it; by default its path or address.
    digest : its sha256 where that is known; else it is taken of a file on disk, and of one on the
        net it is what the archive publishes, if anything.

    Returns
    -------
    dict of uri, identifier, object_id and digest, as far as they are known.
    """
    with open_hdf5(source) as file:
        identifier = file["identifier"][()].decode()
        object_id = _attribute_text(file.attrs.get("object_id"))
    digest = digest or (source.digest if isinstance(source, Asset) else file_digest(source))
    return describe_source(
        Source(uri=uri or str(source), identifier=identifier, object_id=object_id, digest=digest)
    )


def _origin(source: Path, recording: Path | Asset, uri: str | None) -> dict[str, str]:
    """`describe_origin` of the recording; DataError unless `source` has the same identifier."""
    origin = describe_origin(recording, uri)
    with open_hdf5(source) as file:
        identifier = file["identifier"][()].decode()
    if identifier != origin["identifier"]:
        raise DataError(
            "the file is no annotated copy of that recording",
            file=source,
            found=f"{recording} has identifier {origin['identifier']!r}",
            remedy="the recording that was annotated, or none",
        )
    return origin


def origin_of(path: Path) -> dict[str, str] | None:
    """The origin of a derived file, as its first run names it.

    Returns
    -------
    dict of `describe_origin`; None for a file that was not derived.
    """
    with open_hdf5(path) as file:
        runs = [file[name] for name in _of_type(file, RUN)]
        of_runs = [json.loads(run["parameters"][()]) for run in runs if "parameters" in run]
    origins = [parameters[DERIVED_FROM] for parameters in of_runs if DERIVED_FROM in parameters]
    return origins[0] if origins else None


def paths_left_out(source: str | Path) -> list[str]:
    """Paths of what the derived file of `source` is without by its place, the topmost ones only."""
    with open_hdf5(located(source)) as file:
        return _Keep(file).paths_left_out()


class _Keep:
    """Which objects of a file a derived file keeps.

    By their place, less those in `dropped`, to which others may be added.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        tables = tables_referred_to(file, _of_type(file, RUN))
        results = _of_type(file, *standalone_types())
        self._roots = (*KEPT, *results, *tables)
        self._old_schemas = _superseded(file)
        self.dropped = {
            *RAW,
            *(f"{table}/{waveforms}" for table in ("units", *tables) for waveforms in WAVEFORMS),
        }

    def holds(self, path: str) -> bool:
        """Whether an object is kept, or leads to one that is."""
        if _is_below(path, (*self.dropped, *self._old_schemas)):
            return False
        if "/" not in path and isinstance(self._file.get(path), h5py.Dataset):
            return True  # identifier, session_start_time, …
        leads_to_one = any(_is_below(root, (path,)) for root in self._roots)
        return leads_to_one or _is_below(path, self._roots)

    def paths_left_out(self) -> list[str]:
        """The topmost objects that are not kept; empty groups are not worth a word."""
        found: list[str] = []
        for path, _ in walk(self._file):
            item = self._file.get(path)
            has_content = not isinstance(item, h5py.Group) or "neurodata_type" in item.attrs
            if not has_content or self.holds(path):
                continue
            if not _is_below(path, (*found, *self._old_schemas)):
                found.append(path)
        return found


def _is_below(path: str, roots: Iterable[str]) -> bool:
    """Whether the path is one of the roots or inside one."""
    return any(path == root or path.startswith(f"{root}/") for root in roots)


def _of_type(file: h5py.File, *neurodata_types: str) -> list[str]:
    """Paths of the objects of these types in the processing modules."""
    modules = file.get("processing", {})
    paths = [f"processing/{module}/{name}" for module in modules for name in modules[module]]
    items = {path: file.get(path) for path in paths}
    return [
        path
        for path, item in items.items()
        if item and _attribute_text(item.attrs.get("neurodata_type")) in neurodata_types
    ]


def _superseded(file: h5py.File) -> list[str]:
    """Paths of all versions of each cached schema but the newest.

    The file was last written by the newest. hdmf reads the last in the order of letters, 2.4.0
    after 2.11.0, and fails where a file's first writer cached it in part.
    """
    schemas = file.get("specifications", {})
    versions = {name: sorted(schemas[name], key=_numbers) for name in schemas}
    return [
        f"specifications/{name}/{version}"
        for name, known in versions.items()
        for version in known[:-1]
    ]


def _numbers(version: str) -> tuple[int, ...]:
    """The parts of a version as numbers; -1 for a text, so that 2.0.0-alpha is before 2.0.0."""
    parts = version.replace("-", ".").split(".")
    return tuple(int(part) if part.isdecimal() else -1 for part in parts)


def _copy(old: h5py.Group, new: h5py.Group, path: str, keep: _Keep) -> None:
    """Copy what is kept of a group, at `path` of the old file, into a group of the new one.

    Datasets are copied byte by byte; links stay links, except those to other files, which become
    what they lead to. Object references are nulls afterwards (see `restore_references`).
    """
    _copy_attributes(old, new)
    for key in old:
        child = f"{path}/{key}".lstrip("/")
        if not keep.holds(child):
            continue
        link = old.get(key, getlink=True)
        if isinstance(link, h5py.SoftLink):
            new[key] = h5py.SoftLink(link.path)
        elif isinstance(old[key], h5py.Group):
            _copy(old[key], new.create_group(key), child, keep)
        elif old[key].is_virtual or old[key].external:
            _copy_values(old[key], new, key)
        else:
            old.copy(old[key], new, name=key)
    _keep_columns(new)


def _copy_attributes(old: h5py.Group, new: h5py.Group) -> None:
    """Copy the attributes of a group, each in its dtype."""
    for key, value in old.attrs.items():
        dtype = None if isinstance(value, h5py.Empty) else old.attrs.get_id(key).dtype
        new.attrs.create(key, value, dtype=dtype)


def _copy_values(old: h5py.Dataset, new: h5py.Group, key: str) -> None:
    """A dataset whose values lie in other files, as one that holds them itself."""
    check_claim(old)
    made = new.create_dataset(key, data=old[()], dtype=old.dtype)
    for name, value in old.attrs.items():
        made.attrs.create(name, value, dtype=old.attrs.get_id(name).dtype)


def _keep_columns(table: h5py.Group) -> None:
    """A table names only the columns that it has."""
    if "colnames" not in table.attrs:
        return
    names = [_attribute_text(name).strip() for name in table.attrs["colnames"]]
    kept = [name for name in names if name in table]
    table.attrs.create("colnames", kept, dtype=h5py.string_dtype(), shape=(len(kept),))


def _make_own(file: h5py.File) -> None:
    """Give a new file an identity of its own.

    Its objects keep their ids, so that they are known for the same.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _replace_dataset(file, "identifier", str(uuid.uuid4()))
    _replace_dataset(file, "file_create_date", [now])
    file.attrs["object_id"] = str(uuid.uuid4())


def record_source(path: Path, origin: dict[str, str]) -> None:
    """Write into every run of a (private) file what that was derived from.

    Of each cached schema only the newest version stays.

    Parameters
    ----------
    origin : of `describe_origin`.
    """
    with h5py.File(path, "r+") as file:
        for name in _superseded(file):
            del file[name]
        for name in _of_type(file, RUN):
            run = file[name]
            parameters = json.loads(run["parameters"][()]) if "parameters" in run else {}
            _replace_dataset(run, "parameters", to_json({**parameters, DERIVED_FROM: origin}))
            run.attrs["source_uri"] = origin["uri"]


def _replace_dataset(group: h5py.Group, name: str, value: str | list[str]) -> None:
    """Write text, one or several, in place of a dataset if there is one."""
    if name in group:
        del group[name]
    group.create_dataset(name, data=value, dtype=h5py.string_dtype())


def _attribute_text(value: Any) -> Any:
    """Text that is stored as bytes, decoded; anything else, as None for no attribute, as it is."""
    return value.decode() if isinstance(value, bytes) else value
