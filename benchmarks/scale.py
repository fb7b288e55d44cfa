"""How seconds of a training step and memory grow with sessions, units, trials and bins.

    python -m benchmarks.scale [--quick]

Steps of `sessions_per_step` sessions on random counts (bytes), from a random start; CPU seconds of
the process, the median of several steps of each size, sizes in turns. An exponent is the slope of
log seconds on log size: 1 is in proportion, 0 is no matter. `memory`: a whole fit of 200 sessions x
150 units x 500 trials x 50 bins in a process of its own, warm start and all, of a few steps, as
largest resident memory. Results: benchmarks/results/scale.json; with --quick, of small sizes, none.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from benchmarks.record import in_a_process, resident_mib, save_result, say
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.model.build import build_model
from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.execution.step import Task, take_step
from metadyn.training.fit import fit
from metadyn.training.task import make_task

SEED, WARM_UP = 0, 2


@dataclass(frozen=True)
class Size:
    """Sessions there are, sessions and trials of each in a step, units, trials there are, bins."""

    sessions: int = 40
    per_step: int = 10
    batch: int = 8
    units: int = 100
    trials: int = 50
    bins: int = 50


WHOLE = Size(sessions=200, per_step=20, batch=8, units=150, trials=500, bins=50)  # issue 4
AXES = {  # what is varied, and the values it takes
    "sessions": (20, 80, 320),
    "per_step": (5, 10, 20, 40),
    "batch": (4, 8, 16, 32),
    "units": (50, 100, 200, 400),
    "trials": (25, 100, 400),
    "bins": (25, 50, 100, 200),
}
QUICK = {"sessions": (4, 12), "per_step": (2, 4)}


def counts_of(size: Size, session: int) -> TrialCounts:
    """Poisson counts, bytes, at .1 to 1 a bin, which rise and fall together: there is something to
    start from."""
    rng = np.random.default_rng([SEED, session])
    phase = (
        rng.uniform(0, 2 * np.pi, (size.trials, 1, 1))
        + np.linspace(0, 4 * np.pi, size.bins)[None, :, None]
    )
    rate = rng.uniform(0.1, 1, size.units) * np.exp(
        0.5 * np.sin(phase + rng.uniform(0, 2 * np.pi, size.units))
    )
    windows = Windows(
        np.arange(size.trials) * 10.0,
        np.full(size.trials, size.bins),
        0.02,
        None,
        np.full(size.trials, -1),
    )
    observed = np.ones((size.trials, size.bins), bool)
    values = rng.poisson(rate.astype(np.float32)).astype(np.uint8)
    return TrialCounts(f"s{session}", Source(), values, observed, windows, np.arange(size.units))


MODEL = ModelConfig(latent_dim=8)


def task(size: Size) -> Task:
    sessions = [counts_of(size, session) for session in range(size.sessions)]
    training = TrainingConfig(
        warm_start=False,
        pretrain_steps=0,
        trials_per_session=size.batch,
        sessions_per_step=size.per_step,
        tail_bins=10,
    )
    pool = HostTrials(sessions, torch.device("cpu"), size.per_step)
    model = build_model(MODEL, [counts.n_units for counts in sessions], seed=SEED)
    return make_task(model, pool, pool, MODEL, training, (size.bins, size.bins))


def seconds_of_steps(sizes: list[Size], repeats: int) -> list[float]:
    """Median CPU seconds of a step of each size."""
    tasks, seconds = [task(size) for size in sizes], [[] for _ in sizes]
    for step in range(WARM_UP + repeats):
        for each, taken in zip(tasks, seconds, strict=True):
            began = time.process_time()
            take_step(each, step, 1.0)
            taken.append(time.process_time() - began)
    return [float(np.median(taken[WARM_UP:])) for taken in seconds]


def growth(axis: str, values: tuple[int, ...], base: Size, repeats: int) -> dict:
    """Seconds at each value of one size, the others being those of `base`, and the exponent."""
    seconds = seconds_of_steps([replace(base, **{axis: value}) for value in values], repeats)
    exponent = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
    return {
        "exponent": round(exponent, 3),
        "seconds": dict(zip(map(str, values), np.round(seconds, 4).tolist(), strict=True)),
    }


def fit_peak(size: Size, steps: int) -> dict[str, float]:
    """MiB that a whole fit takes in this process at most, and its CPU seconds."""
    sessions = [counts_of(size, session) for session in range(size.sessions)]
    training = TrainingConfig(
        pretrain_steps=steps,
        steps=steps,
        sessions_per_step=size.per_step,
        trials_per_session=size.batch,
        validate_every=steps,
    )
    began = time.process_time()
    fit(sessions, MODEL, training)
    return {
        "peak_mib": round(resident_mib()),
        "cpu_s": round(time.process_time() - began, 1),
        "counts_mib": round(sum(counts.counts.nbytes for counts in sessions) / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small, in seconds; nothing is kept")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    whole = Size(sessions=6, per_step=2, batch=2, units=12, trials=8, bins=20) if quick else WHOLE
    memory = in_a_process(
        fit_peak, whole, 2 if quick else 10
    )  # first: a process starts at its parent's peak
    figures = {"memory": {**asdict(whole), **memory}}
    say(f"memory: {figures['memory']}")
    for axis, values in (QUICK if quick else AXES).items():
        base = (
            replace(Size(), units=12, trials=8, batch=2, sessions=6, per_step=2, bins=20)
            if quick
            else Size()
        )
        figures[axis] = growth(axis, values, base, 2 if quick else 7)
        say(f"{axis}: {figures[axis]}")
    if quick:
        print(json.dumps(figures))
    else:
        save_result("scale", figures, seed=SEED, base=asdict(Size()))


if __name__ == "__main__":
    main()
