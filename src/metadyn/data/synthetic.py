"""Simulated sessions whose truth is known: Poisson units driven by a family of dynamical systems (paper, App. A).

The flow takes one Euler step x + dt (f + noise N(0, 1)) a bin; see docs/paper_parity for the reading of "5dW".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metadyn.errors import ConfigError


@dataclass(frozen=True)
class SimulatedSession:
    """One session and its truth.

    spike_times (spike,) [s], those of unit u at spike_index[u]:spike_index[u + 1]; trial_start (trial,) [s];
    latents (trial, time, latent) at bin centres; rates (trial, time, unit) [Hz]; counts (trial, time, unit);
    parameters: what sets this session's dynamics apart, e.g. {"speed": 2.1}.
    """

    key: str
    family: str
    parameters: dict[str, float]
    bin_width: float
    trial_start: np.ndarray
    latents: np.ndarray
    rates: np.ndarray
    counts: np.ndarray
    spike_times: np.ndarray
    spike_index: np.ndarray


@dataclass(frozen=True)
class Family:
    """Dynamical systems that differ in one parameter: `flow(x, parameter)` on (trial, 2), `start(rng, n)`, its range."""

    parameter: str
    flow: Callable[[np.ndarray, float], np.ndarray]
    start: Callable[[np.random.Generator, int], np.ndarray]
    low: float
    high: float


def limit_cycle_flow(x: np.ndarray, speed: float) -> np.ndarray:
    """ṙ = r (1 − r²), θ̇ = speed (App. A)."""
    radial = 1 - (x**2).sum(-1, keepdims=True)
    return x * radial + speed * np.stack([-x[..., 1], x[..., 0]], -1)


def ring_start(rng: np.random.Generator, n: int) -> np.ndarray:
    radius, angle = rng.uniform(0.2, 1.5, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


FAMILIES = {"limit-cycle": Family("speed", limit_cycle_flow, ring_start, 0.25, 5.0)}
STEP, NOISE, LATENT_SD = 0.04, 0.5, 0.7  # time step of the flow a bin, SD of its noise, SD of a point on the unit circle


def integrate(family: Family, parameter: float, n_trials: int, n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Latent trajectories (trial, time, 2)."""
    path = [family.start(rng, n_trials)]
    for _ in range(n_bins - 1):
        drift = family.flow(path[-1], parameter) + NOISE * rng.standard_normal((n_trials, 2))
        path.append(path[-1] + STEP * drift)
    return np.stack(path, 1)


def spikes_in_bins(counts: np.ndarray, trial_start: np.ndarray, bin_width: float, rng: np.random.Generator):
    """Spike times placed uniformly inside their bins: (spike_times, spike_index), ascending within a unit."""
    trial, time, unit = np.nonzero(counts)
    repeats = counts[trial, time, unit]
    left = np.repeat(trial_start[trial] + time * bin_width, repeats)
    times = left + bin_width * rng.uniform(0.02, 0.98, len(left))
    unit = np.repeat(unit, repeats)
    order = np.lexsort((times, unit))
    index = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=counts.shape[2]))])
    return times[order], index


def simulate_session(
    family: str,
    parameter: float,
    *,
    key: str,
    n_units: int,
    n_trials: int,
    n_bins: int,
    rate_range: tuple[float, float],
    bin_width: float,
    gap: float,
    rng: np.random.Generator,
) -> SimulatedSession:
    """Spikes of units with log-linear tuning to the latents and mean rates drawn from `rate_range` [Hz]."""
    system = FAMILIES[family]
    latents = integrate(system, parameter, n_trials, n_bins, rng)
    tuning = rng.normal(0, 2**-0.25, (n_units, 2))  # variance 1 / sqrt(d_z), as in the paper
    log_mean = np.log(rng.uniform(*rate_range, n_units)) - 0.5 * (tuning**2).sum(1) * LATENT_SD**2
    rates = np.exp(latents @ tuning.T + log_mean)
    counts = rng.poisson(rates * bin_width)
    trial_start = 1.0 + np.arange(n_trials) * round(n_bins * bin_width + gap, 6)
    spike_times, spike_index = spikes_in_bins(counts, trial_start, bin_width, rng)
    return SimulatedSession(
        key, family, {system.parameter: parameter}, bin_width, trial_start, latents, rates, counts, spike_times, spike_index
    )


def simulate(
    family: str,
    *,
    parameters: list[float] | None = None,
    n_sessions: int = 8,
    units: tuple[int, int] = (20, 60),
    n_trials: int = 48,
    n_bins: int = 150,
    rate_range: tuple[float, float] = (5.0, 30.0),
    bin_width: float = 0.02,
    gap: float = 0.5,
    seed: int = 0,
) -> list[SimulatedSession]:
    """Sessions with different units and counts of units; without `parameters`, the family's range evenly covered."""
    if family not in FAMILIES:
        raise ConfigError(
            f"there is no family {family!r}",
            found=", ".join(FAMILIES),
            remedy=f"metadyn simulate {next(iter(FAMILIES))} -o DIR",
        )
    system = FAMILIES[family]
    if parameters is None:
        parameters = list(np.linspace(system.low, system.high, n_sessions))
    streams = np.random.default_rng(seed).spawn(len(parameters))
    return [
        simulate_session(
            family,
            float(parameter),
            key=f"{family}-{i:02d}",
            n_units=int(rng.integers(units[0], units[1] + 1)),
            n_trials=n_trials,
            n_bins=n_bins,
            rate_range=rate_range,
            bin_width=bin_width,
            gap=gap,
            rng=rng,
        )
        for i, (parameter, rng) in enumerate(zip(parameters, streams, strict=True))
    ]
