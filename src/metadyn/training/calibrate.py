"""Forecast intervals as wide as the errors of forecasts: a factor on each session's process noise, from trials that its
dynamics were not fitted to.

The ELBO's Q pays for a posterior whose bins are independent and for what f does not know; as noise of a forecast, where
neither repeats itself bin by bin, it may be too large or too small (docs/decisions/forecast-intervals.md).
"""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import torch

from metadyn.inference.forecast import Draws, default_context, draw, noisy_paths
from metadyn.model.trained import TrainedModel
from metadyn.records import SessionEntry, TrialCounts

OCTAVES = np.arange(-4, 2.25, 0.5)  # factors of the SD of process noise, as powers of two
MOST, FEWEST, ALL = 16, 4, 512  # windows of a session, and about as many of all
STEPS, SAMPLES = 30, 128  # of a window, at most


def evenly(size: int, most: int) -> np.ndarray:
    """Up to `most` of the numbers below `size`, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).round().astype(int)


@torch.no_grad()
def surprise(trained: TrainedModel, counts: TrialCounts, drawn: Draws, context: int, steps: int, noise_scale: float) -> float:
    """Mean negative log density of what each unit did in each bin after the context, under paths of noise that loud."""
    row, device = trained.index(counts.session), drawn.state.device
    paths = noisy_paths(trained, row, drawn, steps, noise_scale, seed=0)
    told = trained.module.likelihood(paths, torch.tensor([row], device=device).expand(len(paths)))
    window, units = slice(context, context + steps), trained.module.readin.mean.shape[1]
    ahead = torch.zeros(*counts.counts[:, window].shape[:2], units, device=device)
    ahead[..., : counts.n_units] = torch.as_tensor(counts.counts[:, window].astype(np.float32))
    density = torch.logsumexp(told.log_prob(ahead), 0) - log(len(paths))
    seen = torch.as_tensor(counts.observed[:, window], device=device)
    return -float(density[..., : counts.n_units][seen].mean())


def forecastable(counts: TrialCounts, most: int) -> tuple[TrialCounts, int, int]:
    """Up to `most` trials with at least two bins after a context of a third of the median window; context and steps."""
    context = default_context(counts)
    long = np.flatnonzero(counts.windows.n_bins >= context + 2)
    steps = min(STEPS, counts.counts.shape[1] - context)
    return counts.select(long[evenly(len(long), most)]), context, steps


def found_scale(trained: TrainedModel, counts: TrialCounts, most: int) -> float | None:
    """The factor under which trials of a session are least surprising; None where none goes on after its context."""
    counts, context, steps = forecastable(counts, most)
    if not counts.n_trials:
        return None
    drawn = draw(trained, counts, context, SAMPLES, seed=0)
    return float(2 ** lowest(OCTAVES, np.array([surprise(trained, counts, drawn, context, steps, f) for f in 2**OCTAVES])))


def typical_scale(sessions: tuple[SessionEntry, ...]) -> float:
    """The geometric mean of the sessions' factors, for one of which nothing is known."""
    return float(np.exp(np.mean(np.log([entry.noise_scale for entry in sessions]))))


def calibrated(trained: TrainedModel, given: list[TrialCounts]) -> TrainedModel:
    """The model with the factor of each session that trials are given of; others keep theirs."""
    most = max(FEWEST, min(MOST, ALL // len(given)))
    found = {counts.session: found_scale(trained, counts, most) for counts in given}
    scales = [found.get(entry.key) or entry.noise_scale for entry in trained.sessions]
    entries = (replace(entry, noise_scale=scale) for entry, scale in zip(trained.sessions, scales, strict=True))
    return replace(trained, sessions=tuple(entries))


def lowest(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through the lowest of evenly spaced points and its neighbours is lowest; an end stays itself."""
    at = int(y.argmin())
    if at in (0, len(x) - 1):
        return float(x[at])
    before, here, after = y[at - 1 : at + 2]
    return float(x[at] + 0.5 * (x[1] - x[0]) * (before - after) / (before - 2 * here + after))
