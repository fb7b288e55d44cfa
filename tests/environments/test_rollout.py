"""With `ndx-metadyn` alone, which brings no torch, a shared file forecasts what its model forecasts
by torch."""

import numpy as np
import pytest

import metadyn
from tests.environments.conftest import CONTEXT, ROOT, STEPS

pytestmark = pytest.mark.timeout(1800)  # environments are made
FORECAST = """
import sys
import numpy as np
from ndx_metadyn import rollout
from pynwb import read_nwb

assert "torch" not in sys.modules
run = read_nwb(sys.argv[1]).processing["ecephys"]["LatentDynamics"]
start = run.embeddings["context_embedding"][:], run.embeddings["context_latent"][:]
ahead = rollout(run.model, *start, n_steps=int(sys.argv[2]), input_key=run.input_key)
np.savez("ahead.npz", latents=ahead.latents, rates=ahead.rates)
"""


def test_forecasts_without_torch_are_those_of_torch(environment, wheel_of, lab_a):
    reader = environment(wheel_of(ROOT))
    there = reader.packages()
    assert "ndx-metadyn" in there
    assert not {"torch", "typer"} & there
    reader.run("python", "-c", FORECAST, lab_a.shared, STEPS)
    found = np.load(reader.home / "ahead.npz")
    expected = metadyn.forecast(lab_a.model, lab_a.recording, context=CONTEXT, steps=STEPS)
    assert found["rates"].shape == expected.rate_mean.shape
    assert np.ptp(expected.rate_mean.values, axis=1).max() > 1  # Hz: there is something to forecast
    np.testing.assert_allclose(found["latents"], expected.latent_mean, atol=1e-4)
    np.testing.assert_allclose(found["rates"], expected.rate_mean, rtol=1e-4)
    worst = np.abs(found["rates"] / expected.rate_mean.values - 1).max()
    print(f"rates of {found['rates'].shape} agree to {worst:.1e}")
