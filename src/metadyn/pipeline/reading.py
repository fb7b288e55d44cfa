"""Reading and binning of many recordings.

In parallel processes where that pays; counts that memory shall not hold lie on disk. A process that
reads hands its arrays over in files, mapped by this one, and not through a pipe, which would hold
them in memory twice.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from psutil import virtual_memory

from metadyn.config import DataConfig
from metadyn.data.storage import disk_errors, is_on_disk, on_disk, write_array
from metadyn.errors import DataError
from metadyn.nwb.replace import private_name, remove_leftovers
from metadyn.pipeline.inputs import Recording, read_counts
from metadyn.pipeline.interrupts import interrupts_held
from metadyn.pipeline.skipping import Skipped
from metadyn.records import TrialCounts

# Bytes that are read and binned in the time that it takes to open a file (0.05 s)
OPENING = 64 * 2**20
# Bytes that take 5 s to read and bin, twice as long as processes take to start (2.5 s)
ENOUGH = 6 * 2**30
GIB = 2**30
# Of the memory that is free one part in four: training holds the trials a second time, and more
SHARE = 4


def read_all(
    given: list[Recording],
    data: DataConfig,
    folder: Path,
    memory: float | None = None,
    report: Callable[[int], None] = lambda _: None,
    skipped: Skipped | None = None,
) -> list[TrialCounts]:
    """The counts of all recordings but those that are `skipped`, in the order given.

    Parameters
    ----------
    given : the recordings, as `metadyn.pipeline.inputs.recordings` finds them.
    data : how they are binned.
    folder : keeps, in files without a name, the counts that memory shall not hold.
    memory : GiB of counts held in memory; default: a quarter of what is free. Counts that were
        given stay what they are.
    report : called with the number of recordings read so far.
    skipped : receives recordings that fail; default: their errors are raised.

    Raises
    ------
    DataError : the system killed a process that reads; and what `read_counts` raises.
    WriteError : the folder has no room.
    """
    read: dict[int, TrialCounts] = {}
    skipped = skipped or Skipped(asked=False)
    left = virtual_memory().available // SHARE // processes() if memory is None else memory * GIB

    def take(place: int, counts: TrialCounts) -> None:
        nonlocal left
        if not isinstance(given[place].source, TrialCounts):
            left -= counts.nbytes
            counts = counts.stored(partial(held, in_memory=left >= 0, folder=folder))
        read[place] = counts
        report(len(read))

    workers = workers_for(given)
    if workers > 1:
        read_in_processes(given, data, folder, workers, take, skipped)
    else:
        for place, each in enumerate(given):
            counts = skipped.attempt(each, partial(read_counts, each, data))
            if counts is not None:
                take(place, counts)
    return [read[place] for place in sorted(read)]


def held(values: np.ndarray, in_memory: bool, folder: Path) -> np.ndarray:
    """An array where it shall lie: in memory, or in a file without a name.

    Parameters
    ----------
    values : in memory, or mapped from a file; returned as they are if they lie there already.
    in_memory : False: on disk.
    folder : of the file.
    """
    if is_on_disk(values) != in_memory:
        return values
    return np.array(values) if in_memory else on_disk(values, folder)


def processes() -> int:
    """How many processes on this machine do the same, as torchrun says; 1 without it.

    All of them share the memory and the cores.
    """
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def workers_for(given: list[Recording]) -> int:
    """How many processes read: one where there is little to read, or where not all are files."""
    from loky import cpu_count

    files = [each.source for each in given if isinstance(each.source, Path)]
    if len(files) < len(given) or sum(OPENING + _size(file) for file in files) < ENOUGH:
        return 1
    return min(len(files), cpu_count() // processes())


def _size(file: Path) -> int:
    """In bytes; 0 of a file that is not there, which reading finds."""
    return file.stat().st_size if file.exists() else 0


def read_in_processes(
    given: list[Recording],
    data: DataConfig,
    folder: Path,
    workers: int,
    take: Callable[[int, TrialCounts], None],
    skipped: Skipped,
) -> None:
    """Read recordings in other processes; each is handed over as soon as it is read.

    Ctrl-C ends all processes at once.

    Parameters
    ----------
    given, data, folder, skipped : as of `read_all`.
    workers : how many processes.
    take : called in this process with the place of a recording in `given`, and its counts, which
        are mapped from files.

    Raises
    ------
    DataError : a process was ended from outside.
    """
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(workers)
    with passage(folder) as way:
        try:
            with interrupts_held():
                places = {
                    pool.submit(send, each, data, way / str(place)): place
                    for place, each in enumerate(given)
                }
            for future in as_completed(places):
                place = places[future]
                sent = skipped.attempt(given[place], future.result)
                if sent is not None:
                    take(place, received(*sent))
        except BrokenProcessPool as lost:
            lines = str(lost).splitlines()
            raise DataError(
                "a process that read recordings was ended from outside, as the system does when"
                " memory runs out",
                found=next((line for line in lines if "exit code" in line), lines[0]),
                remedy="fewer at a time: LOKY_MAX_CPU_COUNT=1 metadyn fit …",
            ) from lost
        finally:
            with interrupts_held():
                pool.shutdown(kill_workers=True)


@contextmanager
def passage(folder: Path) -> Iterator[Path]:
    """A folder through which counts pass from process to process.

    Those that killed runs left below the same `folder` are deleted at the start, this one at the
    end.

    Raises
    ------
    WriteError : it cannot be made.
    """
    remove_leftovers(folder / "reading")
    way = private_name(folder / "reading")
    with disk_errors(folder):
        way.mkdir()
    try:
        yield way
    finally:
        shutil.rmtree(way, ignore_errors=True)


def send(
    recording: Recording, data: DataConfig, path: Path
) -> tuple[TrialCounts, list[dict], list[tuple]]:
    """Read and bin a recording, and write its arrays of entries into files.

    Parameters
    ----------
    recording, data : as of `read_counts`.
    path : of the files, each of which gets its number for a suffix.

    Returns
    -------
    The counts without these arrays; of each file its name, dtype and shape, as `np.memmap` takes
    them; and the warnings, as `warnings.warn_explicit` takes them.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        counts = read_counts(recording, data)
    layouts: list[dict] = []

    def sent(values: np.ndarray) -> np.ndarray:
        file = path.with_suffix(f".{len(layouts)}")
        with disk_errors(path.parent.parent), file.open("wb") as opened:
            write_array(values, opened)
        layouts.append({"filename": file, "dtype": values.dtype, "shape": values.shape})
        return np.empty(0)

    emptied = counts.stored(sent)
    warned = [(str(each.message), each.category, each.filename, each.lineno) for each in caught]
    return emptied, layouts, warned


def received(counts: TrialCounts, layouts: list[dict], warned: list[tuple]) -> TrialCounts:
    """The counts that another process sent, mapped from files that have no name any more.

    Warns of what that process warned of.

    Parameters
    ----------
    counts, layouts, warned : what `send` returned there.
    """
    for each in warned:
        warnings.warn_explicit(*each)
    mapped = (np.memmap(mode="r", **layout) for layout in layouts)
    counts = counts.stored(lambda _: next(mapped))  # in the order in which they were sent
    for layout in layouts:
        layout["filename"].unlink()
    return counts
