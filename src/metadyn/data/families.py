"""Families of dynamical systems whose members differ in their parameters (paper, section 5 and App.
A).

A flow takes one Euler step x + dt (f(x) + 0.5 N(0, 1)) a bin, dt = 0.04; see docs/paper_parity for
the reading of "5dW".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

from metadyn.errors import ConfigError

TIME_STEP, NOISE_SD = 0.04, 0.5  # time step of the flow a bin, SD of its noise
RING_SD = 0.7  # root mean square of a coordinate of a point on the unit circle
# Start of a duffing path: beyond, Euler steps gain more energy than a = -0.2 takes, and the path
# leaves
FARTHEST = 6.0


@dataclass(frozen=True)
class Family:
    """Systems of two latents that differ in the parameters `names`.

    flow(x, parameters): time derivative (..., 2) at x (..., 2); start(rng, n): first states (n, 2);
    cover(n): n parameter sets (None: as many as the family has by default); latent_sd: root mean
    square of a coordinate in the widest member.
    """

    about: str
    names: tuple[str, ...]
    flow: Callable[[np.ndarray, dict[str, float]], np.ndarray]
    start: Callable[[np.random.Generator, int], np.ndarray]
    cover: Callable[[int | None], list[dict[str, float]]]
    latent_sd: float


def limit_cycle_flow(x: np.ndarray, parameters: dict[str, float]) -> np.ndarray:
    """ṙ = r (1 − r²), θ̇ = speed (App. A)."""
    radial = 1 - (x**2).sum(-1, keepdims=True)
    return x * radial + parameters["speed"] * np.stack([-x[..., 1], x[..., 0]], -1)


def hopf_flow(x: np.ndarray, parameters: dict[str, float]) -> np.ndarray:
    """ż1 = z2, ż2 = −z1 + (μ − z1²) z2."""
    return np.stack([x[..., 1], -x[..., 0] + (parameters["mu"] - x[..., 0] ** 2) * x[..., 1]], -1)


def duffing_flow(x: np.ndarray, parameters: dict[str, float]) -> np.ndarray:
    """ż1 = z2, ż2 = a z2 − z1 (b + c z1²), c = 0.1."""
    return np.stack(
        [
            x[..., 1],
            parameters["a"] * x[..., 1] - x[..., 0] * (parameters["b"] + 0.1 * x[..., 0] ** 2),
        ],
        -1,
    )


def ring_start(rng: np.random.Generator, n: int) -> np.ndarray:
    """Radius uniform in [0.2, 1.5], any angle."""
    radius, angle = rng.uniform(0.2, 1.5, n), rng.uniform(0, 2 * np.pi, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


def hopf_start(rng: np.random.Generator, n: int) -> np.ndarray:
    """N(0, I)."""
    return rng.standard_normal((n, 2))


def duffing_start(rng: np.random.Generator, n: int) -> np.ndarray:
    """N(0, 4 I); the one in ninety that lies outside `FARTHEST` is drawn in to it."""
    x = rng.normal(0, 2, (n, 2))
    return x * np.minimum(1, FARTHEST / np.linalg.norm(x, axis=1, keepdims=True))


def cover_range(name: str, low: float, high: float) -> Callable:
    """Values of one parameter from `low` to `high`, 8 by default."""
    return lambda n: [{name: value} for value in np.linspace(low, high, n or 8).tolist()]


def duffing_grid(n: int | None) -> list[dict[str, float]]:
    """The whole grid of a and b, or n of it, evenly spread."""
    grid = [
        {"a": a, "b": b}
        for a, b in product((-1.0, -0.733, -0.467, -0.2), (-1.5, -0.75, 0.0, 0.75, 1.5))
    ]
    if n is not None and n > len(grid):
        problem, remedy = (
            "there are not so many default parameters of duffing",
            "parameters=[{'a': -0.6, 'b': -1.1}, ...]",
        )
        raise ConfigError(
            problem,
            found=f"{n} sessions, a grid of {len(grid)}",
            remedy=f"`n_sessions={len(grid)}`, or {remedy}",
        )
    return [grid[i] for i in np.linspace(0, len(grid) - 1, n or len(grid)).round().astype(int)]


FAMILIES = {
    "limit-cycle": Family(
        "a ring, turned round at a speed from 0.25 to 5",
        ("speed",),
        limit_cycle_flow,
        ring_start,
        cover_range("speed", 0.25, 5.0),
        RING_SD,
    ),
    "hopf": Family(
        "a point for mu < 0, an oscillation for mu > 0; mu from -1.5 to 1.5",
        ("mu",),
        hopf_flow,
        hopf_start,
        cover_range("mu", -1.5, 1.5),
        1.75,
    ),
    "duffing": Family(
        "one well for b >= 0, two for b < 0, damped by a < 0; a grid of 20",
        ("a", "b"),
        duffing_flow,
        duffing_start,
        duffing_grid,
        2.6,
    ),
}


def family_named(name: str) -> Family:
    """Raises ConfigError for a name that is none of FAMILIES."""
    if name not in FAMILIES:
        remedy = f"metadyn simulate {next(iter(FAMILIES))} -o DIR"
        raise ConfigError(f"there is no family {name!r}", found=", ".join(FAMILIES), remedy=remedy)
    return FAMILIES[name]


def integrate(
    family: Family,
    parameters: dict[str, float],
    n_trials: int,
    n_bins: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Latent trajectories (trial, time, 2)."""
    path = [family.start(rng, n_trials)]
    for _ in range(n_bins - 1):
        drift = family.flow(path[-1], parameters) + NOISE_SD * rng.standard_normal((n_trials, 2))
        path.append(path[-1] + TIME_STEP * drift)
    return np.stack(path, 1)


def noise_free(
    family: str, parameters: dict[str, float], states: np.ndarray, steps: int
) -> np.ndarray:
    """The `steps` bins after `states` (..., 2) without noise, (..., steps, 2): the ceiling of every
    forecast from there."""
    flow, path = family_named(family).flow, [np.asarray(states)]
    for _ in range(steps):
        path.append(path[-1] + TIME_STEP * flow(path[-1], parameters))
    return np.stack(path[1:], -2)
