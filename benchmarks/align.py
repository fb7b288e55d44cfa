"""Time to align a new session from 1, 8, 16 and 64 trials on the CPU, with the forecasts that it
reaches.

    python -m benchmarks.align [--seeds 1 2 3] [--quick]

The model of twenty limit cycles of `python -m benchmarks.paper motivating`, out of benchmarks/cache
where it was fitted before, else fitted first; the new session turns at a speed between two of
theirs (4.1; trials of 300 bins, Gaussian observations). All of
`metadyn.training.alignment.align.align` is timed: where there are four trials or more, that is once
on three quarters of them, to choose the number of steps, and once on all. Seconds are medians over
seeds: `cpu_s` of this process, which has one thread unless OMP_NUM_THREADS says otherwise, and
`wall_s`, which is longer where others use the machine. r² of test trials (k20, k30, k50: up to so
many bins ahead) as in the experiment; `ceiling` is what the true dynamics reach. Results:
benchmarks/results/align.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.paper.__main__ import CACHE
from benchmarks.paper.cache import Cache
from benchmarks.paper.few_shot import ceiling, scored
from benchmarks.paper.methods import Bench, fitted
from benchmarks.paper.sets import draws
from benchmarks.record import save_result
from metadyn.training.alignment.align import align

SET, METHOD = "limit-cycles-20", "low_rank"
SHOTS, QUICK_SHOTS = (1, 8, 16, 64), (1, 4)
MEASURES = ("k20", "k30", "k50")


def measure(bench: Bench, seed: int, shots: tuple[int, ...]) -> dict[int, dict[str, float]]:
    """{number of trials: seconds and r²} of one seed; an alignment from one trial goes before, as
    the first is slower."""
    trained, sample = fitted(bench, SET, METHOD, seed), bench.simulated(SET, seed).new[0]
    found = {}
    for n_shots in (1, *shots):
        given = sample.given.select(draws(sample.given.n_trials, n_shots, 1, seed)[0])
        wall, cpu = time.perf_counter(), time.process_time()
        aligned = align(trained, given, bench.align(seed), device="cpu")
        took = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
        scores = scored(bench, SET, aligned, sample)
        found[n_shots] = took | {name: scores[name] for name in MEASURES}
        bench.say(f"seed {seed}: {n_shots} trials {json.dumps(found[n_shots])}")
    return found


def over_seeds(runs: list[dict[str, float]]) -> dict[str, float]:
    """Median seconds and mean r²."""
    seconds = {name: round(median(run[name] for run in runs), 2) for name in ("cpu_s", "wall_s")}
    return seconds | {
        name: round(float(np.mean([run[name] for run in runs])), 4) for name in MEASURES
    }


def true_dynamics(bench: Bench, seed: int) -> dict[str, float]:
    (scores,) = ceiling(bench, SET, seed)["new"].values()
    return {name: scores[name] for name in MEASURES}


def measured(bench: Bench, seeds: list[int], shots: tuple[int, ...]) -> dict:
    """Figures by number of trials, and of the true dynamics."""
    runs = {seed: measure(bench, seed, shots) for seed in seeds}
    figures = {
        str(n_shots): over_seeds([runs[seed][n_shots] for seed in seeds]) for n_shots in shots
    }
    true = [true_dynamics(bench, seed) for seed in seeds]
    return figures | {
        "ceiling": {
            name: round(float(np.mean([each[name] for each in true])), 4) for name in MEASURES
        }
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="four short sessions, few steps, one seed; nothing is kept",
    )
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if given.quick:
        with tempfile.TemporaryDirectory() as folder:
            print(
                json.dumps(
                    measured(Bench(Cache(Path(folder)), True, say), given.seeds[:1], QUICK_SHOTS)
                )
            )
        return
    figures = measured(Bench(Cache(CACHE), False, say), given.seeds, SHOTS)
    save_result("align", figures, seeds=given.seeds, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
