"""Time and memory to annotate a file and to read one, beside what h5py takes for the same bytes.

    python -m benchmarks.io [--quick]

`annotate`: a simulated session of 1000 trials x 100 bins x 200 units and what a model infers of it
go into a copy of its file: copy, add, close, bring to the disk, rename; without validation, whose
seconds are told beside. `h5py`: a plain copy of the source, and the same arrays, chunked and
compressed alike, in a new file. `read_back`: latents, rates and their SDs, through pynwb, and by
h5py alone. `read`: `read_session`, and `count_spikes` after it, of 1e7 spikes of 300 units; h5py's
reading of the spike times alone. `many`: 64 recordings as `annotate` has, read and binned by this
process, and by as many processes as there are cores, their start with it.

CPU seconds of this one thread, as other work on the machine hardly changes them, medians of
repetitions in turns; ratios within a repetition. Of `many` seconds on the clock, which other work
prolongs. Peaks are what Python and numpy hold at most (tracemalloc), of `read` over the bytes of
the spikes, or of spikes and counts. Results: benchmarks/results/io.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from unittest import mock

import h5py
import numpy as np
import xarray as xr
from hdmf.common import VectorData, VectorIndex
from loky import cpu_count
from pynwb import NWBHDF5IO, NWBFile, read_nwb
from pynwb.misc import Units

from benchmarks.binning import cpu_seconds, peak_bytes, recording
from benchmarks.record import save_result
from metadyn.config import DataConfig, ModelConfig, TrainingConfig
from metadyn.data.binning import bin_spikes, count_spikes
from metadyn.data.synthetic import simulate
from metadyn.inference.infer import infer
from metadyn.nwb import write
from metadyn.nwb.read import read_session
from metadyn.nwb.simulate import write_simulated
from metadyn.nwb.validity import new_errors
from metadyn.pipeline.inputs import Recording, read_counts
from metadyn.pipeline.reading import read_in_processes
from metadyn.pipeline.skipping import skipping
from metadyn.records import ModelFile, Session, TrialCounts, Windows
from metadyn.training.fit import fit

SERIES = ("LatentSeries", "FiringRateSeries")
RUN = "processing/ecephys/LatentDynamics"


@dataclass(frozen=True)
class Size:
    """Of the session that is annotated, the spikes that are read, and how often each is timed."""

    trials: int = 1000
    bins: int = 100
    units: int = 200
    spikes: int = 10_000_000
    files: int = 64
    repetitions: int = 7


QUICK = Size(trials=20, bins=30, units=10, spikes=100_000, files=3, repetitions=2)


def inferred(size: Size, folder: Path) -> tuple[Path, xr.Dataset, ModelFile]:
    """A session's file, and what a model of ten steps infers of it; one family of limit cycles,
    spikes."""
    truth = simulate(
        "limit-cycle", n_sessions=1, units=(size.units,) * 2, n_trials=size.trials, n_bins=size.bins
    )[0]
    source = write_simulated(truth, folder)
    counts = bin_spikes(read_session(source), min_rate=0.0)
    few = counts.select(slice(20))
    trained = fit([few], ModelConfig(latent_dim=2), TrainingConfig(steps=10, pretrain_steps=10))
    return source, infer(trained, counts), trained.file()


def write_plainly(
    source: Path, target: Path, arrays: dict[str, np.ndarray], like: dict[str, dict]
) -> None:
    """A copy of the source, and a new file of the arrays with the storage `like`."""
    shutil.copyfile(source, target.with_suffix(".copy"))
    with h5py.File(target, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **like[name])


def stored(path: Path) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """The arrays of latents and rates in an annotated file, and how each is stored."""
    arrays, like = {}, {}
    with h5py.File(path) as file:
        for series in SERIES:
            for name in ("data", "data_sd"):
                data = file[f"{RUN}/{series}/{name}"]
                key = f"{series}_{name}"
                arrays[key] = data[:]
                like[key] = {
                    part: getattr(data, part)
                    for part in ("chunks", "compression", "compression_opts", "shuffle")
                }
    return arrays, like


def read_by_pynwb(path: Path) -> None:
    run = read_nwb(path).processing["ecephys"]["LatentDynamics"]
    for series in (run.latent_series["LatentSeries"], run.firing_rate_series["FiringRateSeries"]):
        series.data[:], series.data_sd[:]


def annotate_figures(size: Size, folder: Path) -> dict:
    """CPU seconds to annotate, to write the same by h5py, to validate and to read back."""
    source, posterior, model = inferred(size, folder)
    annotated, plain = folder / "annotated.nwb", folder / "plain.h5"

    def annotate() -> None:
        annotated.unlink(missing_ok=True)
        write.write_run(source, annotated, posterior, model=model)

    with mock.patch.object(write, "assert_no_worse", return_value=None):
        annotate()  # what is imported and looked up once
        arrays, like = stored(annotated)
        ways = {
            "annotate": annotate,
            "h5py": lambda: write_plainly(source, plain, arrays, like),
            "read_back": lambda: read_by_pynwb(annotated),
            "read_back_h5py": lambda: stored(annotated),
        }
        took = in_turns(ways, size.repetitions)
        peak = peak_bytes(annotate)
    return {
        **medians(took),
        "speed_of_h5py": round(median(run["h5py"] / run["annotate"] for run in took), 2),
        "validate_s": round(cpu_seconds(lambda: new_errors(annotated, source)), 3),
        "source_mib": round(source.stat().st_size / 2**20, 1),
        "added_mib": round((annotated.stat().st_size - source.stat().st_size) / 2**20, 1),
        "arrays_mib": round(sum(values.nbytes for values in arrays.values()) / 2**20, 1),
        "peak_mib": round(peak / 2**20, 1),
    }


def in_turns(ways: dict[str, Callable], repetitions: int) -> list[dict[str, float]]:
    return [{name: cpu_seconds(way) for name, way in ways.items()} for _ in range(repetitions)]


def medians(took: list[dict[str, float]]) -> dict[str, float]:
    return {f"{name}_s": round(median(run[name] for run in took), 3) for name in took[0]}


def write_spikes(session: Session, path: Path) -> None:
    """A file with nothing but spike times, as they are, and their index."""
    nwbfile = NWBFile("spikes alone", session.key, datetime(2020, 1, 1, tzinfo=UTC))
    times = VectorData(
        name="spike_times",
        description="the spike times for each unit in seconds",
        data=session.spike_times,
    )
    index = VectorIndex(name="spike_times_index", data=session.spike_index[1:], target=times)
    nwbfile.units = Units(
        name="units", description="made", columns=[times, index], colnames=["spike_times"]
    )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)


def read_plainly(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["units/spike_times"][:]


def read_and_count(path: Path, windows: Windows) -> tuple[Session, np.ndarray]:
    session = read_session(path)
    return session, count_spikes(session, windows).counts


def read_figures(size: Size, folder: Path) -> dict:
    """CPU seconds and memory to read spikes and to count them."""
    made, windows = recording(size.spikes)
    path = folder / "spikes.nwb"
    write_spikes(made, path)
    session, counts = read_and_count(path, windows)
    assert np.array_equal(session.spike_times, made.spike_times)
    ways = {
        "read": lambda: read_session(path),
        "h5py": lambda: read_plainly(path),
        "read_and_count": lambda: read_and_count(path, windows),
    }
    size_of_both = made.spike_times.nbytes + counts.nbytes
    del session, counts
    return {
        **medians(in_turns(ways, size.repetitions)),
        "spikes_mib": round(made.spike_times.nbytes / 2**20, 1),
        "read_peak": round(peak_bytes(lambda: read_session(path)) / made.spike_times.nbytes, 2),
        "read_and_count_peak": round(
            peak_bytes(lambda: read_and_count(path, windows)) / size_of_both, 2
        ),
    }


def seconds(way: Callable[[], dict]) -> tuple[float, dict]:
    """Seconds on the clock, and what was read."""
    began = time.monotonic()
    read = way()
    return time.monotonic() - began, read


def many_figures(size: Size, folder: Path) -> dict:
    """Seconds to read and bin many files by this process and by several; their counts are then in
    memory."""
    truth = simulate(
        "limit-cycle", n_sessions=1, units=(size.units,) * 2, n_trials=size.trials, n_bins=size.bins
    )[0]
    source, workers = write_simulated(truth, folder / "many"), min(size.files, cpu_count())
    given = [Recording(source.with_name(f"{number}.nwb")) for number in range(size.files)]
    for each in given:
        os.link(source, each.source)

    def by_one() -> dict:
        return {place: read_counts(each, DataConfig()).counts for place, each in enumerate(given)}

    def by_several() -> dict:
        read = {}

        def take(place: int, counts: TrialCounts) -> None:
            read[place] = np.array(counts.counts)

        with skipping(False) as skipped:
            read_in_processes(given, DataConfig(), folder, workers, take, skipped)
        return read

    took = []
    for _ in range(min(3, size.repetitions)):
        (alone, expected), (together, read) = seconds(by_one), seconds(by_several)
        assert all(np.array_equal(expected[place], read[place]) for place in range(size.files))
        took.append({"one": alone, "several": together})
    ratio = round(median(run["one"] / run["several"] for run in took), 2)
    return {
        **medians(took),
        "speed_of_one": ratio,
        "processes": workers,
        "files_mib": round(source.stat().st_size / 2**20, 1),
    }


PARTS = {"annotate": annotate_figures, "read": read_figures, "many": many_figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small, in seconds; nothing is kept")
    quick = parser.parse_args().quick
    size = QUICK if quick else Size()
    with tempfile.TemporaryDirectory() as folder:
        figures = {name: part(size, Path(folder)) for name, part in PARTS.items()}
    if quick:
        print(json.dumps(figures))
    else:
        save_result("io", figures, seed=0, size=vars(size))


if __name__ == "__main__":
    main()
