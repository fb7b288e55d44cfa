"""Every flow × conditioning of the tables goes the whole way: warm start, pretraining, the ELBO,
calibration, the search for a new session's place, alignment and sampled forecasts."""

import itertools

import numpy as np
import pytest
import torch

from metadyn.choices import CONDITIONINGS, FLOWS
from metadyn.config import AlignConfig
from metadyn.inference.forecast import forecast
from metadyn.training.alignment.align import align
from metadyn.training.fit import fit

DYNAMICS = list(itertools.product(FLOWS, CONDITIONINGS))


@pytest.mark.parametrize(("flow", "conditioning"), DYNAMICS)
def test_every_model_is_fitted_aligned_and_forecast(simulated, small, short, flow, conditioning):
    *sessions, new = simulated()
    config = small(dynamics=flow, conditioning=conditioning)
    trained = fit(sessions, config, short(pretrain_steps=2, steps=2, validate_every=2))
    extended = align(trained, new, AlignConfig(steps=2))
    assert [entry.key for entry in extended.sessions] == [each.session for each in (*sessions, new)]
    assert all(0 < entry.noise_scale < np.inf for entry in extended.sessions)
    ahead = forecast(extended, new, context=8, steps=6, samples=5)
    assert ahead.rate_samples.shape == (5, 8, 6, new.n_units)
    assert all(np.isfinite(ahead[name]).all() for name in ("rate_mean", "rate_sd", "latent_sd"))
    start = trained.module.state_dict()
    shared = [name for name in start if name.startswith("dynamics.")]
    after = extended.module.state_dict()
    assert all(torch.equal(start[name], after[name]) for name in shared)  # a session is added
