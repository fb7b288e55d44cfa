"""Time and memory to annotate a file and to read one, beside what h5py takes for the same bytes.

    python -m benchmarks.io [--quick]

`annotate`: a simulated session of 1000 trials x 100 bins x 200 units and what a model infers of it go into a copy of its file:
copy, add, close, bring to the disk, rename; without validation, whose seconds are told beside. `h5py`: a plain copy of the
source and the same arrays, chunked and compressed alike, in a new file. `read back`: latents, rates and their SDs, through pynwb
and through h5py. `read`: `read_session` and `count_spikes` of 1e7 spikes of 300 units, and h5py's reading of the spike times
alone. CPU seconds of this one thread, medians of repetitions in turns, as other work on the machine does not change them;
ratios within a repetition. Peaks are what Python and numpy hold at most (tracemalloc). Results: benchmarks/results/io.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
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
from pynwb import NWBHDF5IO, NWBFile, read_nwb
from pynwb.misc import Units

from benchmarks.binning import cpu_seconds, peak_bytes, recording
from benchmarks.record import save_result
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.binning import bin_spikes, count_spikes
from metadyn.data.synthetic import simulate
from metadyn.inference.infer import infer
from metadyn.nwb import write
from metadyn.nwb.read import read_session
from metadyn.nwb.simulate import write_simulated
from metadyn.nwb.validity import new_errors
from metadyn.records import ModelFile, Session, Windows
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
    repetitions: int = 7


QUICK = Size(trials=20, bins=30, units=10, spikes=100_000, repetitions=2)


def inferred(size: Size, folder: Path) -> tuple[Path, xr.Dataset, ModelFile]:
    """A session's file, and what a model of ten steps infers of it; one family of limit cycles, spikes."""
    truth = simulate("limit-cycle", n_sessions=1, units=(size.units,) * 2, n_trials=size.trials, n_bins=size.bins)[0]
    source = write_simulated(truth, folder)
    counts = bin_spikes(read_session(source), min_rate=0.0)
    few = counts.select(slice(20))
    trained = fit([few], ModelConfig(latent_dim=2), TrainingConfig(steps=10, distil_steps=10))
    return source, infer(trained, counts), trained.file()


def write_plainly(source: Path, target: Path, arrays: dict[str, np.ndarray], like: dict[str, dict]) -> None:
    """A copy of the source, and a new file of the arrays with the storage `like`."""
    shutil.copyfile(source, target.with_suffix(".copy"))
    with h5py.File(target, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **like[name])


def stored(path: Path) -> dict[str, h5py.Dataset]:
    """The arrays of latents and rates in an annotated file, read, and how each is stored."""
    arrays, like = {}, {}
    with h5py.File(path) as file:
        for series in SERIES:
            for name in ("data", "data_sd"):
                data = file[f"{RUN}/{series}/{name}"]
                key = f"{series}_{name}"
                arrays[key] = data[:]
                like[key] = {part: getattr(data, part) for part in ("chunks", "compression", "compression_opts", "shuffle")}
    return arrays, like


def read_by_pynwb(path: Path) -> None:
    run = read_nwb(path).processing["ecephys"]["LatentDynamics"]
    for series in (run.latent_series["LatentSeries"], run.firing_rate_series["FiringRateSeries"]):
        series.data[:], series.data_sd[:]
