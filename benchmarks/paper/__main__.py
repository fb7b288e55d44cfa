"""The paper's experiments on simulated data, over seeds, beside the true dynamics.

    python -m benchmarks.paper NAME [--seeds 1 2 3] [--only low_rank,shared] [--fresh [measures]]
    [--quick]

What is computed is kept in benchmarks/cache/, so that a run that was stopped goes on, and several
with different --only share the work; the run without --only writes
benchmarks/results/paper-NAME.json and figures/NAME-*.png. Progress goes to stderr; the last line is
one JSON object {experiment: {method: {measure: [mean, sem] or {n_s: [mean, sem]}}}}, over seeds of
means over sessions. r² of a session counts as no less than -10. Seed 0 is for development: settings
were chosen on it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch

from benchmarks.paper.cache import Cache
from benchmarks.paper.experiments import EXPERIMENTS
from benchmarks.paper.figures import draw
from benchmarks.paper.methods import TUNING_RUNS, Bench
from benchmarks.paper.table import rounded, table
from benchmarks.record import RESULTS, save_result, say

CACHE = Path(__file__).parents[1] / "cache"


def measured(
    name: str, bench: Bench, seeds: list[int], methods: tuple[str, ...]
) -> dict[int, dict[str, dict]]:
    """{seed: {method: measurement}}, telling how long the rest will take if it goes on like
    this."""
    began, done, total, found = time.monotonic(), 0, len(seeds) * len(methods), {}
    for seed in seeds:
        found[seed] = {}
        for method in methods:
            found[seed][method] = EXPERIMENTS[name].measure(bench, seed, method)
            done += 1
            left = (time.monotonic() - began) / done * (total - done) / 60
            bench.say(
                f"{name}: {method} seed {seed} done, {done} of {total}; about {left:.1f} min left"
            )
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--only", help="methods, with commas between; nothing is then written to results/"
    )
    parser.add_argument(
        "--fresh",
        nargs="?",
        const="all",
        choices=("all", "measures"),
        help="forget what is kept, or all but fits",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="everything small, one seed, in benchmarks/cache/quick only",
    )
    return parser.parse_args()


def main() -> None:
    torch.set_num_threads(1)  # two processes share the work of two cores
    given = arguments()
    experiment, seeds = EXPERIMENTS[given.name], given.seeds[:1] if given.quick else given.seeds
    methods = tuple(given.only.split(",")) if given.only else experiment.methods
    if unknown := set(methods) - set(experiment.methods):
        sys.exit(
            f"{given.name} has no method {', '.join(sorted(unknown))}: "
            f"{', '.join(experiment.methods)}"
        )
    root = CACHE / "quick" / given.name if given.quick else CACHE
    if given.quick:
        shutil.rmtree(root, ignore_errors=True)
    elif given.fresh:
        Cache(root).forget(experiment.folders, models=given.fresh == "all")
    bench = Bench(Cache(root), given.quick, say)
    found = measured(given.name, bench, seeds, methods)
    figures = {given.name: table(found)}
    if given.only:
        say("with --only nothing is written; run without it when all methods are done")
        print(json.dumps(figures))
        return
    draw(given.name, bench, found, root / "figures" if given.quick else RESULTS / "figures")
    if given.quick:
        print(json.dumps(figures))
        return
    save_result(
        f"paper-{given.name}",
        figures,
        seeds=seeds,
        tuning_runs=TUNING_RUNS,
        per_session=rounded(found),
    )


if __name__ == "__main__":
    main()
