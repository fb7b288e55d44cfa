"""Small models of two sessions with different numbers of units."""

import pytest
import torch

from metadyn.config import ModelConfig
from metadyn.model.build import build_model

N_UNITS = [3, 5]
torch.set_num_threads(
    1
)  # tensors this small gain nothing from threads, and lose much where cores are shared


@pytest.fixture
def config():
    """A configuration whose sizes all differ, so that a swapped axis shows."""

    def make(**options) -> ModelConfig:
        sizes = {
            "latent_dim": 2,
            "embedding_dim": 3,
            "rank": 2,
            "hidden": (5, 7),
            "hyper_hidden": 4,
        }
        widths = {"readin_hidden": 9, "readin_dim": 6, "embedding_hidden": 8, "latent_hidden": 10}
        return ModelConfig(**{**sizes, **widths, **options})

    return make


@pytest.fixture
def model(config):
    """A model in double precision whose weights are all random, those that start at zero too;
    padding is that of a fit."""

    def make(n_units=N_UNITS, **options):
        module = build_model(
            config(**options), list(n_units), process_noise=0.3, posterior_log_var=-1.0
        ).double()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for tensor in module.state_dict().values():
                tensor += 0.2 * torch.randn(tensor.shape, generator=generator)
            for row, units in enumerate(n_units):
                module.readin.mean[row, units:], module.readin.sd[row, units:] = 0.0, 1.0
        return module

    return make
