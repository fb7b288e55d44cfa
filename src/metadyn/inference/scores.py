"""How good a model is on trials of a session, beside baselines (model.md).

They are the unit's mean rate and its last value; of behaviour, its mean and a decoder of the smoothed spikes.

Every measure is of bins or entries that the encoders did not see; score trials that did not train the model.
"""

from __future__ import annotations

from math import log

import numpy as np
import xarray as xr

from metadyn.data.smoothing import smooth
from metadyn.errors import WindowError
from metadyn.inference.decoding import decoding_r2
from metadyn.inference.forecast import default_context, forecast, mean_rates
from metadyn.inference.infer import check_counts, conditioning, for_each_trial, infer, latents_given, trial_embeddings
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

OF_SPIKES = ["model", "mean_rate", "last_value"]
PREDICTORS = [*OF_SPIKES, "smoothed_spikes"]  # the last predicts behaviour alone
FEWEST_TO_DECODE = 3  # windows: one to score, one to choose the decoder's penalty on, one to fit it
HIDDEN, LAST_BINS, LAGS, FLOOR = 0.2, 5, 8, 1e-4  # entries hidden; bins of a last value; bins decoded from; least count
SMOOTHING = 0.05  # s, SD of the Gaussian of smoothed_spikes


def bits_per_spike(counts: np.ndarray, expected: np.ndarray, mean: np.ndarray, where: np.ndarray) -> float:
    """Poisson log-likelihood above the mean rate, over log 2 and the spikes, of the entries `where`; all in counts per bin.

    NaN for smoothed counts, which are no spikes.
    """
    if not np.array_equal(counts, np.round(counts)):
        return float("nan")
    expected, mean = np.maximum(expected, FLOOR), np.maximum(np.broadcast_to(mean, counts.shape), FLOOR)
    gain = counts * (np.log(expected) - np.log(mean)) - (expected - mean)
    return float(gain[where].sum() / log(2) / max(counts[where].sum(), 1))


def hidden_rates(trained: TrainedModel, counts: TrialCounts, hidden: np.ndarray) -> np.ndarray:
    """Expected counts per bin (trial, time, unit) when the entries `hidden` are kept from the encoders."""
    visible, row = ~hidden, check_counts(trained, counts)
    q_e = trial_embeddings(trained, counts, visible=visible)
    embedding = for_each_trial(conditioning(trained, row, q_e), q_e).mean
    q = latents_given(trained, counts, embedding, visible=visible)
    return mean_rates(trained, row, q.mean[0], counts.n_units) * trained.bin_width


def last_values(counts: np.ndarray, observed: np.ndarray, mean: np.ndarray, first: int) -> np.ndarray:
    """Mean count of what was observed in the LAST_BINS bins before `first` and one bin of the unit's mean: (trial, unit)."""
    last = slice(max(0, first - LAST_BINS), first)
    known = observed[:, last, None]
    return ((counts[:, last] * known).sum(1) + mean) / (known.sum(1) + 1)


def previous_bins(counts: np.ndarray, mean: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Mean of the counts not hidden in the LAST_BINS bins before each and one bin of the unit's mean: (trial, time, unit)."""
    shown = np.pad(np.where(hidden, 0.0, counts), ((0, 0), (LAST_BINS, 0), (0, 0)))
    number = np.pad((~hidden).astype(float), ((0, 0), (LAST_BINS, 0), (0, 0)))

    def before(values: np.ndarray) -> np.ndarray:
        total = np.cumsum(np.pad(values, ((0, 0), (1, 0), (0, 0))), 1)
        return total[:, LAST_BINS:-1] - total[:, : -LAST_BINS - 1]

    return (before(shown) + mean) / (before(number) + 1)


def mean_activity(counts: TrialCounts) -> np.ndarray:
    """Each trial's mean count per observed bin, (trial, 1, unit): the ȳ of every r² (model.md)."""
    total = (counts.counts * counts.observed[..., None]).sum(1, keepdims=True)
    return total / np.maximum(counts.observed.sum(1), 1)[:, None, None]


def r2_of(counts: TrialCounts, expected: np.ndarray, where: np.ndarray) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)² over the entries `where`."""
    error, total = (counts.counts - expected) ** 2, (counts.counts - mean_activity(counts)) ** 2
    return float(1 - error[where].sum() / total[where].sum())


def beside(values: dict, *dims: str) -> tuple:
    """A variable (predictor, …) of what is measured of some predictors, NaN of the others."""
    unmeasured = np.full(np.shape(values["model"]), np.nan)
    return ("predictor", *dims), [values.get(predictor, unmeasured) for predictor in PREDICTORS]


def forecast_scores(trained: TrainedModel, counts: TrialCounts, mean: np.ndarray, context: int, steps: int) -> dict:
    """k-step r² at each k and cumulative to k, and bits per spike of the forecast bins."""
    expected = forecast(trained, counts, context=context, steps=steps)["rate_mean"].values * trained.bin_width
    ahead = counts.counts[:, context : context + steps].astype(np.float64)
    known = counts.observed[:, context : context + steps, None]
    predictions = {
        "model": expected,
        "mean_rate": np.broadcast_to(mean, ahead.shape),
        "last_value": np.broadcast_to(last_values(counts.counts, counts.observed, mean, context)[:, None], ahead.shape),
    }

    def error(prediction: np.ndarray) -> np.ndarray:
        return ((ahead - prediction) ** 2 * known).sum((0, 2))

    total = error(mean_activity(counts))
    where = np.broadcast_to(known, ahead.shape)
    return {
        "forecast_r2": beside({p: 1 - error(expected) / total for p, expected in predictions.items()}, "step"),
        "forecast_r2_cumulative": beside(
            {p: 1 - error(expected).cumsum() / total.cumsum() for p, expected in predictions.items()}, "step"
        ),
        "forecast_bits_per_spike": beside(
            {p: bits_per_spike(ahead, expected, mean, where) for p, expected in predictions.items()}
        ),
    }


def reconstruction_scores(trained: TrainedModel, counts: TrialCounts, mean: np.ndarray, seed: int) -> dict:
    """r² and bits per spike of a random fifth of the entries, hidden from the encoders."""
    hidden = np.random.default_rng(seed).random(counts.counts.shape) < HIDDEN
    observed = counts.counts.astype(np.float64)
    where = hidden & counts.observed[..., None]
    predictions = {
        "model": hidden_rates(trained, counts, hidden),
        "mean_rate": np.broadcast_to(mean, observed.shape),
        "last_value": previous_bins(observed, mean, hidden | ~counts.observed[..., None]),
    }
    return {
        "reconstruction_r2": beside({p: r2_of(counts, expected, where) for p, expected in predictions.items()}),
        "bits_per_spike": beside({p: bits_per_spike(observed, expected, mean, where) for p, expected in predictions.items()}),
    }


def behavior_scores(trained: TrainedModel, counts: TrialCounts) -> dict:
    """Cross-validated r² of behaviour decoded from latents, from nothing, and from smoothed spikes.

    Latents and smoothed spikes are decoded alike: from the same bins and as many before them, none of them unobserved.
    Only windows that hold behaviour take part; fewer than FEWEST_TO_DECODE give a WindowError.
    """
    told = (np.isfinite(counts.behavior).all(-1) & counts.observed).any(1)
    if told.sum() < FEWEST_TO_DECODE:
        raise WindowError(
            "too few windows hold behaviour to decode it across them",
            item=counts.behavior_name,
            found=f"{told.sum()} of {counts.n_trials} windows scored",
            remedy="--all-windows (then the scores are of trials that the model has seen), or another --behavior",
        )
    counts = counts.select(trials=told)
    latents = infer(trained, counts)["latent_mean"].values

    def decoded(features: np.ndarray) -> float:
        return decoding_r2(np.where(counts.observed[..., None], features, np.nan), counts.behavior, LAGS)

    smoothed = decoded(smooth(counts, SMOOTHING).counts)
    return {"behavior_r2": beside({"model": decoded(latents), "mean_rate": 0.0, "smoothed_spikes": smoothed})}


def long_enough(counts: TrialCounts, context: int, steps: int) -> np.ndarray:
    """Which windows (trial,) hold the context and the forecast; WindowError where none does."""
    long = counts.windows.n_bins >= context + steps
    if context < 1 or steps < 1 or not long.any():
        longest = int(counts.windows.n_bins.max())
        raise WindowError(
            "no window holds a context and a forecast",
            item=counts.session,
            found=f"context of {context} and forecast of {steps} bins, windows of up to {longest}",
            remedy=f"--context {max(1, longest // 3)} --steps {longest // 2}" if longest > 1 else "longer windows (--n-bins)",
        )
    return long


def score(
    trained: TrainedModel, counts: TrialCounts, *, context: int | None = None, steps: int | None = None, seed: int = 0
) -> xr.Dataset:
    """Reconstruction, forecasts, bits per spike and, where there is behaviour, decoding; dims (predictor, step).

    `context` defaults to a third of the median window [bins], `steps` to 20 or what is left of it. Forecasts are
    scored over the windows that hold both (their number is the attribute n_forecast_windows); WindowError where none does.
    """
    row = check_counts(trained, counts)
    context = default_context(counts) if context is None else context
    steps = min(20, int(np.median(counts.windows.n_bins)) - context) if steps is None else steps
    long = long_enough(counts, context, steps)
    mean = trained.module.readin.mean[row, : counts.n_units].numpy(force=True).astype(np.float64)
    variables = reconstruction_scores(trained, counts, mean, seed)
    variables |= forecast_scores(trained, counts.select(trials=long), mean, context, steps)
    if counts.behavior is not None:
        variables |= behavior_scores(trained, counts)
    coords = {"predictor": PREDICTORS, "step": ("step", (np.arange(steps) + 1) * counts.bin_width, {"units": "s"})}
    told = {"session": counts.session, "context_bins": context, "n_forecast_windows": int(long.sum())}
    return xr.Dataset(variables, coords, told)
