"""Default settings on real recordings, one session each, beside the first defaults and the
baselines of `metadyn score`.

    python -m benchmarks.defaults     three seeds (a split and a fit each): figures of test windows

A seed draws the windows that are kept aside for tests, those that choose the checkpoint, and the
network's first weights. docs/decisions/defaults.md says how the defaults were found, on validation
windows. Data: METADYN_DATA (default ../shared/data). Result: benchmarks/results/defaults.json.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import metadyn
from benchmarks.record import mean_sem, save_result, say
from metadyn.records import TrialCounts

DATA = Path(os.environ.get("METADYN_DATA", Path(__file__).parents[2] / "shared" / "data"))
SETTINGS = {
    "first": {
        "model": {"latent_dim": 8},
        "training": {"steps": 600, "coordinated_dropout": 0.25},
    },
    "now": {"model": {}, "training": {}},
}
FEW, MANY = 50, 300  # windows: as after a short session; as many as half a minute of training takes
MEASURES = ("behavior_r2", "bits_per_spike", "forecast_bits_per_spike")


def maze(most: int | None = None) -> TrialCounts:
    """Reaching trials of .5 s, the first `most` of them, with hand velocity."""
    session = metadyn.read_session(DATA / "maze.nwb", behavior=("hand_velocity",))
    return metadyn.bin_spikes(session, behavior="hand_velocity").select(trials=slice(most))


def human() -> TrialCounts:
    """Trials of a memory task, without behaviour."""
    return metadyn.bin_spikes(
        metadyn.read_session(DATA / "human_mtl.nwb"), intervals="encoding_table"
    )


def continuous(file: str, behavior: str) -> TrialCounts:
    """Windows end to end, of those with behaviour the first MANY."""
    session = metadyn.read_session(DATA / file, behavior=(behavior,))
    counts = metadyn.bin_spikes(session, behavior=behavior)
    known = np.flatnonzero(np.isfinite(counts.behavior).all(-1).any(1))
    return counts.select(trials=known[:MANY])


RECORDINGS: dict[str, Callable[[], TrialCounts]] = {
    "maze": maze,
    f"maze, {FEW} trials": partial(maze, FEW),
    "human": human,
    "CA3": partial(continuous, "alme_17724_fambegin1.nwb", "body"),
    "head direction": partial(continuous, "head_direction.nwb", "ry"),
}


def measured(counts: TrialCounts, settings: dict, seed: int) -> dict[str, dict[str, float]]:
    """Each measure of each predictor on test windows, after a fit with these settings; conditions
    share dynamics."""
    model = settings["model"] | {"conditioning": "shared"}
    config = metadyn.load_config(None, model=model, training=settings["training"] | {"seed": seed})
    scores = metadyn.score(metadyn.fit([counts], None, config), counts)
    found = {}
    for name in MEASURES:
        values = scores.get(name)
        known = (
            []
            if values is None
            else [each for each in scores.predictor.values if values.sel(predictor=each).notnull()]
        )
        found[name] = {str(each): float(values.sel(predictor=each)) for each in known}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    seeds = list(range(parser.parse_args().seeds))
    warnings.simplefilter("ignore")  # notes of reading, the same in each run
    figures = {}
    for name, load in RECORDINGS.items():
        counts = load()
        figures[name] = {}
        for which, settings in SETTINGS.items():
            figures[name][which] = mean_sem([measured(counts, settings, seed) for seed in seeds])
            say(f"{name}, {which}: {figures[name][which]}")
        save_result(
            "defaults", {"mean_sem": figures}, seeds=seeds
        )  # so that a run that is stopped has said what it knows


if __name__ == "__main__":
    main()
