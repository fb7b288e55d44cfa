"""How good a model is on windows of a session, beside baselines.

Of spikes these are the unit's mean rate and its last value; of behaviour its mean, and decoders of
smoothed spikes and of their principal components. Decoders, the model's and theirs, learn on
windows that trained the model and are read on those scored.

One r² throughout, 1 − Σ(y − ŷ)² / Σ(y − ȳ)², with ȳ the mean over the windows that trained the
model: the unit's mean count, the channel's mean. What the mean scores is 0. Bits are per spike,
above the same mean rate. Entries of units or channels that do not vary are part of sums; by
themselves they have no r² (NaN), nor have silent units bits.
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import xarray as xr

from metadyn.errors import WindowError
from metadyn.inference.baselines import LAGS, folds_of, spike_decoders
from metadyn.inference.decoding import fit_decoder, r2, r2_by_channel, vary
from metadyn.inference.encoding import check_counts, latent_posterior, trial_embeddings
from metadyn.inference.forecast import default_context, forecast
from metadyn.inference.infer import infer
from metadyn.inference.rates import rates_of_latents
from metadyn.inference.session_embedding import conditioning_embedding, expand_to_trials
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts

OF_SPIKES, OF_BEHAVIOR = ("mean_rate", "last_value"), ("smoothed_spikes", "principal_components")
PREDICTORS = ["model", *OF_SPIKES, *OF_BEHAVIOR]
FEWEST_TO_DECODE = 3  # windows to learn a decoder on
HIDDEN, LAST_BINS, FLOOR = (
    0.2,
    5,
    1e-4,
)  # share of entries hidden; bins of a last value; least count


def bits_per_spike(
    counts: np.ndarray, expected: np.ndarray, mean: np.ndarray, where: np.ndarray
) -> float:
    """Poisson log-likelihood above the mean rate, over log 2 and the spikes, of the entries
    `where`; all in counts per bin.

    NaN for smoothed counts, which are no spikes, and where there is no spike.
    """
    return float(bits(counts, gains(counts, expected, mean) * where, where, None))


def gains(counts: np.ndarray, expected: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Poisson log-likelihood above the mean rate of each entry (trial, time, unit), in bits; NaN
    for smoothed counts."""
    if not np.array_equal(counts, np.round(counts)):
        return np.full(counts.shape, np.nan)
    expected, mean = (
        np.maximum(expected, FLOOR),
        np.maximum(np.broadcast_to(mean, counts.shape), FLOOR),
    )
    return (counts * (np.log(expected) - np.log(mean)) - (expected - mean)) / log(2)


def bits(counts: np.ndarray, gain: np.ndarray, where: np.ndarray, axis) -> np.ndarray:
    """Sum of gains over that of spikes along the axes; NaN without spikes."""
    spikes = np.asarray((counts * where).sum(axis))
    return np.divide(gain.sum(axis), spikes, out=np.full(spikes.shape, np.nan), where=spikes > 0)


def hidden_rates(trained: TrainedModel, counts: TrialCounts, hidden: np.ndarray) -> np.ndarray:
    """Expected counts per bin (trial, time, unit) when the entries `hidden` are kept from the
    encoders."""
    visible, row = ~hidden, check_counts(trained, counts)
    q_e = trial_embeddings(trained, counts, visible=visible)
    embedding = expand_to_trials(conditioning_embedding(trained, row, q_e), q_e).mean
    q = latent_posterior(trained, counts, embedding, visible=visible)
    return rates_of_latents(trained, row, q.mean[0], counts.n_units) * trained.bin_width


def last_values(
    counts: np.ndarray, observed: np.ndarray, mean: np.ndarray, first: int
) -> np.ndarray:
    """Mean count of what was observed in the LAST_BINS bins before `first` and one bin of the
    unit's mean: (trial, unit).

    observed (trial, time, unit), or (trial, time, 1) where all units are observed alike.
    """
    last = slice(max(0, first - LAST_BINS), first)
    known = observed[:, last]
    return ((counts[:, last] * known).sum(1) + mean) / (known.sum(1) + 1)


def previous_bins(counts: np.ndarray, mean: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Mean of the counts not hidden in the LAST_BINS bins before each and one bin of the unit's
    mean: (trial, time, unit)."""
    shown = np.pad(np.where(hidden, 0.0, counts), ((0, 0), (LAST_BINS, 0), (0, 0)))
    number = np.pad((~hidden).astype(float), ((0, 0), (LAST_BINS, 0), (0, 0)))

    def before(values: np.ndarray) -> np.ndarray:
        total = np.cumsum(np.pad(values, ((0, 0), (1, 0), (0, 0))), 1)
        return total[:, LAST_BINS:-1] - total[:, : -LAST_BINS - 1]

    return (before(shown) + mean) / (before(number) + 1)


def for_predictors(values: dict, *dims: str) -> tuple:
    """A variable (predictor, …) of what is measured of some predictors, NaN of the others."""
    unmeasured = np.full(np.shape(values["model"]), np.nan)
    return ("predictor", *dims), np.array(
        [values.get(predictor, unmeasured) for predictor in PREDICTORS]
    )


def scores_of_entries(
    counts: np.ndarray,
    predictions: dict[str, np.ndarray],
    mean: np.ndarray,
    where: np.ndarray,
    names: tuple[str, str],
) -> dict:
    """r² and bits per spike of predicted counts, over all entries `where` (trial, time, unit), of
    each unit and at each step.

    names: of the two. At each step: over trials and units, with `_at_step`; of each unit: over
    trials and bins, `_of_unit`.
    """
    total = np.where(where, counts - mean, 0.0) ** 2
    varies = vary(np.where(where, counts, np.nan))
    found: dict[str, dict] = {}

    def add(name: str, predictor: str, value) -> None:
        found.setdefault(name, {})[predictor] = value

    for predictor, expected in predictions.items():
        error = np.where(where, counts - expected, 0.0) ** 2
        gain = np.where(where, gains(counts, expected, mean), 0.0)
        for suffix, axis in (("", None), ("_at_step", (0, 2)), ("_of_unit", (0, 1))):
            known = varies if suffix == "_of_unit" else varies.any()
            add(names[0] + suffix, predictor, 1 - ratio(error.sum(axis), total.sum(axis), known))
            add(names[1] + suffix, predictor, bits(counts, gain, where, axis))
    return found


def ratio(value, of, where) -> np.ndarray:
    """value / of; NaN elsewhere, and where it is divided by 0."""
    value, of = np.asarray(value), np.asarray(of)
    return np.divide(value, of, out=np.full(of.shape, np.nan), where=(of > 0) & where)


def forecast_scores(
    trained: TrainedModel, counts: TrialCounts, mean: np.ndarray, context: int, steps: int
) -> dict:
    """r² and bits per spike of the forecast bins: over all of them, at each step, of each unit."""
    expected = (
        forecast(trained, counts, context=context, steps=steps)["rate_mean"].values
        * trained.bin_width
    )
    ahead = slice(context, context + steps)
    true = counts.counts[:, ahead].astype(np.float64)
    last = last_values(counts.counts, counts.observed_entries, mean, context)
    predictions = {
        "model": expected,
        "mean_rate": np.broadcast_to(mean, true.shape),
        "last_value": np.broadcast_to(last[:, None], true.shape),
    }
    where = np.broadcast_to(counts.observed_entries[:, ahead], true.shape)
    found = scores_of_entries(
        true, predictions, mean, where, ("forecast_r2", "forecast_bits_per_spike")
    )
    return {name: for_predictors(values, *dims_of(name)) for name, values in found.items()}


def reconstruction_scores(
    trained: TrainedModel, counts: TrialCounts, mean: np.ndarray, seed: int
) -> dict:
    """r² and bits per spike of a random fifth of the entries, hidden from the encoders."""
    hidden = np.random.default_rng(seed).random(counts.counts.shape) < HIDDEN
    true = counts.counts.astype(np.float64)
    predictions = {
        "model": hidden_rates(trained, counts, hidden),
        "mean_rate": np.broadcast_to(mean, true.shape),
        "last_value": previous_bins(true, mean, hidden | ~counts.observed_entries),
    }
    where = hidden & counts.observed_entries
    found = scores_of_entries(
        true, predictions, mean, where, ("reconstruction_r2", "bits_per_spike")
    )
    return {
        name: for_predictors(v, *dims_of(name))
        for name, v in found.items()
        if not name.endswith("_at_step")
    }


def dims_of(name: str) -> tuple[str, ...]:
    """Dimensions beside `predictor`, by the ending of a name."""
    return tuple(dim for dim in ("step", "unit", "channel") if name.endswith(f"_{dim}"))


def behavior_scores(
    trained: TrainedModel, counts: TrialCounts, training: TrialCounts | None
) -> tuple[dict, str]:
    """r² of behaviour decoded from latents, from nothing, from smoothed spikes and their
    components; and why there is none.

    Latents and spikes are decoded alike: from the same bins and as many before them, none of them
    unobserved. The decoders learn on `training`; of an angle they predict cosine and sine, so that
    its r² is the same wherever its zero lies. Raises WindowError where no window that is scored
    holds behaviour.
    """
    scored = with_behavior(counts)
    if not scored.n_trials:
        raise WindowError(
            "no window that is scored holds behaviour",
            item=counts.behavior_name,
            found=f"0 of {counts.n_trials} windows",
            remedy="another --behavior, or --all-windows (then the scores are of trials that the model has seen)",
        )
    counts, training = scored, None if training is None else with_behavior(training)
    reason = why_not(counts, training)
    if reason:
        return behavior_variables(
            {"model": np.full(counts.behavior.shape, np.nan)}, counts, np.zeros(1)
        ), reason
    known = np.where(training.observed[..., None], training.behavior, np.nan).reshape(
        -1, training.behavior.shape[-1]
    )
    mean = np.array(
        [each[np.isfinite(each)].mean() if np.isfinite(each).any() else np.nan for each in known.T]
    )
    decoder = fit_decoder(
        latents_of(trained, training), training.behavior, LAGS, folds_of(training)
    )
    predicted = {
        "model": decoder(latents_of(trained, counts)),
        "mean_rate": np.broadcast_to(mean, counts.behavior.shape),
    }
    predicted |= {name: decode(counts) for name, decode in spike_decoders(training).items()}
    return behavior_variables(predicted, counts, mean), ""


def with_behavior(counts: TrialCounts) -> TrialCounts:
    """With what a linear decoder predicts, and without the windows in which no observed bin has a
    value of any channel."""
    counts = replace(counts, behavior=counts.behavior_targets, behavior_period=None)
    return counts.select(trials=(np.isfinite(counts.behavior).any(-1) & counts.observed).any(1))


def why_not(counts: TrialCounts, training: TrialCounts | None) -> str:
    """Why behaviour has no r²; empty where it has one."""
    number = 0 if training is None else training.n_trials
    if number < FEWEST_TO_DECODE:
        return f"{number} windows that trained the model hold it, too few to learn a decoder on"
    known = np.where(counts.observed[..., None], counts.behavior, np.nan)
    return "" if vary(known).any() else "it does not vary in the windows that are scored"


def latents_of(trained: TrainedModel, counts: TrialCounts) -> np.ndarray:
    """Inferred latents (trial, time, latent), NaN where nothing was observed."""
    return np.where(
        counts.observed[..., None], infer(trained, counts)["latent_mean"].values, np.nan
    )


def behavior_variables(
    predicted: dict[str, np.ndarray], counts: TrialCounts, mean: np.ndarray
) -> dict:
    """r² of all channels together and of each."""
    known = np.isfinite(np.stack(list(predicted.values()))).all(0)
    true = np.where(known, counts.behavior, np.nan)
    return {
        "behavior_r2": for_predictors(
            {name: r2(true, values, mean) for name, values in predicted.items()}
        ),
        "behavior_r2_of_channel": for_predictors(
            {name: r2_by_channel(true, values, mean) for name, values in predicted.items()},
            "channel",
        ),
    }


def long_enough(counts: TrialCounts, context: int, steps: int) -> np.ndarray:
    """Which windows (trial,) hold the context and the forecast; WindowError where none does."""
    long = counts.windows.n_bins >= context + steps
    if context < 1 or steps < 1 or not long.any():
        longest = int(counts.windows.n_bins.max())
        raise WindowError(
            "no window holds a context and a forecast",
            item=counts.session,
            found=f"context of {context} and forecast of {steps} bins, windows of up to {longest}",
            remedy=f"--context {max(1, longest // 3)} --steps {longest // 2}"
            if longest > 1
            else "longer windows (--n-bins)",
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

    `training`: windows of the same session that trained the model, on which decoders of behaviour
    learn; without them behaviour has no r². `context` defaults to a third of the median window
    [bins], `steps` to 20 or what is left of it. Forecasts are scored over the windows that hold
    both (their number is the attribute n_forecast_windows); WindowError where none does. Dims
    (predictor, step, unit, channel); the attribute behavior_note says why behaviour has no r².
    """
    row = check_counts(trained, counts)
    context = default_context(counts) if context is None else context
    steps = min(20, int(np.median(counts.windows.n_bins)) - context) if steps is None else steps
    long = long_enough(counts, context, steps)
    mean = trained.module.readin.mean[row, : counts.n_units].numpy(force=True).astype(np.float64)
    variables = reconstruction_scores(trained, counts, mean, seed)
    variables |= forecast_scores(trained, counts.select(trials=long), mean, context, steps)
    note = ""
    if counts.behavior is not None:
        found, note = behavior_scores(trained, counts, training)
        variables |= found
    coords = {
        "predictor": PREDICTORS,
        "step": ("step", (np.arange(steps) + 1) * counts.bin_width, {"units": "s"}),
    }
    coords["unit"] = counts.unit_rows
    told = {
        "session": counts.session,
        "context_bins": context,
        "n_forecast_windows": int(long.sum()),
        "behavior_note": note,
    }
    return xr.Dataset(variables, coords, told)
