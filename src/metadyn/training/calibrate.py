"""Forecast intervals as wide as the errors of forecasts: a factor on each session's process noise,
from trials that its dynamics were not fitted to.

The ELBO's Q makes up for a posterior whose bins are independent, and for what f does not know. As
noise of a forecast, where neither repeats bin by bin, it may be too large or too small
(docs/decisions/forecast-intervals.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metadyn.data.splits import evenly_spaced
from metadyn.inference.forecast import ContextSamples, default_context, noisy_paths, sample_context
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry, TrialCounts
from metadyn.training.execution.loop import Reporter, reported, silent

# Range of the factor on the SD of process noise, as powers of two
LOWEST_OCTAVE = -4.0
HIGHEST_OCTAVE = 2.0
# How many trials calibrate a session: fewer of many sessions, of which there are about so many
FEWEST_TRIALS_OF_SESSION = 4
MOST_TRIALS_OF_SESSION = 16
TRIALS_OF_ALL_SESSIONS = 512
# Bins of a trial that are forecast, at most
FORECAST_STEPS = 30
FORECAST_SAMPLES = 128
# Entries of a session that are scored, about: more change the factor less than other trials would
SCORED_ENTRIES = 2**18
# Densities at once: they stay in cache, however many units there are
DENSITIES_AT_ONCE = 2**18


def forecastable(counts: TrialCounts, most: int) -> tuple[TrialCounts, int, int]:
    """Up to `most` trials that go on after a context of a third of the median window.

    They have two bins or more after it, in which something was observed. Returns them, the bins of
    the context and the bins to forecast.
    """
    context = default_context(counts)
    steps = min(FORECAST_STEPS, counts.counts.shape[1] - context)
    seen = counts.observed_entries[:, context : context + steps].any((1, 2))  # (trial,)
    usable = np.flatnonzero(seen & (counts.windows.n_bins >= context + 2))
    return counts.select(usable[evenly_spaced(len(usable), most)]), context, steps


def values_after(
    counts: TrialCounts, context: int, steps: int, units: Int[np.ndarray, " unit"]
) -> tuple[Float[Tensor, "point unit"], Bool[Tensor, "point unit"]]:
    """Counts of some units in the bins after the context, and which of them were observed.

    A point is a bin of a trial.
    """
    after = slice(context, context + steps)
    entries = np.broadcast_to(counts.observed_entries, counts.counts.shape)
    values = np.ascontiguousarray(counts.counts[:, after][..., units])  # (trial, time, unit)
    observed = np.ascontiguousarray(entries[:, after][..., units])
    return (
        torch.from_numpy(values).flatten(0, 1).float(),
        torch.from_numpy(observed).flatten(0, 1),
    )


@torch.no_grad()
def surprise(
    trained: TrainedModel,
    counts: TrialCounts,
    drawn: ContextSamples,
    context: int,
    steps: int,
    noise_scale: float,
) -> float:
    """Mean negative log density of the entries after the context, under sampled paths of the
    dynamics.

    noise_scale: factor on the SD of the process noise. Of many units an evenly spread choice is
    scored; NaN where none of them was observed.
    """
    row = trained.index(counts.session)
    device = drawn.state.device
    units = evenly_spaced(counts.n_units, max(1, SCORED_ENTRIES // (counts.n_trials * steps)))
    likelihood = trained.module.likelihood.of_units(row, units)
    session = torch.zeros(1, dtype=torch.long, device=device)
    paths = noisy_paths(trained, row, drawn, steps, noise_scale, seed=0)
    paths = paths.flatten(1, 2)  # (sample, trial · bin, latent)
    values, observed = values_after(counts, context, steps, units)
    values, observed = values.to(device), observed.to(device)

    total = 0.0
    points = max(1, DENSITIES_AT_ONCE // (len(paths) * len(units)))
    chunks = zip(paths.split(points, 1), values.split(points), observed.split(points), strict=True)
    for z, value, seen in chunks:
        density = likelihood(z[None], session).log_prob(value)[0]  # (sample, trial · bin, unit)
        total += float(log_mean_exp(density)[seen].sum(dtype=torch.double))
    number = int(observed.sum())
    return -total / number if number else float("nan")


def log_mean_exp(x: Float[Tensor, "sample *rest"]) -> Float[Tensor, "*rest"]:
    """The logarithm of the mean of exp(x) over samples.

    Numbers below exp(−80) of the largest are rounded up to that: they do not count, and denormal
    numbers take long to add.
    """
    largest = x.amax(0)
    return (x - largest).clamp_(min=-80).exp_().mean(0).log_() + largest


def find_scale(trained: TrainedModel, counts: TrialCounts, most: int) -> float | None:
    """The factor that makes up to `most` trials of a session least surprising.

    None where no trial goes on after its context.
    """
    counts, context, steps = forecastable(counts, most)
    if not counts.n_trials:
        return None
    drawn = sample_context(trained, counts, context, FORECAST_SAMPLES, seed=0)

    def surprise_at(octave: float) -> float:
        return surprise(trained, counts, drawn, context, steps, 2.0**octave)

    return 2.0 ** lowest(surprise_at)


def typical_scale(sessions: tuple[SessionEntry, ...]) -> float:
    """The geometric mean of the sessions' factors, for a session of which nothing is known."""
    return float(np.exp(np.mean(np.log([entry.noise_scale for entry in sessions]))))


def calibrated(
    trained: TrainedModel, given: list[TrialCounts], report: Reporter = silent
) -> TrainedModel:
    """The model with new factors of the sessions that trials are given of; others keep theirs."""
    most = max(
        FEWEST_TRIALS_OF_SESSION, min(MOST_TRIALS_OF_SESSION, TRIALS_OF_ALL_SESSIONS // len(given))
    )
    found = {
        counts.session: find_scale(trained, counts, most)
        for counts in reported(given, "calibrate", report)
    }
    entries = []
    for entry in trained.sessions:
        scale = found.get(entry.key) or entry.noise_scale
        entries.append(replace(entry, noise_scale=scale))
    return replace(trained, sessions=tuple(entries))


def lowest(function: Callable[[float], float]) -> float:
    """Where a function with one minimum has it, in the range of octaves, from few of its values.

    Downhill from 0 in steps of 1, then of a half; then the vertex of the parabola through the
    lowest point and its neighbours. An end of the range stays itself, and so does 0 where the
    function is flat.

    >>> lowest(lambda x: (x + 1.25) ** 2)
    -1.25
    """
    known: dict[float, float] = {}

    def value(x: float) -> float:
        if x not in known:
            inside = LOWEST_OCTAVE <= x <= HIGHEST_OCTAVE
            y = function(x) if inside else float("inf")
            known[x] = float("inf") if np.isnan(y) else y
        return known[x]

    best = 0.0
    for step in (1.0, 0.5):
        while value(lower := min((best, best - step, best + step), key=value)) < value(best):
            best = lower
    before, here, after = value(best - 0.5), value(best), value(best + 0.5)
    curvature = before - 2 * here + after
    if not 0 < curvature < float("inf"):
        return best
    return best + 0.25 * (before - after) / curvature
