"""A model with random weights that knows a ragged session, and one that knows nothing of time."""

import numpy as np
import pytest
import torch

from metadyn.config import ModelConfig
from metadyn.model.build import build_model
from metadyn.model.trained import SharedLatents, TrainedModel
from metadyn.records import SessionEntry, Source, TrialCounts, Windows

torch.set_num_threads(
    1
)  # tensors this small gain nothing from threads, and lose much where cores are shared


@pytest.fixture(scope="session")
def counts():
    """Counts of a session: trials of several lengths, gaps, unit rows that are no mere count."""

    def make(session="b", n_trials=6, n_bins=20, n_units=5, ragged=True, seed=0) -> TrialCounts:
        rng = np.random.default_rng(seed)
        bins = (
            rng.integers(n_bins // 2 + 1, n_bins + 1, n_trials)
            if ragged
            else np.full(n_trials, n_bins)
        )
        bins[0] = n_bins
        inside = np.arange(n_bins) < bins[:, None]
        observed = inside & (rng.random((n_trials, n_bins)) < 0.9) if ragged else inside
        spikes = (
            rng.poisson(1.5, (n_trials, n_bins, n_units)).astype(np.uint8) * observed[..., None]
        )
        windows = Windows(np.arange(n_trials) * 2.0, bins, 0.05, "trials", np.arange(n_trials) * 2)
        return TrialCounts(session, Source(), spikes, observed, windows, np.arange(n_units) * 3 + 1)

    return make


@pytest.fixture(scope="session")
def trained():
    """A model of sessions a (3 units) and b (5 units) with random weights."""

    def make(**options) -> TrainedModel:
        sizes = {
            "latent_dim": 2,
            "hidden": (8, 7),
            "hyper_hidden": 5,
            "embedding_dim": 2,
            "readin_hidden": 9,
            "readin_dim": 4,
        }
        config = ModelConfig(**{**sizes, "embedding_hidden": 6, "latent_hidden": 7, **options})
        module = build_model(config, [3, 5], process_noise=0.05, posterior_log_var=-2.0)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            module.readin.mean += 1.5
            module.log_q += 0.5 * torch.randn(module.log_q.shape, generator=generator)
            module.likelihood.weight.mul_(0.4)
        entries = tuple(
            SessionEntry(key, n, tuple(range(1, 3 * n, 3)), Source())
            for key, n in (("a", 3), ("b", 5))
        )
        dim = config.latent_dim
        shared = SharedLatents(
            np.ones(dim, np.float32),
            np.ones(dim, np.float32),
            (),
            np.zeros((0, 20, dim), np.float32),
            np.zeros((0, dim)),
            np.eye(dim),
        )
        return TrainedModel(module, config, 0.05, entries, shared)

    return make
