"""How good a model is on windows of a session, compared with baselines.

Of spikes these are the unit's mean rate and its last value; of behaviour its mean, and decoders of
smoothed spikes and of their principal components. Decoders, the model's and theirs, are fitted to
windows that trained the model and evaluated on those scored.

One r² throughout, 1 − Σ(y − ŷ)² / Σ(y − ȳ)², with ȳ the mean over the windows that trained the
model: the unit's mean count, the channel's mean. The mean scores 0. Bits are per spike, above the
same mean rate. Entries of units or channels that do not vary are part of sums; by themselves they
have no r² (NaN), nor have silent units bits.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from metadyn.errors import WindowError
from metadyn.inference.behavior_scores import decode_behavior
from metadyn.inference.encoding import check_counts, latent_posterior, trial_embeddings
from metadyn.inference.entry_scores import last_values, previous_bins, scores_of_entries
from metadyn.inference.forecast import default_context, forecast
from metadyn.inference.rates import rates_of_latents
from metadyn.inference.session_embedding import conditioning_embedding, expand_to_trials
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

SPIKE_BASELINES = ("mean_rate", "last_value")
BEHAVIOR_BASELINES = ("smoothed_spikes", "principal_components")
PREDICTORS = ["model", *SPIKE_BASELINES, *BEHAVIOR_BASELINES]
HIDDEN = 0.2  # share of entries hidden
MOST_STEPS = 20  # of a forecast, by default

Scores = dict[str, dict[str, np.ndarray]]  # by name of the score and of the predictor


def hidden_rates(
    trained: TrainedModel, counts: TrialCounts, hidden: Bool[np.ndarray, "trial time unit"]
) -> Float[np.ndarray, "trial time unit"]:
    """Expected counts per bin when the entries `hidden` are kept from the encoders."""
    session_row = check_counts(trained, counts)
    by_trial = trial_embeddings(trained, counts, visible=~hidden)
    used = expand_to_trials(conditioning_embedding(trained, session_row, by_trial), by_trial)
    q_z = latent_posterior(trained, counts, used.mean, visible=~hidden)
    rates = rates_of_latents(trained, session_row, q_z.mean[0], counts.n_units)  # Hz
    return rates * trained.bin_width


def forecast_scores(
    trained: TrainedModel,
    counts: TrialCounts,
    mean: Float[np.ndarray, " unit"],
    context: int,
    steps: int,
) -> Scores:
    """r² and bits per spike of the forecast bins: over all of them, at each step, of each unit."""
    ahead = slice(context, context + steps)
    rates = forecast(trained, counts, context=context, steps=steps)["rate_mean"].values  # Hz
    true = counts.counts[:, ahead].astype(np.float64)
    last = last_values(counts.counts, counts.observed_entries, mean, context)  # (trial, unit)
    predictions = {
        "model": rates * trained.bin_width,
        "mean_rate": np.broadcast_to(mean, true.shape),
        "last_value": np.broadcast_to(last[:, None], true.shape),
    }
    where = np.broadcast_to(counts.observed_entries[:, ahead], true.shape)
    names = ("forecast_r2", "forecast_bits_per_spike")
    return scores_of_entries(true, predictions, mean, where, names)


def reconstruction_scores(
    trained: TrainedModel, counts: TrialCounts, mean: Float[np.ndarray, " unit"], seed: int
) -> Scores:
    """r² and bits per spike of a random fifth of the entries, hidden from the encoders: over all of
    them and of each unit."""
    hidden = np.random.default_rng(seed).random(counts.counts.shape) < HIDDEN
    true = counts.counts.astype(np.float64)
    predictions = {
        "model": hidden_rates(trained, counts, hidden),
        "mean_rate": np.broadcast_to(mean, true.shape),
        "last_value": previous_bins(true, mean, hidden | ~counts.observed_entries),
    }
    where = hidden & counts.observed_entries
    names = ("reconstruction_r2", "bits_per_spike")
    found = scores_of_entries(true, predictions, mean, where, names)
    return {name: values for name, values in found.items() if not name.endswith("_at_step")}


def long_enough(counts: TrialCounts, context: int, steps: int) -> Bool[np.ndarray, " trial"]:
    """Which windows hold the context and the forecast.

    Raises
    ------
    WindowError : none does.
    """
    long = counts.windows.n_bins >= context + steps
    if context < 1 or steps < 1 or not long.any():
        longest = int(counts.windows.n_bins.max())
        shorter = {"context": max(1, longest // 3), "steps": longest // 2}
        raise WindowError(
            "no window holds a context and a forecast",
            item=counts.session,
            found=f"context of {context} and forecast of {steps} bins, windows of up to {longest}",
            options=shorter if longest > 1 else None,
            remedy=None if longest > 1 else "longer windows (`n_bins`)",
        )
    return long


def score(
    trained: TrainedModel,
    counts: TrialCounts,
    training: TrialCounts | None = None,
    *,
    context: int | None = None,
    steps: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Reconstruction, forecasts, bits per spike and, where there is behaviour, decoding of the
    windows `counts`.

    Parameters
    ----------
    training : windows of the same session that trained the model, to which decoders of behaviour
        are fitted; without them behaviour has no r².
    context : bins before a forecast; default: a third of the median window.
    steps : bins to forecast; default: 20, or what is left of the median window.
    seed : of the entries that are hidden.

    Returns
    -------
    A Dataset with dims (predictor, step, unit, channel): reconstruction_r2, bits_per_spike,
    forecast_r2, forecast_bits_per_spike, behavior_r2, and the same `_at_step`, `_of_unit`,
    `_of_channel`; NaN for a predictor that a score is not measured of. Forecasts are scored over
    the windows that hold context and forecast; their number is the attribute n_forecast_windows.
    The attribute behavior_note says why behaviour has no r².

    Raises
    ------
    WindowError : no window holds context and forecast, or behaviour is asked for and none has any.
    ModelFileError, DataError : as of `metadyn.inference.infer.infer`.
    """
    session_row = check_counts(trained, counts)
    if context is None:
        context = default_context(counts)
    if steps is None:
        steps = min(MOST_STEPS, int(np.median(counts.windows.n_bins)) - context)
    long = long_enough(counts, context, steps)
    in_training = trained.module.readin.mean[session_row, : counts.n_units]
    mean = in_training.numpy(force=True).astype(np.float64)  # (unit,), counts per bin
    scores = reconstruction_scores(trained, counts, mean, seed)
    scores |= forecast_scores(trained, counts.select(trials=long), mean, context, steps)
    note = ""
    if counts.behavior is not None:
        of_behavior, note = decode_behavior(trained, counts, training)
        scores |= of_behavior
    seconds = (np.arange(steps) + 1) * counts.bin_width
    return xr.Dataset(
        {name: variable(name, values) for name, values in scores.items()},
        {
            "predictor": PREDICTORS,
            "step": ("step", seconds, {"units": "s"}),
            "unit": counts.unit_rows,
        },
        {
            "session": counts.session,
            "context_bins": context,
            "n_forecast_windows": int(long.sum()),
            "behavior_note": note,
        },
    )


def variable(
    name: str, values: dict[str, np.ndarray]
) -> tuple[tuple[str, ...], Float[np.ndarray, predictor * dims]]:
    """Dims and values of a score of all PREDICTORS, NaN of those that it is not measured of; the
    second dimension, if any, is the last word of its name."""
    dims = tuple(dim for dim in ("step", "unit", "channel") if name.endswith(f"_{dim}"))
    unmeasured = np.full(np.shape(values["model"]), np.nan)
    return ("predictor", *dims), np.array([values.get(each, unmeasured) for each in PREDICTORS])
