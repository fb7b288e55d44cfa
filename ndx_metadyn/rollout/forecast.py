"""Forecasts of a stored model from a state and an embedding: the mean path, or noisy ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ndx_metadyn.rollout.flows import ArrayMap
from ndx_metadyn.rollout.meta_ssm import NumpyMetaSSM
from ndx_metadyn.weights import build

if TYPE_CHECKING:  # both take long to import, and a reader of latents alone needs neither
    import xarray as xr

    from ndx_metadyn import LatentDynamicsModel


def rollout(
    model: LatentDynamicsModel,
    embedding: ArrayLike | None,
    latent: ArrayLike,
    n_steps: int,
    input_key: str,
    rng: np.random.Generator | None = None,
) -> xr.Dataset:
    """Run a stored model forward from the state at the last context bin.

    Parameters
    ----------
    model : with weights and config.
    embedding : (embedding,) or (trial, embedding); None where the dynamics know no embedding.
    latent : (latent,) or (trial, latent), the state at the last context bin.
    n_steps : number of bins ahead; the first output is one bin ahead.
    input_key : the session whose likelihood and process noise to use.
    rng : None for the mean path, without noise; else the source of one noisy path a trial.

    Returns
    -------
    latents (trial, time, latent), rates (trial, time, unit) [Hz], and time in seconds after the
    last context bin.

    Raises
    ------
    WeightsError : the model is damaged or unknown, or does not know the session (those that it
        knows are listed); NoTwinError, one of them, where it can be read with torch alone.
    ValueError : embedding or latent have another shape.

    >>> from ndx_metadyn.testing.mock import mock_LatentDynamicsModel
    >>> ahead = rollout(mock_LatentDynamicsModel(), [0.5, -0.5], [1.0, -1.0], 3, "mock-0")
    >>> dict(ahead.sizes)
    {'trial': 1, 'time': 3, 'latent': 2, 'unit': 5}
    """
    ssm = build(model.architecture, model.settings(), model.tensors())
    row = ssm.row(input_key)
    z, layers = _start(ssm, embedding, latent)
    latents = np.empty((len(z), n_steps, z.shape[1]))
    noise = np.zeros(latents.shape)
    if rng is not None:
        noise = rng.standard_normal(latents.shape) * ssm.noise_sd(row)
    for t in range(n_steps):
        z = ssm.step(z, layers) + noise[:, t]
        latents[:, t] = z
    return _dataset(latents, ssm.rates(latents, row), ssm.bin_width)


def _start(
    ssm: NumpyMetaSSM, embedding: ArrayLike | None, latent: ArrayLike
) -> tuple[np.ndarray, dict[str, ArrayMap]]:
    """States (trial, latent) and the changed layers, for as many trials as the longer of the two
    has."""
    states = _as_rows(latent, ssm.model["latent_dim"], "latent")
    if not ssm.conditioning.embedded:
        return states, ssm.layers(states[:, :0])
    embeddings = _as_rows(embedding, ssm.model["embedding_dim"], "embedding")
    if 1 not in (len(states), len(embeddings)) and len(states) != len(embeddings):
        raise ValueError(
            f"latent has {len(states)} trials and embedding {len(embeddings)}; "
            "give as many of each, or one"
        )
    n_trials = max(len(states), len(embeddings))
    states = np.broadcast_to(states, (n_trials, states.shape[1]))
    return states, ssm.layers(np.broadcast_to(embeddings, (n_trials, embeddings.shape[1])))


def _as_rows(values: Any, size: int, name: str) -> np.ndarray:
    """Values as finite float64 (trial, size)."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != size or not np.isfinite(rows).all():
        raise ValueError(
            f"{name} must be finite and ({size},) or (trial, {size}); "
            f"found shape {np.shape(values)}"
        )
    return rows


def _dataset(latents: np.ndarray, rates: np.ndarray, bin_width: float) -> xr.Dataset:
    import xarray as xr

    ahead = np.arange(1, latents.shape[1] + 1) * bin_width
    latent_words = {"units": "a.u.", "long_name": "latent state"}
    rate_words = {"units": "Hz", "long_name": "firing rate"}
    time_words = {"units": "s", "long_name": "time after the last context bin"}
    return xr.Dataset(
        {
            "latents": (("trial", "time", "latent"), latents, latent_words),
            "rates": (("trial", "time", "unit"), rates, rate_words),
        },
        coords={"time": ("time", ahead, time_words)},
    )
