"""Simulated sessions as counts, and training short enough for a test."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.synthetic import as_counts, simulate
from metadyn.records import TrialCounts

torch.set_num_threads(
    1
)  # tensors this small gain nothing from threads, and lose much where cores are shared


@pytest.fixture(scope="session")
def simulated():
    """Simulated sessions as TrialCounts."""

    def make(**options) -> list[TrialCounts]:
        usual = {
            "n_sessions": 3,
            "n_trials": 8,
            "n_bins": 24,
            "units": (5, 8),
            "rate_range": (15.0, 40.0),
            "seed": 0,
        }
        return [as_counts(session) for session in simulate("limit-cycle", **{**usual, **options})]

    return make


@pytest.fixture(scope="session")
def small():
    """A small model."""

    def make(**options) -> ModelConfig:
        sizes = {
            "latent_dim": 2,
            "embedding_dim": 1,
            "hidden": (8, 8),
            "hyper_hidden": 6,
            "readin_hidden": 8,
            "embedding_hidden": 6,
            "latent_hidden": 8,
        }
        sizes |= {"latent_dim": 2, "embedding_dim": 1}
        return ModelConfig(**{**sizes, "readin_dim": 4, **options})

    return make


@pytest.fixture(scope="session")
def short():
    """A short training."""

    def make(**options) -> TrainingConfig:
        usual = {
            "pretrain_steps": 4,
            "steps": 8,
            "trials_per_session": 4,
            "validate_every": 4,
            "kl_ramp": 4,
        }
        return TrainingConfig(**{**usual, "smoothing_bins": 3.0, **options})

    return make


@pytest.fixture(scope="session")
def uneven(simulated):
    """Two to four sessions in which nothing is equal that need not be: the smallest first; 5, 9, 3
    and 8 trials of 9 to 24 bins; a gap in each trial, and a trial of the first in which hardly
    anything was observed."""

    def make(n_sessions: int = 3, **options) -> list[TrialCounts]:
        rng, sizes = np.random.default_rng(3), [(4, 4), (9, 9), (6, 6), (7, 7)]
        out = []
        for place, (units, n_trials) in enumerate(zip(sizes, (5, 9, 3, 8), strict=True)):
            counts = simulated(
                n_sessions=n_sessions, units=units, n_trials=n_trials, seed=place, **options
            )[place % n_sessions]
            n_bins = rng.integers(9, 25, n_trials)
            n_bins[place % n_trials] = 24
            bins, gap = np.arange(24), rng.integers(2, 8, n_trials)[:, None]
            observed = (bins < n_bins[:, None]) & ((bins < gap) | (bins > gap + 1))
            if place == 0:
                observed[1, 3:] = False
            windows = replace(counts.windows, n_bins=n_bins, trial_row=np.arange(n_trials) * 2 + 1)
            values = counts.counts * observed[..., None].astype(counts.counts.dtype)
            rows = np.arange(units[0]) * 3 + place
            out.append(
                replace(
                    counts,
                    session=f"session-{place}",
                    counts=values,
                    observed=observed,
                    windows=windows,
                    unit_rows=rows,
                )
            )
        return out[:n_sessions]

    return make
