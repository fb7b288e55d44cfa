"""What share of a fit its calibration is, and how much memory the fit takes, with sessions as of
Steinmetz et al. (2019).

    python -m benchmarks.calibration [--quick]

17 sessions of 500 to 1800 units x 300 windows x 40 bins of sparse Poisson counts (median .02 a
bin), fitted with the default settings by one thread in a process of its own. CPU seconds of each
stage, as `report` names them, and the largest resident memory. Result:
benchmarks/results/calibration.json; with --quick (six small sessions, few steps), none.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmarks.record import in_a_process, resident_mib, save_result, say
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.execution.loop import StepReport
from metadyn.training.fit import fit

SEED, BIN_WIDTH = 0, 0.02
AFTER = ("embed", "calibrate")  # stages after the training


@dataclass(frozen=True)
class Size:
    """Sessions, units of the smallest and the largest, windows and bins of each."""

    sessions: int = 17
    fewest_units: int = 500
    most_units: int = 1800
    windows: int = 300
    bins: int = 40


QUICK = Size(6, 20, 60, 24, 20)


def sessions_of(size: Size) -> list[TrialCounts]:
    """Sessions of uneven numbers of units in no order, which share the turning of a plane of
    latents at speeds of their own."""
    rng = np.random.default_rng(SEED)
    units = rng.permutation(
        np.linspace(size.fewest_units, size.most_units, size.sessions).round().astype(int)
    )
    return [session_of(f"s{row}", n_units, size, rng) for row, n_units in enumerate(units)]


def session_of(key: str, n_units: int, size: Size, rng: np.random.Generator) -> TrialCounts:
    """Poisson counts, bytes, of log-normal rates that follow a phase with noise."""
    turns = rng.normal(rng.uniform(0.1, 0.3), 0.1, (size.windows, size.bins))
    phase = rng.uniform(0, 2 * np.pi, (size.windows, 1)) + turns.cumsum(1)
    latents = np.stack([np.cos(phase), np.sin(phase)], -1).astype(np.float32)
    weight = rng.normal(0, 0.4, (2, n_units)).astype(np.float32)
    rate = np.exp(latents @ weight + rng.normal(np.log(0.02), 1, n_units).astype(np.float32))
    windows = Windows(
        np.arange(size.windows) * 2.0,
        np.full(size.windows, size.bins),
        BIN_WIDTH,
        None,
        np.full(size.windows, -1),
    )
    observed = np.ones(rate.shape[:2], bool)
    return TrialCounts(
        key, Source(), rng.poisson(rate).astype(np.uint8), observed, windows, np.arange(n_units)
    )


def measured_fit(size: Size, steps: int | None) -> dict:
    """CPU seconds of each stage of a whole fit in this process, which are those up to its reports,
    and MiB at most."""
    torch.set_num_threads(1)
    sessions = sessions_of(size)
    seconds, last = defaultdict(float), time.process_time()

    def note(report: StepReport) -> None:
        nonlocal last
        now = time.process_time()
        seconds[report.stage] += now - last
        last = now
        if report.validation or report.stage not in ("pretrain", "elbo"):
            say(f"{report.stage} {report.step}/{report.steps}")

    training = (
        TrainingConfig()
        if steps is None
        else TrainingConfig(pretrain_steps=steps, steps=steps, validate_every=steps)
    )
    trained = fit(sessions, ModelConfig(), training, report=note)
    whole = sum(seconds.values())
    return {
        "cpu_s": {stage: round(value, 1) for stage, value in seconds.items()},
        "calibration_share": round(seconds["calibrate"] / whole, 4),
        "after_training_share": round(sum(seconds[stage] for stage in AFTER) / whole, 4),
        "peak_mib": round(resident_mib()),
        "counts_mib": round(sum(counts.counts.nbytes for counts in sessions) / 2**20),
        "noise_scales": [round(entry.noise_scale, 3) for entry in trained.sessions],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small, in seconds; nothing is kept")
    quick = parser.parse_args().quick
    size = QUICK if quick else Size()
    figures = in_a_process(measured_fit, size, 4 if quick else None)
    if quick:
        print(json.dumps(figures))
    else:
        save_result("calibration", figures, seed=SEED, **asdict(size))


if __name__ == "__main__":
    main()
