"""The demo over several seeds: does the embedding follow speed, and by how much do forecasts beat
shared dynamics?

    python -m benchmarks.demo [--seeds 3]

Eight simulated Poisson sessions of different speed and a ninth aligned from 8 trials; test trials;
results in benchmarks/results/demo.json. r² is of forecast rates against the true rates, at that
many bins ahead.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np

from benchmarks.record import mean_sem, save_result
from metadyn.pipeline.demo import HORIZONS, demo


def run(seed: int) -> dict:
    """One seed: Spearman of embedding and speed, r² by horizon, wall-clock seconds."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = demo(folder, seed=seed)
    by_horizon = {
        "low_rank": found.low_rank[:-1].mean(0),
        "shared": np.nanmean(found.shared[:-1], axis=0),
        "new_session_8_trials": found.low_rank[-1],
    }
    figures = {
        name: {f"k{k}": float(value) for k, value in zip(HORIZONS, values, strict=True)}
        for name, values in by_horizon.items()
    }
    return {"abs_spearman": abs(found.spearman), **figures, "seconds": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    seeds = list(range(parser.parse_args().seeds))
    runs = [run(seed) for seed in seeds]
    save_result("demo", {"mean_sem": mean_sem(runs), "runs": runs}, seeds=seeds)


if __name__ == "__main__":
    main()
