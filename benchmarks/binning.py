"""Time and memory to count spikes in the bins of trials: ours, pynapple's compiled count,
np.histogram.

python -m benchmarks.binning [--spikes 1e7 1e8] [--quick]

300 units at 22 Hz on average, some ten times busier than others, on a 30 kHz clock; 1000 trials of
two thirds of the recording, bins of 20 ms: trials of 1 s with 1e7 spikes, of 10 s with 1e8. Each
repetition times every way in turn, as CPU time of this one thread. np.histogram is called for 60 of
the 300,000 pairs of unit and trial, and scaled.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from itertools import pairwise
from statistics import median

import numpy as np
import pandas as pd

from benchmarks.record import save_result
from metadyn.data.binning import count_spikes
from metadyn.data.counting import Spikes, count_by_numpy, sorted_bins
from metadyn.records import Session, Source, Windows

UNITS, TRIALS, BIN = 300, 1000, 0.02


def recording(n_spikes: int, seed: int = 0) -> tuple[Session, Windows]:
    """A session of about so many spikes, ascending within units, and its trials."""
    rng = np.random.default_rng(seed)
    n_bins = round(n_spikes / 1e7 * 50)
    period = 1.5 * n_bins * BIN
    sizes = rng.multinomial(n_spikes, rng.dirichlet(np.full(UNITS, 2.0)))
    index = np.concatenate([[0], np.cumsum(sizes)])
    times = np.empty(n_spikes)
    for first, stop in pairwise(index):
        times[first:stop] = (
            np.sort(np.rint(rng.uniform(0, TRIALS * period, stop - first) * 30_000)) / 30_000
        )
    start = np.arange(TRIALS) * period + n_bins * BIN / 4
    windows = Windows(start, np.full(TRIALS, n_bins), BIN, "trials", np.arange(TRIALS))
    return Session(
        "made", Source(), times, index, pd.DataFrame(index=range(UNITS)), None, {}
    ), windows


def ours_numpy(session: Session, windows: Windows) -> np.ndarray:
    """What `count_spikes` does without numba."""
    spikes = Spikes(session.spike_times, session.spike_index[:-1], session.spike_index[1:])
    return count_by_numpy(
        spikes, sorted_bins(windows), (len(windows), int(windows.n_bins[0]), session.n_units), 0
    )


def pynapple_count(session: Session, windows: Windows):
    """A function that counts by pynapple, (trial and time, unit); its objects are made
    beforehand."""
    import pynapple

    own = np.split(session.spike_times, session.spike_index[1:-1])
    everywhere = pynapple.IntervalSet(0, windows.stop[-1] + windows.start[0])
    group = pynapple.TsGroup(
        {unit: pynapple.Ts(times) for unit, times in enumerate(own)}, time_support=everywhere
    )
    trials = pynapple.IntervalSet(windows.start, windows.stop)
    return lambda: group.count(windows.bin_width, trials).values


def histogram_count(session: Session, windows: Windows, edges: bool):
    """np.histogram of all spikes of a unit, for 10 units from the quietest to the busiest, and 6
    trials.

    Told the number of bins and their range, from which it can compute a spike's bin, or their
    `edges`, among which it searches.
    """
    sizes = np.diff(session.spike_index)
    units = np.argsort(sizes)[UNITS // 20 :: UNITS // 10]
    trials = np.linspace(0, TRIALS - 1, 6).astype(int)
    own = [
        session.spike_times[session.spike_index[unit] : session.spike_index[unit + 1]]
        for unit in units
    ]
    n_bins, start, stop = int(windows.n_bins[0]), windows.start[trials], windows.stop[trials]

    def count():
        for times in own:
            for first, last in zip(start, stop, strict=True):
                if edges:
                    np.histogram(times, first + np.arange(n_bins + 1) * BIN)
                else:
                    np.histogram(times, n_bins, (first, last))

    return count, UNITS * TRIALS / (len(units) * len(trials))


def cpu_seconds(count) -> float:
    begin = time.process_time()
    count()
    return time.process_time() - begin


def peak_bytes(count) -> int:
    """The most that `count` holds at a time, its result with it."""
    tracemalloc.start()
    count()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def measure(n_spikes: int, repetitions: int) -> dict:
    """CPU seconds (medians), ratios to ours within a repetition (medians), and peak memory."""
    session, windows = recording(n_spikes)
    ways = {
        "ours": (lambda: count_spikes(session, windows).counts, 1),
        "ours_numpy": (lambda: ours_numpy(session, windows), 1),
        "pynapple": (pynapple_count(session, windows), 1),
        "histogram_range": histogram_count(session, windows, edges=False),
        "histogram_edges": histogram_count(session, windows, edges=True),
    }
    counts, theirs = ways["ours"][0](), ways["pynapple"][0]()  # compiled before they are timed
    differ = int(np.count_nonzero(counts.reshape(theirs.shape) != theirs))
    size = session.spike_times.nbytes + counts.nbytes
    del theirs
    took = [
        {name: scale * cpu_seconds(count) for name, (count, scale) in ways.items()}
        for _ in range(repetitions)
    ]
    peak = {name: peak_bytes(ways[name][0]) for name in ("ours", "ours_numpy", "pynapple")}
    return {
        "trial_bins": int(windows.n_bins[0]),
        "repetitions": repetitions,
        **{f"{name}_s": round(median(run[name] for run in took), 4) for name in ways},
        **{
            f"{name}_ratio": round(median(run[name] / run["ours"] for run in took), 1)
            for name in ways
            if name != "ours"
        },
        "spikes_and_counts_mib": round(size / 2**20, 1),
        **{f"{name}_peak_mib": round(peak[name] / 2**20, 1) for name in peak},
        "cells_that_pynapple_counts_otherwise": differ,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--spikes", type=float, nargs="+", default=[1e7], help="how many, one recording each"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a million spikes, twice; nothing is kept"
    )
    options = parser.parse_args()
    sizes = [1_000_001] if options.quick else [int(n) for n in options.spikes]
    figures = {}
    for n in sizes:
        figures[f"{n:.3g}"] = found = measure(n, 2 if options.quick else 7)
        print(
            f"{n:.3g} spikes",
            *(f"  {name}: {value}" for name, value in found.items()),
            sep="\n",
            flush=True,
        )
    if options.quick:
        print(json.dumps(figures))
    else:
        save_result("binning", figures, seed=0)


if __name__ == "__main__":
    main()
