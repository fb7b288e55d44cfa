"""Forecast intervals as wide as the errors of forecasts: a factor on each session's process noise,
from trials that its dynamics were not fitted to.

The ELBO's Q pays for a posterior whose bins are independent and for what f does not know; as noise
of a forecast, where neither repeats itself bin by bin, it may be too large or too small
(docs/decisions/forecast-intervals.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metadyn.data.splits import evenly_spaced
from metadyn.inference.forecast import ContextSamples, default_context, noisy_paths, sample_context
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry, TrialCounts
from metadyn.training.execution.loop import StepReport, reported

LEAST, GREATEST = -4.0, 2.0  # factors of the SD of process noise, as powers of two
MOST, FEWEST, ALL = 16, 4, 512  # windows of a session, and about as many of all
STEPS, SAMPLES = 30, 128  # of a window, at most
ENTRIES = (
    2**18
)  # of a session that are scored, about: which windows it are then moves the factor more than which units
BLOCK = 2**18  # densities at once: they stay in cache, however many units there are


def forecastable(counts: TrialCounts, most: int) -> tuple[TrialCounts, int, int]:
    """Up to `most` trials with at least two bins, and something observed, after a context of a
    third of the median window; context and steps."""
    context = default_context(counts)
    steps = min(STEPS, counts.counts.shape[1] - context)
    seen = counts.observed_entries[:, context : context + steps].any((1, 2))
    usable = np.flatnonzero(seen & (counts.windows.n_bins >= context + 2))
    return counts.select(usable[evenly_spaced(len(usable), most)]), context, steps


def ahead(
    counts: TrialCounts, context: int, steps: int, units: np.ndarray
) -> tuple[Tensor, Tensor]:
    """What some units did in the bins after the context, and which of it was observed: (trial ·
    bin, unit)."""
    parts = counts.counts, np.broadcast_to(counts.observed_entries, counts.counts.shape)
    taken = (np.ascontiguousarray(part[:, context : context + steps][..., units]) for part in parts)
    values, observed = (torch.from_numpy(part).flatten(0, 1) for part in taken)
    return values.float(), observed


@torch.no_grad()
def surprise(
    trained: TrainedModel,
    counts: TrialCounts,
    drawn: ContextSamples,
    context: int,
    steps: int,
    noise_scale: float,
) -> float:
    """Mean negative log density of what each unit did in each bin after the context, under paths of
    noise that loud.

    Of many units, some are scored that are evenly spread; NaN where none of them was observed.
    """
    row, device = trained.index(counts.session), drawn.state.device
    units = evenly_spaced(counts.n_units, max(1, ENTRIES // (counts.n_trials * steps)))
    likelihood, session = (
        trained.module.likelihood.of_units(row, units),
        torch.zeros(1, dtype=torch.long, device=device),
    )
    paths = noisy_paths(trained, row, drawn, steps, noise_scale, seed=0).flatten(
        1, 2
    )  # (sample, trial · bin, latent)
    values, observed = (each.to(device) for each in ahead(counts, context, steps, units))

    total, at_once = 0.0, max(1, BLOCK // (len(paths) * len(units)))
    for z, value, seen in zip(
        paths.split(at_once, 1), values.split(at_once), observed.split(at_once), strict=True
    ):
        density = likelihood(z[None], session).log_prob(value)[0]  # (sample, trial · bin, unit)
        total += float(log_mean_exp(density)[seen].sum(dtype=torch.double))
    number = int(observed.sum())
    return -total / number if number else float("nan")


def log_mean_exp(x: Tensor) -> Tensor:
    """log of the mean of exp(x) over the first axis; numbers too small to count are rounded, as
    tiny ones take long to add."""
    largest = x.amax(0)
    return (x - largest).clamp_(min=-80).exp_().mean(0).log_() + largest


def found_scale(trained: TrainedModel, counts: TrialCounts, most: int) -> float | None:
    """The factor under which trials of a session are least surprising; None where none goes on
    after its context."""
    counts, context, steps = forecastable(counts, most)
    if not counts.n_trials:
        return None
    drawn = sample_context(trained, counts, context, SAMPLES, seed=0)
    octave = lowest(lambda octave: surprise(trained, counts, drawn, context, steps, 2.0**octave))
    return 2.0**octave


def typical_scale(sessions: tuple[SessionEntry, ...]) -> float:
    """The geometric mean of the sessions' factors, for one of which nothing is known."""
    return float(np.exp(np.mean(np.log([entry.noise_scale for entry in sessions]))))


def calibrated(
    trained: TrainedModel,
    given: list[TrialCounts],
    report: Callable[[StepReport], None] = lambda _: None,
) -> TrainedModel:
    """The model with the factor of each session that trials are given of; others keep theirs."""
    most = max(FEWEST, min(MOST, ALL // len(given)))
    found = {
        counts.session: found_scale(trained, counts, most)
        for counts in reported(given, "calibrate", report)
    }
    scales = [found.get(entry.key) or entry.noise_scale for entry in trained.sessions]
    entries = (
        replace(entry, noise_scale=scale)
        for entry, scale in zip(trained.sessions, scales, strict=True)
    )
    return replace(trained, sessions=tuple(entries))


def lowest(of: Callable[[float], float]) -> float:
    """Where a function of one minimum is lowest between LEAST and GREATEST, from few of its values.

    Downhill from 0 in steps of 1, then of a half, and the parabola through the lowest point and its
    neighbours. An end stays itself, and so does 0 where the function is flat.
    """
    known: dict[float, float] = {}

    def value(x: float) -> float:
        if x not in known:
            y = of(x) if LEAST <= x <= GREATEST else float("inf")
            known[x] = y if y == y else float("inf")
        return known[x]

    best = 0.0
    for step in (1.0, 0.5):
        while value(lower := min((best, best - step, best + step), key=value)) < value(best):
            best = lower
    before, here, after = value(best - 0.5), value(best), value(best + 0.5)
    curvature = before - 2 * here + after
    return best + 0.25 * (before - after) / curvature if 0 < curvature < float("inf") else best
