"""The paper's simulations (Vermani et al., arXiv:2410.05454 version 1, App. D.1, D.3).

Two latents, and one number that tells one session's dynamics from another's. Observations are
Gaussian; `metadyn.data.synthetic.simulate` makes them.
"""

from __future__ import annotations

from metadyn.presets.paper import INFERENCE, OBJECTIVE
from metadyn.presets.preset import Preset, Trials

MODEL = {
    **INFERENCE,
    "latent_dim": 2,
    "embedding_dim": 1,  # 2 for Duffing and Hopf together
    "rank": 1,
    "hidden": (32, 32),
    "hyper_hidden": 16,
    "readin_hidden": 64,
    "readin_dim": 8,
    "embedding_hidden": 16,
    "latent_hidden": 64,
}
TRAINING = {
    **OBJECTIVE,
    "optimiser": "adam",
    "learning_rate": 0.005,
    "weight_decay": 0.001,
    "steps": 500,
    "trials_per_session": 8,
    "masking": 0.0,  # the paper masks bins of the motor recordings alone
}


def data(trials: Trials) -> dict:
    """Each trial from its start to its stop, and every unit (D.1)."""
    return {"min_rate": 0.0}


PRESET = Preset(data, sections={"model": MODEL, "training": TRAINING})
