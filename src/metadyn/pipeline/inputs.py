"""What a person hands over, as counts: files, folders, addresses, NAME=FILE, open NWBFiles, Sessions or ready TrialCounts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from metadyn.config import DataConfig
from metadyn.errors import DataError
from metadyn.nwb.addresses import assets, is_address
from metadyn.nwb.provenance import file_digest, public_uri
from metadyn.nwb.zarr import is_zarr
from metadyn.records import Session, TrialCounts

HASHED = 2**30  # bytes: about a second (docs/decisions/files-on-the-net.md)


@dataclass(frozen=True)
class Recording:
    """A recording to read, and the name that the model shall know it by (None: its NWB identifier)."""

    source: object
    name: str | None = None

    def __str__(self) -> str:
        source = getattr(self.source, "identifier", self.source)  # of an open NWBFile
        return f"{self.name}={source}" if self.name else str(source)


def recordings(given: object | Iterable[object]) -> list[Recording]:
    """The recordings meant by paths, folders (all NWB files below), addresses, `NAME=FILE` or objects, in the order given.

    Raises
    ------
    DataError : a path does not exist, or a folder holds no NWB file. RemoteError : DANDI has no NWB file at an address.
    """
    items = given if isinstance(given, list | tuple) else [given]
    return [recording for item in items for recording in _expand(item)]


def _expand(item: object) -> list[Recording]:
    if not isinstance(item, str | os.PathLike):
        return [item if isinstance(item, Recording) else Recording(item)]
    name, text = _split_name(os.fspath(item))
    if is_address(text):
        return _named(name, assets(text), text)
    path = Path(text)
    if not path.exists():
        raise DataError("there is no such file", file=path, remedy="a path of an NWB file, a folder of them, or NAME=FILE")
    if not path.is_dir() or is_zarr(path):  # which reading refuses, and says why
        return [Recording(path, name)]
    files = sorted(path.rglob("*.nwb"))
    if not files:
        raise DataError("the folder holds no NWB file", file=path, remedy="a folder with *.nwb below it")
    return _named(name, files, text)


def _named(name: str | None, files: list, given: str) -> list[Recording]:
    if name and len(files) > 1:
        remedy = f"a name for each: A={files[0]} B={files[1]}"
        raise DataError("one name was given to several files", file=given, found=f"{name}, {len(files)} files", remedy=remedy)
    return [Recording(file, name) for file in files]


def single(given: object) -> Recording:
    """The one recording meant; raises as `recordings`, and DataError where there are several."""
    found = recordings([given])
    if len(found) > 1:
        problem, remedy = "this works on one recording at a time", f"one of them, e.g. {found[0]}"
        raise DataError(problem, file=given, found=f"{len(found)} files", remedy=remedy)
    return found[0]


def _split_name(text: str) -> tuple[str | None, str]:
    """`NAME=FILE`, unless a file of that whole name exists; an address may have a = of its own."""
    name, equals, path = text.partition("=")
    if not equals or not name or is_address(text) or Path(text).exists():
        return None, text
    return name, path


def read_counts(recording: Recording, data: DataConfig) -> TrialCounts:
    """Read and bin one recording; a session's source names the file without the folders of this machine, and its digest."""
    from metadyn.data.binning import bin_spikes

    source = recording.source
    if isinstance(source, TrialCounts):
        return replace(source, session=recording.name or source.session)
    session, options = _session_and_options(recording, data)
    counts = bin_spikes(session, **options)
    digest = counts.source.digest or _digest(source)
    return replace(counts, source=replace(counts.source, uri=public_uri(counts.source.uri), digest=digest))


def _digest(source: object) -> str | None:
    """The sha256 of a file on disk that is not too large for a reader to wait for; None of anything else."""
    small = isinstance(source, Path) and source.stat().st_size <= HASHED
    return file_digest(source) if small else None


def _session_and_options(recording: Recording, data: DataConfig) -> tuple[Session, dict]:
    """The session with the behaviour that its options name; a preset looks at the session first."""
    from metadyn.data.presets import preset
    from metadyn.nwb.read import read_session

    session = recording.source if isinstance(recording.source, Session) else None
    options = data.model_dump(exclude={"preset"}, exclude_unset=data.preset is not None)
    if data.preset:
        session = session or read_session(recording.source, key=recording.name)
        options = {**preset(data.preset, session), **options}
    behavior = options.get("behavior")
    if session is None or (behavior and session is not recording.source):
        session = read_session(recording.source, key=recording.name, behavior=(behavior,) if behavior else ())
    return replace(session, key=recording.name or session.key), options


def check_distinct(given: list[Recording], sessions: list[str]) -> None:
    """Raise DataError where two recordings go by one name, and say how to name them."""
    repeated = [key for key, times in Counter(sessions).items() if times > 1]
    if not repeated:
        return
    files = [str(each.source) for each, key in zip(given, sessions, strict=True) if key == repeated[0]]
    named = " ".join(f"{letter}={file}" for letter, file in zip("ABCDEFGHIJ", files, strict=False))
    raise DataError(
        "several recordings share one identifier, by which a model tells sessions apart",
        file=", ".join(files),
        found=f"identifier {repeated[0]!r}",
        remedy=f"give them names: {named}",
    )
