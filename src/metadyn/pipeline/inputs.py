"""Recordings as a person names them, and their counts.

Files, folders, addresses, NAME=FILE, open NWBFiles, Sessions or TrialCounts.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metadyn.config import DataConfig
from metadyn.errors import ConfigError, DataError
from metadyn.nwb.addresses import Asset, assets, is_address
from metadyn.nwb.presence import check_here, files_below
from metadyn.nwb.provenance import file_digest, public_uri
from metadyn.nwb.zarr import is_zarr
from metadyn.presets import preset_data
from metadyn.records import Session, TrialCounts

HASHED = 2**30  # bytes: about a second (docs/decisions/files-on-the-net.md)


@dataclass(frozen=True)
class Recording:
    """A recording to read.

    Parameters
    ----------
    source : path, address, open NWBFile, Session or TrialCounts.
    name : of the session in a model; None: the identifier that the file has.

    >>> str(Recording("day1.nwb", "monday"))
    'monday=day1.nwb'
    """

    source: object
    name: str | None = None

    def __str__(self) -> str:
        """As a person gives it, for messages."""
        source = getattr(self.source, "identifier", self.source)  # of an open NWBFile
        return f"{self.name}={source}" if self.name else str(source)


def recordings(given: object | Iterable[object], *, absent_too: bool = False) -> list[Recording]:
    """The recordings that a person means.

    They come alone or in any iterable, whose order is kept; a set has none, and is taken in that of
    its names. A folder stands for all NWB files below it, but hidden ones.

    Parameters
    ----------
    given : paths, folders, addresses, `NAME=FILE`, open NWBFiles, Sessions or TrialCounts.
    absent_too : leave it to reading to say that a file is not here.

    Raises
    ------
    DataError : a file is not here, or a folder holds no NWB file.
    RemoteError : DANDI has no NWB file at an address.
    ConfigError : something else was given, or nothing.

    >>> [str(each) for each in recordings({"b.nwb", "a.nwb"}, absent_too=True)]
    ['a.nwb', 'b.nwb']
    """
    found = [recording for item in _one_by_one(given) for recording in _expand(item)]
    if not found:
        raise ConfigError(
            "no recording was given",
            found=f"an empty {type(given).__name__}",
            remedy="one path at least",
        )
    if not absent_too:
        check_here([each.source for each in found if isinstance(each.source, Path)])
    return found


def _one_by_one(given: object) -> list:
    """What was given as a list: alone, as an array, as a set by name, or as any iterable."""
    if isinstance(given, str | os.PathLike) or not isinstance(given, Iterable):
        return [given]
    if isinstance(given, np.ndarray):
        return given.ravel().tolist()
    return sorted(given, key=str) if isinstance(given, set | frozenset) else list(given)


def _expand(item: object) -> list[Recording]:
    """The recordings that one item stands for; several where it is a folder or a dandiset.

    Raises
    ------
    DataError : a folder holds no NWB file, or one name was given to several files.
    RemoteError : DANDI has no NWB file at an address.
    ConfigError : the item is no recording.
    """
    if not isinstance(item, str | os.PathLike):
        return [item if isinstance(item, Recording) else Recording(_known(item))]
    name, text = _split_name(os.fspath(item))
    if is_address(text):
        return _named(name, assets(text), text)
    path = Path(os.path.expanduser(text))
    if not path.is_dir() or is_zarr(path):  # which reading refuses, and says why
        return [Recording(path, name)]
    files = files_below(path)
    if not files:
        problem, remedy = (
            "the folder holds no NWB file",
            "a folder with *.nwb below it; hidden files are left out",
        )
        raise DataError(problem, file=path, remedy=remedy)
    return _named(name, files, text)


def _known(item: object) -> object:
    """The object, if it is one that holds a recording; ConfigError otherwise."""
    from pynwb import NWBFile

    if isinstance(item, Session | TrialCounts | Asset | NWBFile):
        return item
    remedy = (
        "paths, addresses, NAME=FILE, open NWBFiles, Sessions or TrialCounts, "
        "one or any iterable of them"
    )
    raise ConfigError(
        "this is no recording", found=f"{type(item).__name__}: {item!r}"[:200], remedy=remedy
    )


def _named(name: str | None, files: list, given: str) -> list[Recording]:
    """The files as recordings of that name; DataError where several would have it.

    Parameters
    ----------
    name : None: each goes by its identifier.
    files : paths or addresses.
    given : the text that stands for them, for the message.
    """
    if name and len(files) > 1:
        remedy = f"a name for each: {_letters(files)}"
        raise DataError(
            "one name was given to several files",
            file=given,
            found=f"{name}, {len(files)} files",
            remedy=remedy,
        )
    return [Recording(file, name) for file in files]


def _letters(files: list) -> str:
    """Files (ten at most) as arguments of a command, with a letter for a name.

    >>> _letters(["day 1.nwb", "day2.nwb"])
    "'A=day 1.nwb' B=day2.nwb"
    """
    return " ".join(
        shlex.quote(f"{letter}={file}") for letter, file in zip("ABCDEFGHIJ", files, strict=False)
    )


def single(given: object) -> Recording:
    """The one recording meant; raises as `recordings`, and DataError where there are several."""
    found = recordings(given)
    if len(found) > 1:
        problem, remedy = "this works on one recording at a time", f"one of them, e.g. {found[0]}"
        raise DataError(problem, file=given, found=f"{len(found)} files", remedy=remedy)
    return found[0]


def _split_name(text: str) -> tuple[str | None, str]:
    """Name and file of `NAME=FILE`; None and the text where it has no name.

    A file whose own name has a = in it goes before, and an address may have one of its own.

    >>> _split_name("monday=day1.nwb"), _split_name("https://example.org/?id=1")
    (('monday', 'day1.nwb'), (None, 'https://example.org/?id=1'))
    """
    name, equals, path = text.partition("=")
    if not equals or not name or is_address(text) or os.path.lexists(os.path.expanduser(text)):
        return None, text
    return name, path


def read_counts(recording: Recording, data: DataConfig) -> TrialCounts:
    """Read and bin one recording.

    The source of the counts names the file, without the folders of this machine, and its digest.

    Parameters
    ----------
    recording : TrialCounts in it are taken as they are, under its name.
    data : windows, units and bins; those given go before those of a preset.

    Raises
    ------
    DataError : the file cannot be read, or has no units.
    SelectionError : it lacks a table, column or series that `data` names.
    WindowError : no window is left.
    """
    from metadyn.data.binning import bin_spikes

    source = recording.source
    if isinstance(source, TrialCounts):
        return replace(source, session=recording.name or source.session)
    session, options = _session_and_options(recording, data)
    counts = bin_spikes(session, **options)
    digest = counts.source.digest or _digest(source)
    return replace(
        counts, source=replace(counts.source, uri=public_uri(counts.source.uri), digest=digest)
    )


def _digest(source: object) -> str | None:
    """The sha256 of a file on disk that is small enough to be read for it; None of others."""
    if isinstance(source, Path) and source.stat().st_size <= HASHED:
        return file_digest(source)
    return None


def _session_and_options(recording: Recording, data: DataConfig) -> tuple[Session, dict]:
    """The session with the behaviour that its options name, and the options with the preset's."""
    from metadyn.nwb.read import read_session

    session = recording.source if isinstance(recording.source, Session) else None
    options = data.model_dump(exclude={"preset"}, exclude_unset=data.preset is not None)
    if data.preset:
        session = session or read_session(recording.source, key=recording.name)
        options = {**preset_options(data.preset, session), **options}
    behavior = options.get("behavior")
    if session is None or (behavior and session is not recording.source):
        session = read_session(
            recording.source, key=recording.name, behavior=(behavior,) if behavior else ()
        )
    return replace(session, key=recording.name or session.key), options


def preset_options(name: str, session: Session) -> dict:
    """The fields of `DataConfig` that a preset gives for this session, see `metadyn.presets`."""
    trials = session.intervals.get("trials")
    columns = [] if trials is None else [str(column) for column in trials.columns]
    return preset_data(name, columns, session.source.uri)


def check_distinct(given: list[Recording], sessions: list[str]) -> None:
    """Check that no two recordings go by one name.

    Parameters
    ----------
    given : the recordings.
    sessions : the name of each.

    Raises
    ------
    DataError : two have one name; it says how to give them names.
    """
    repeated = [key for key, times in Counter(sessions).items() if times > 1]
    if not repeated:
        return
    files = [
        str(each.source) for each, key in zip(given, sessions, strict=True) if key == repeated[0]
    ]
    raise DataError(
        "several recordings share one identifier, by which a model tells sessions apart",
        file=", ".join(files),
        found=f"identifier {repeated[0]!r}",
        remedy=f"give them names: {_letters(files)}",
    )
