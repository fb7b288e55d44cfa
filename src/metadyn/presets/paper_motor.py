"""The paper's motor recordings (Vermani et al., arXiv:2410.05454 version 1, App. D.1, D.3).

They lie in two dandisets: 000688, centre-out reaching, and 000070, maze reaching. The columns of
the trials say which of the two a session is of. Spikes are smoothed, and taken as Gaussian.

Command: `metadyn fit FILES… -o MODEL --preset paper-motor`
"""

from __future__ import annotations

from metadyn.presets import churchland_maze, perich_co
from metadyn.presets.paper import INFERENCE, OBJECTIVE
from metadyn.presets.preset import Preset, Trials

MODEL = {
    **INFERENCE,
    "latent_dim": 30,
    "embedding_dim": 2,
    "rank": 6,
    "hidden": (128, 128),
    "hyper_hidden": 64,
    "readin_hidden": 128,
    "readin_dim": 64,
    "readin_dropout": 0.6,
    "embedding_hidden": 64,
    "latent_hidden": 128,
}
TRAINING = {
    **OBJECTIVE,
    "optimiser": "lamb",
    "learning_rate": 0.01,
    "weight_decay": 0.05,
    "steps": 2000,
    "trials_per_session": 64,
    "masking": 0.2,
    "masked": "mean",
    "mask_scope": "session",
    "masked_kl": False,
}
ONSET_WINDOWS = {
    "start": -0.26,  # 13 bins before movement onset, from which forecasts start (D.2)
    "n_bins": 36,  # of 20 ms
    "smoothing": 0.025,  # SD of the Gaussian [s]
    "min_rate": 0.1,
}


def data(trials: Trials) -> dict:
    """The trials of the dandiset whose columns these are, in the paper's windows.

    Raises
    ------
    SelectionError : the trials lack a column that the layout of the dandiset has.
    """
    layout = churchland_maze if "move_begins_time" in trials.columns else perich_co
    return layout.data(trials) | ONSET_WINDOWS


PRESET = Preset(data, sections={"model": MODEL, "training": TRAINING})
