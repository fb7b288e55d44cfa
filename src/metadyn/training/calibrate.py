"""Forecast intervals as wide as the errors of forecasts: a factor on the process noise, from trials that trained nothing.

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
from metadyn.records import TrialCounts

OCTAVES = np.arange(-4, 2.25, 0.5)  # factors of the SD of process noise, as powers of two
SESSIONS, WINDOWS, STEPS, SAMPLES = 32, 128, 30, 128  # at most; windows of all sessions together


def evenly(size: int, most: int) -> np.ndarray:
    """Up to `most` of the numbers below `size`, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).round().astype(int)


@torch.no_grad()
def surprise(trained: TrainedModel, counts: TrialCounts, drawn: Draws, context: int, steps: int, factor: float) -> float:
    """Mean negative log density of what each unit did in each bin after the context, under paths of noise times `factor`."""
    row, device = trained.index(counts.session), drawn.state.device
    generator = torch.Generator(device).manual_seed(0)
    paths = noisy_paths(replace(trained, noise_scale=factor), row, drawn, steps, generator)
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
    trials = long[evenly(len(long), most)]
    steps = min(STEPS, counts.counts.shape[1] - context)
    return counts.select(trials), context, steps


@torch.no_grad()
def calibrated(trained: TrainedModel, held_out: list[TrialCounts]) -> TrainedModel:
    """The model with the noise of forecasts under which held-out trials (of its sessions) are least surprising.

    Unchanged where no trial goes on after its context.
    """
    chosen = [held_out[place] for place in evenly(len(held_out), SESSIONS)]
    total = np.zeros(len(OCTAVES))
    for session in chosen:
        counts, context, steps = forecastable(session, -(-WINDOWS // len(chosen)))
        if counts.n_trials:
            drawn = draw(trained, counts, context, SAMPLES, seed=0)
            total += [surprise(trained, counts, drawn, context, steps, factor) for factor in 2**OCTAVES]
    return replace(trained, noise_scale=float(2 ** lowest(OCTAVES, total))) if total.any() else trained


def lowest(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through the lowest of evenly spaced points and its neighbours is lowest; an end stays itself."""
    at = int(y.argmin())
    if at in (0, len(x) - 1):
        return float(x[at])
    before, here, after = y[at - 1 : at + 2]
    return float(x[at] + 0.5 * (x[1] - x[0]) * (before - after) / (before - 2 * here + after))
