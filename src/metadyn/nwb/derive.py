"""A derived file: the results and what they rest on, without the raw data; slim, and whole by
itself.

Kept are /general but for the tables of single cells, /units but for raw waveforms, /intervals, and
of /processing the runs, their models and the tables that they refer to. What is kept is copied as
it is, dataset by dataset (docs/decisions/derived-files.md); the file gets an identifier and a root
object id of its own, its objects keep theirs.
"""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

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
RAW = (  # below what is kept, and raw all the same
    "general/intracellular_ephys",  # its tables are of sweeps of the acquisition
)
WAVEFORMS = (
    "waveforms",
    "waveforms_index",
    "waveforms_index_index",
)  # of units: a piece of the voltage for every spike
EMPTY = (
    "acquisition",
    "analysis",
    "processing",
    "stimulus/presentation",
    "stimulus/templates",
)  # an NWB file has these
DERIVED_FROM = (
    "derived_from"  # key of a run's parameters: uri, identifier, object_id and digest of the source
)


def derive(
    source: str | Path,
    target: str | Path,
    *,
    recording: str | Path | Asset | None = None,
    uri: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the derived file of an annotated `source` to `target`; returns its real path. Warns of
    what is unlinked.

    Parameters
    ----------
    source : NWB (HDF5) file with a run; never opened for writing. recording : the file, which may
    be on the net, whose name and digest are kept as those of the origin, where `source` is an
        annotated copy of it.
    uri : where others find the origin; by default its file name.

    Raises
    ------
    DataError : `source` is no NWB file, holds no run, links to a file that is not there, or is no
    copy of `recording`. WriteError : `target` exists (and not `overwrite`), cannot be written or
    would not be valid; nothing was changed.
    """
    source, target = Path(source), real_path(target)
    check_derivable(source)
    if is_zarr(target):
        raise refuse_to_write(target)
    if target.exists() and not overwrite:
        raise WriteError(
            "the target exists already",
            file=target,
            remedy="another path (-o FILE), or --overwrite",
        )
    recording = recording or source
    origin = _origin(
        source, recording if isinstance(recording, Asset) else real_path(recording), uri
    )
    with derived_copy(source, target) as work:
        record_source(work, origin)
        assert_no_worse(work, source)
    return target


def check_derivable(source: Path) -> None:
    """Raise DataError unless the file is NWB and holds a run."""
    with open_nwb2(source) as file:
        if not _of_type(file, RUN):
            remedy = f"metadyn annotate MODEL {source.name} -o DIR --derive"
            raise DataError(
                "the file holds no run to derive a file from",
                file=source,
                item="processing",
                remedy=remedy,
            )


@contextmanager
def derived_copy(source: Path, target: Path) -> Iterator[Path]:
    """A private derived copy of `source`, with its runs if it has any, that becomes `target` when
    the block ends well."""
    if target == real_path(source):
        problem = "a derived file lacks the raw data and may not take its source's place"
        raise WriteError(problem, file=source, remedy="another path (-o)")
    with new_file(source, target) as work:
        with h5py.File(source, "r") as old, h5py.File(work, "w") as new:
            keep = _Keep(old)
            unlinked = drop_unlinked(old, keep.holds, keep.dropped, source)
            _copy(old, new, "", keep)
            for name in EMPTY:
                new.require_group(name)
            restore_references(old, new)
            _make_own(new)
        for path, other in unlinked.items():
            warnings.warn(
                f"{source.name}: {path} is left out: it refers to {other}, which is not in a "
                "derived file",
                stacklevel=4,
            )
        yield work


def describe_origin(
    source: Path | Asset, uri: str | None = None, digest: str | None = None
) -> dict[str, str]:
    """URI, identifier, object id and sha256 digest of a file, as the results derived from it keep
    them.

    The digest is taken of a file on disk; of one on the net it is what the archive says, if
    anything.
    """
    with open_hdf5(source) as file:
        identifier = file["identifier"][()].decode()
        object_id = _attribute_text(file.attrs.get("object_id"))
    digest = digest or (source.digest if isinstance(source, Asset) else file_digest(source))
    return describe_source(
        Source(uri=uri or str(source), identifier=identifier, object_id=object_id, digest=digest)
    )


def _origin(source: Path, recording: Path | Asset, uri: str | None) -> dict[str, str]:
    origin = describe_origin(recording, uri)
    with open_hdf5(source) as file:
        if file["identifier"][()].decode() != origin["identifier"]:
            problem, remedy = (
                "the file is no annotated copy of that recording",
                "the recording that was annotated, or none",
            )
            raise DataError(
                problem,
                file=source,
                found=f"{recording} has identifier {origin['identifier']!r}",
                remedy=remedy,
            )
    return origin


def origin_of(path: Path) -> dict[str, str] | None:
    """What a derived file was derived from, as its first run says; None for a file that was not
    derived."""
    with open_hdf5(path) as file:
        runs = [file[name] for name in _of_type(file, RUN)]
        said = [json.loads(run["parameters"][()]) for run in runs if "parameters" in run]
    return next(
        (parameters[DERIVED_FROM] for parameters in said if DERIVED_FROM in parameters), None
    )


def paths_left_out(source: str | Path) -> list[str]:
    """Paths of what the derived file of `source` is without by its place, the topmost ones only."""
    with open_hdf5(located(source)) as file:
        return _Keep(file).paths_left_out()


class _Keep:
    """What of a file is kept: by its place, and by what is `dropped`."""

    def __init__(self, file: h5py.File):
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
        at_root = "/" not in path and isinstance(
            self._file.get(path), h5py.Dataset
        )  # identifier, session_start_time, …
        return (
            at_root
            or _is_below(path, self._roots)
            or any(_is_below(root, (path,)) for root in self._roots)
        )

    def paths_left_out(self) -> list[str]:
        """The topmost objects that are not kept; empty groups are not worth a word."""
        found: list[str] = []
        for path, _ in walk(self._file):
            item = self._file.get(path)
            telling = not isinstance(item, h5py.Group) or "neurodata_type" in item.attrs
            if (
                telling
                and not self.holds(path)
                and not _is_below(path, (*found, *self._old_schemas))
            ):
                found.append(path)
        return found


def _is_below(path: str, roots) -> bool:
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
    """Of each cached schema the versions but the newest, which is the one that the file was last
    written by.

    hdmf reads the last in the order of letters, 2.4.0 after 2.11.0, and stumbles where a file's
    first writer cached it in part.
    """
    schemas = file.get("specifications", {})
    versions = {name: sorted(schemas[name], key=_numbers) for name in schemas}
    return [
        f"specifications/{name}/{version}"
        for name, known in versions.items()
        for version in known[:-1]
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(
        int(part) if part.isdecimal() else -1 for part in version.replace("-", ".").split(".")
    )


def _copy(old: h5py.Group, new: h5py.Group, path: str, keep: _Keep) -> None:
    """What is kept of a group: datasets byte by byte; links, but those to other files as what they
    mean; no references yet."""
    for key, value in old.attrs.items():
        new.attrs.create(
            key, value, dtype=None if isinstance(value, h5py.Empty) else old.attrs.get_id(key).dtype
        )
    for key in old:
        child = f"{path}/{key}".lstrip("/")
        link = old.get(key, getlink=True)
        if not keep.holds(child):
            continue
        if isinstance(link, h5py.SoftLink):
            new[key] = h5py.SoftLink(link.path)
        elif isinstance(old[key], h5py.Group):
            _copy(old[key], new.create_group(key), child, keep)
        elif old[key].is_virtual or old[key].external:
            _copy_values(old[key], new, key)
        else:
            old.copy(old[key], new, name=key)
    _keep_columns(new)


def _copy_values(old: h5py.Dataset, new: h5py.Group, key: str) -> None:
    """A dataset whose values lie in other files as one of its own."""
    check_claim(old)
    made = new.create_dataset(key, data=old[()], dtype=old.dtype)
    for name, value in old.attrs.items():
        made.attrs.create(name, value, dtype=old.attrs.get_id(name).dtype)


def _keep_columns(table: h5py.Group) -> None:
    """A table names only the columns that it has."""
    if "colnames" in table.attrs:
        names = [
            name
            for each in table.attrs["colnames"]
            if (name := _attribute_text(each).strip()) in table
        ]
        table.attrs.create("colnames", names, dtype=h5py.string_dtype(), shape=(len(names),))


def _make_own(file: h5py.File) -> None:
    """An identity of its own for a new file; those of its objects stay, so that they are known for
    the same."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _replace_dataset(file, "identifier", str(uuid.uuid4()))
    _replace_dataset(file, "file_create_date", [now])
    file.attrs["object_id"] = str(uuid.uuid4())


def record_source(path: Path, origin: dict[str, str]) -> None:
    """Every run says what the file was derived from; of each schema the newest version stays."""
    with h5py.File(path, "r+") as file:
        for name in _superseded(file):
            del file[name]
        for name in _of_type(file, RUN):
            run = file[name]
            parameters = json.loads(run["parameters"][()]) if "parameters" in run else {}
            _replace_dataset(run, "parameters", to_json({**parameters, DERIVED_FROM: origin}))
            run.attrs["source_uri"] = origin["uri"]


def _replace_dataset(group: h5py.Group, name: str, value) -> None:
    if name in group:
        del group[name]
    group.create_dataset(name, data=value, dtype=h5py.string_dtype())


def _attribute_text(value) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
