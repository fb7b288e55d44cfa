"""Simulated sessions whose truth is known: units driven by a family of dynamical systems (paper,
App. A).

Observations are spikes of Poisson units, or Gaussian as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from metadyn.data.families import RING_SD, Family, family_named, integrate
from metadyn.errors import ConfigError
from metadyn.records import Source, TrialCounts, Windows

OBSERVATION_SD = 0.1  # of Gaussian observations: variance 0.01, as in the paper


@dataclass(frozen=True)
class SimulatedSession:
    """The truth of one session.

    parameters: what sets this session's dynamics apart, e.g. {"speed": 2.1}; trial_start (trial,)
    [s]; latents (trial, time, latent) at bin centres; weight (unit, latent) and bias (unit,): the
    readout C z + D.
    """

    key: str
    family: str
    parameters: dict[str, float]
    bin_width: float
    trial_start: np.ndarray
    latents: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class SimulatedSpikes(SimulatedSession):
    """Poisson units of log-linear tuning.

    counts (trial, time, unit); spike_times (spike,) [s], those of unit u at
    spike_index[u]:spike_index[u + 1].
    """

    counts: np.ndarray
    spike_times: np.ndarray
    spike_index: np.ndarray

    def expected(self, latents: np.ndarray) -> np.ndarray:
        """Firing rates (..., unit) [Hz] of any latents (..., latent)."""
        return np.exp(latents @ self.weight.T + self.bias)

    @property
    def rates(self) -> np.ndarray:
        """True firing rates (trial, time, unit) [Hz]."""
        return self.expected(self.latents)


@dataclass(frozen=True)
class SimulatedGaussian(SimulatedSession):
    """Linear units with Gaussian noise of variance 0.01: observations (trial, time, unit)
    float32."""

    observations: np.ndarray

    def expected(self, latents: np.ndarray) -> np.ndarray:
        """Mean observations (..., unit) of any latents (..., latent)."""
        return latents @ self.weight.T + self.bias

    @property
    def means(self) -> np.ndarray:
        """True means of the observations (trial, time, unit)."""
        return self.expected(self.latents)


def random_weights(n_units: int, rng: np.random.Generator) -> np.ndarray:
    """(unit, latent) entries of variance 1/√d_z, as in the paper."""
    return rng.normal(0, 2**-0.25, (n_units, 2))


def observe_gaussian(
    truth: dict, family: Family, n_units: int, rng: np.random.Generator, *, offset: float = 0.0
) -> SimulatedGaussian:
    """y = C z + D + noise; D normal of SD `offset`, zero in the paper."""
    weight, bias = random_weights(n_units, rng), rng.normal(0, offset, n_units)
    means = truth["latents"] @ weight.T + bias
    noise = OBSERVATION_SD * rng.standard_normal(means.shape, np.float32)
    return SimulatedGaussian(
        **truth, weight=weight, bias=bias, observations=means.astype(np.float32) + noise
    )


def observe_spikes(
    truth: dict,
    family: Family,
    n_units: int,
    rng: np.random.Generator,
    *,
    rate_range: tuple[float, float] = (5.0, 30.0),
) -> SimulatedSpikes:
    """Units with mean rates drawn from `rate_range` [Hz]; tuning as deep in a family's widest
    member as on the ring."""
    weight = random_weights(n_units, rng) * (RING_SD / family.latent_sd)
    bias = (
        np.log(rng.uniform(*rate_range, n_units)) - 0.5 * (weight**2).sum(1) * family.latent_sd**2
    )
    counts = rng.poisson(np.exp(truth["latents"] @ weight.T + bias) * truth["bin_width"])
    times, index = spikes_in_bins(counts, truth["trial_start"], truth["bin_width"], rng)
    return SimulatedSpikes(
        **truth, weight=weight, bias=bias, counts=counts, spike_times=times, spike_index=index
    )


def spikes_in_bins(
    counts: np.ndarray, trial_start: np.ndarray, bin_width: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Spike times placed uniformly inside their bins: (spike_times, spike_index), ascending within
    a unit."""
    trial, time, unit = np.nonzero(counts)
    repeats = counts[trial, time, unit]
    left = np.repeat(trial_start[trial] + time * bin_width, repeats)
    times = left + bin_width * rng.uniform(0.02, 0.98, len(left))
    unit = np.repeat(unit, repeats)
    order = np.lexsort((times, unit))
    index = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=counts.shape[2]))])
    return times[order], index


OBSERVATIONS: dict[str, tuple[Callable[..., SimulatedSession], tuple[int, int]]] = {
    "spikes": (observe_spikes, (20, 60)),
    "gaussian": (observe_gaussian, (30, 100)),
}  # and their range of units


def simulate(
    family: str,
    *,
    parameters: Sequence[dict[str, float] | float] | None = None,
    n_sessions: int | None = None,
    observations: str = "spikes",
    units: tuple[int, int] | None = None,
    n_trials: int = 48,
    n_bins: int = 150,
    bin_width: float = 0.02,
    gap: float = 0.5,
    seed: int = 0,
    **options: object,
) -> list[SimulatedSession]:
    """Sessions with different units and counts of units, `SimulatedSpikes` or
    (`observations="gaussian"`) `SimulatedGaussian`.

    parameters: one dict a session, or one number where the family has one parameter; default: the
    family's range evenly covered, in `n_sessions` sessions. A bin is one step of the flow, whatever
    `bin_width` [s] the session is said to have; `gap` [s] lies between trials. `units`: fewest and
    most; default 20 to 60 with spikes, 30 to 100 without. `options`: `rate_range` [Hz] of spikes;
    `offset` (SD of D) of Gaussian observations. What a session holds follows from its parameters,
    `seed` and its place in the list alone. Raises ConfigError for an unknown family, unknown
    observations, or parameters that are not the family's.
    """
    system = family_named(family)
    if observations not in OBSERVATIONS:
        problem, remedy = f"there are no observations {observations!r}", "observations='spikes'"
        raise ConfigError(problem, found=", ".join(OBSERVATIONS), remedy=remedy)
    observe, usual_units = OBSERVATIONS[observations]
    fewest, most = units or usual_units
    chosen = (
        system.cover(n_sessions)
        if parameters is None
        else [_parameters_by_name(system, each) for each in parameters]
    )
    trial_start = 1.0 + np.arange(n_trials) * round(n_bins * bin_width + gap, 6)
    sessions = []
    for i, (each, rng) in enumerate(
        zip(chosen, np.random.default_rng(seed).spawn(len(chosen)), strict=True)
    ):
        n_units = int(rng.integers(fewest, most + 1))
        truth = {
            "key": f"{family}-{i:02d}",
            "family": family,
            "parameters": each,
            "bin_width": bin_width,
            "trial_start": trial_start,
            "latents": integrate(system, each, n_trials, n_bins, rng),
        }
        sessions.append(observe(truth, system, n_units, rng, **options))
    return sessions


def _parameters_by_name(family: Family, given: dict[str, float] | float) -> dict[str, float]:
    """Parameters by name, whether given by name or as the one number that there is."""
    named = given if isinstance(given, dict) else dict.fromkeys(family.names[:1], given)
    if set(named) != set(family.names):
        example = str(family.cover(1)[0])
        raise ConfigError(
            "parameters are not those of the family",
            found=given,
            remedy=f"parameters=[{example}, ...]",
        )
    return {name: float(named[name]) for name in family.names}


def as_counts(session: SimulatedSession) -> TrialCounts:
    """The observations of a session, as binning its file would give them: what fits, aligns and
    scores without files."""
    if isinstance(session, SimulatedSpikes):
        values = session.counts.astype(np.min_scalar_type(int(session.counts.max(initial=0))))
    elif isinstance(session, SimulatedGaussian):
        values = session.observations
    else:
        raise TypeError(f"{type(session).__name__} has no observations")
    n_trials, n_bins, n_units = values.shape
    windows = Windows(
        session.trial_start,
        np.full(n_trials, n_bins),
        session.bin_width,
        "trials",
        np.arange(n_trials),
    )
    observed = np.ones((n_trials, n_bins), bool)
    return TrialCounts(
        session.key, Source(identifier=session.key), values, observed, windows, np.arange(n_units)
    )
