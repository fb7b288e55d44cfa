"""Simulated sessions as counts, and training short enough for a test."""

import numpy as np
import pytest
import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.synthetic import SimulatedSession, simulate
from metadyn.records import Source, TrialCounts, Windows

torch.set_num_threads(1)  # tensors this small gain nothing from threads, and lose much where cores are shared


def counts_of(session: SimulatedSession) -> TrialCounts:
    n_trials, n_bins, n_units = session.counts.shape
    return TrialCounts(
        session=session.key,
        source=Source(identifier=session.key),
        counts=session.counts.astype(np.uint8),
        observed=np.ones((n_trials, n_bins), bool),
        windows=Windows(session.trial_start, np.full(n_trials, n_bins), session.bin_width, "trials", np.arange(n_trials)),
        unit_rows=np.arange(n_units),
    )


@pytest.fixture(scope="session")
def simulated():
    """Simulated sessions as TrialCounts."""

    def make(**options) -> list[TrialCounts]:
        usual = {"n_sessions": 3, "n_trials": 8, "n_bins": 24, "units": (5, 8), "rate_range": (15.0, 40.0), "seed": 0}
        return [counts_of(session) for session in simulate("limit-cycle", **{**usual, **options})]

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
        usual = {"distil_steps": 4, "steps": 8, "trials_per_session": 4, "validate_every": 4, "kl_ramp": 4}
        return TrainingConfig(**{**usual, "smoothing_bins": 3.0, **options})

    return make
