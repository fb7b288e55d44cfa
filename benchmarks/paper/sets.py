"""The paper's simulated sets: sessions to train on, new sessions to align, and their test trials,
which are read once.

The grid of each set, and what the paper leaves open: docs/paper_parity.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from metadyn.data.families import FAMILIES, noise_free
from metadyn.data.synthetic import SimulatedSession, as_counts, simulate
from metadyn.records import TrialCounts

Members = tuple[
    tuple[str, tuple[float, ...]], ...
]  # family, and its parameters in the order of Family.names
SPIKES_A_BIN = (0.3, 0.1, 0.05)
RATE_SPREAD = (
    np.array([2, 12]) / 7
)  # slowest and fastest unit over the mean rate: those of metadyn.data.synthetic, 5 and 30 Hz


@dataclass(frozen=True)
class Plan:
    """What to simulate: `train` trials of the training sessions, `pool` trials of new sessions to
    draw alignment trials from, and `test` trials of all, of `bins` bins; forecasts are scored from
    contexts that end at the bins `contexts`.

    spikes: mean count of a Poisson unit a bin; None for the paper's Gaussian observations.
    """

    training: Members
    new: Members = ()
    bins: int = 300
    train: int = 128
    pool: int = 64
    test: int = 64
    contexts: tuple[int, ...] = (100, 150, 200)
    horizons: tuple[int, ...] = (10, 20, 30, 50)
    embedding_dim: int = 1
    spikes: float | None = None
    units: tuple[int, int] | None = None

    def small(self) -> Plan:
        """The same in a few seconds: four training sessions, 150 bins."""
        few = (
            tuple(self.training[i] for i in np.linspace(0, len(self.training) - 1, 4).astype(int))
            if len(self) > 4
            else ()
        )
        contexts = self.contexts if self.bins <= 150 else (50, 75, 100)
        size = {
            "train": 20,
            "pool": 16,
            "test": 8,
            "bins": 150,
            "contexts": contexts,
            "units": (20, 30),
        }
        return replace(self, training=few or self.training, new=self.new[-1:], **size)

    def __len__(self) -> int:
        return len(self.training)


def members(family: str, *values: tuple[float, ...] | float) -> Members:
    return tuple((family, value if isinstance(value, tuple) else (value,)) for value in values)


def evenly(family: str, low: float, high: float, n: int) -> Members:
    return members(family, *np.linspace(low, high, n).round(6).tolist())


DUFFING = members("duffing", *[tuple(each.values()) for each in FAMILIES["duffing"].cover(None)])


def poisson(n_sessions: int, spikes: float) -> Plan:
    return Plan(
        evenly("limit-cycle", 0.25, 5.0, n_sessions),
        bins=150,
        train=48,
        test=16,
        contexts=(50, 75),
        horizons=(10, 20, 30),
        spikes=spikes,
    )


PLANS = {
    "limit-cycles-2": Plan(members("limit-cycle", 2.0, 5.0)),
    "limit-cycles-20": Plan(evenly("limit-cycle", 0.25, 5.0, 20), members("limit-cycle", 4.1)),
    "hopf": Plan(evenly("hopf", -1.5, 1.5, 21), members("hopf", -0.675, 1.125), bins=350),
    "duffing-hopf": Plan(
        DUFFING + evenly("hopf", -1.5, 1.5, 11),
        members("duffing", (-0.6, -1.1), (-0.4, 0.4)) + members("hopf", -1.8),
        embedding_dim=2,
    ),
    **{f"poisson-{n}-{spikes}": poisson(n, spikes) for n in (8, 20) for spikes in SPIKES_A_BIN},
    # Fig 17's question: the sessions of `hopf`, but only some of them, evenly spread; its new
    # sessions.
    **{
        f"hopf-{n}": Plan(
            tuple(
                evenly("hopf", -1.5, 1.5, 21)[i] for i in np.linspace(0, 20, n).round().astype(int)
            ),
            members("hopf", -0.675, 1.125),
            bins=350,
        )
        for n in (2, 5, 10)
    },
}


@dataclass(frozen=True)
class Sample:
    """One simulated session: its truth, the trials to fit or align on, and the test trials with
    their true latents (trial, time, latent)."""

    truth: SimulatedSession
    given: TrialCounts
    test: TrialCounts
    latents: np.ndarray

    @property
    def key(self) -> str:
        return self.given.session

    @property
    def means(self) -> np.ndarray:
        """True expected observations of the test trials (trial, time, unit), as `expected`."""
        return self.expected(self.latents)

    def expected(self, latents: np.ndarray) -> np.ndarray:
        """Expected observations of latents (..., latent): means, or counts a bin (..., unit)."""
        scale = self.truth.bin_width if hasattr(self.truth, "counts") else 1.0
        return self.truth.expected(latents) * scale

    def ahead(self, context: int, steps: int) -> np.ndarray:
        """The ceiling: true dynamics without noise from the true state at the last context bin
        (trial, time, unit)."""
        states = self.latents[:, context - 1]
        return self.expected(noise_free(self.truth.family, self.truth.parameters, states, steps))


@dataclass(frozen=True)
class Simulated:
    """The training sessions and the new sessions of a plan."""

    training: list[Sample]
    new: list[Sample]


def sample(truth: SimulatedSession, n_given: int, prefix: str) -> Sample:
    counts = as_counts(truth).select(session=prefix + truth.key)
    return Sample(
        truth,
        counts.select(slice(n_given)),
        counts.select(slice(n_given, None)),
        truth.latents[n_given:],
    )


def sampled(members: Members, plan: Plan, n_given: int, prefix: str, seed: int) -> list[Sample]:
    """Members family by family, each family with random numbers of its own."""
    observations, options = "gaussian", {}
    if plan.spikes is not None:
        rate_range = tuple((RATE_SPREAD * plan.spikes / 0.02).tolist())
        observations, options = "spikes", {"rate_range": rate_range}
    samples = []
    for place, family in enumerate(dict.fromkeys(family for family, _ in members)):
        names = FAMILIES[family].names
        parameters = [
            dict(zip(names, values, strict=True)) for each, values in members if each == family
        ]
        truths = simulate(
            family,
            parameters=parameters,
            observations=observations,
            units=plan.units,
            n_trials=n_given + plan.test,
            n_bins=plan.bins,
            seed=seed + 1000 * place,
            **options,
        )
        samples += [sample(truth, n_given, prefix) for truth in truths]
    return samples


@lru_cache(maxsize=2)
def simulated(plan: Plan, seed: int) -> Simulated:
    """The sessions of a plan; new ones have keys that begin with `new-`."""
    training = sampled(plan.training, plan, plan.train, "", seed)
    return Simulated(training, sampled(plan.new, plan, plan.pool, "new-", seed + 100_000))


def draws(n_pool: int, n_shots: int, most: int, seed: int) -> list[np.ndarray]:
    """Up to `most` disjoint draws of n_shots of the pool's trials, ascending."""
    order = np.random.default_rng(seed).permutation(n_pool)
    return [
        np.sort(order[i * n_shots : (i + 1) * n_shots]) for i in range(min(most, n_pool // n_shots))
    ]


def in_thirds(counts: TrialCounts) -> TrialCounts:
    """Each trial cut into three windows of its thirds, what is left over dropped: more than one
    window of one trial."""
    third = counts.counts.shape[1] // 3
    start = counts.windows.start[:, None] + third * counts.bin_width * np.arange(3)
    windows = replace(
        counts.windows,
        start=start.ravel(),
        n_bins=np.full(3 * counts.n_trials, third),
        trial_row=np.repeat(counts.windows.trial_row, 3),
    )
    values = counts.counts[:, : 3 * third].reshape(-1, third, counts.n_units)
    return replace(
        counts,
        counts=values,
        observed=counts.observed[:, : 3 * third].reshape(-1, third),
        windows=windows,
    )
