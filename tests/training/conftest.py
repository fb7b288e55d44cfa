"""Simulated sessions as counts, and training short enough for a test."""

import pytest
import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.synthetic import as_counts, simulate
from metadyn.records import TrialCounts

torch.set_num_threads(1)  # tensors this small gain nothing from threads, and lose much where cores are shared


@pytest.fixture(scope="session")
def simulated():
    """Simulated sessions as TrialCounts."""

    def make(**options) -> list[TrialCounts]:
        usual = {"n_sessions": 3, "n_trials": 8, "n_bins": 24, "units": (5, 8), "rate_range": (15.0, 40.0), "seed": 0}
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
        usual = {"distil_steps": 4, "steps": 8, "trials_per_session": 4, "validate_every": 4, "kl_ramp": 4}
        return TrainingConfig(**{**usual, "smoothing_bins": 3.0, **options})

    return make
