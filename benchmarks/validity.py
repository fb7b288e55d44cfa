"""What lost units and invalid time do to a fit, on simulated recordings in NWB files.

    python -m benchmarks.validity [--quick]

`lost_units`: half of the units are lost half-way through the recording, as their obs_intervals say.
r² of the inferred rates of these units against the true ones, in the half in which they were
observed and in the lost one; and their ratio. `invalid_time`: a fifth of the recording, in pieces
that begin and end within trials, is invalid and full of noise spikes. Latents of a fit of this file
against those of a fit of the recording without the trials that meet invalid time: r² after a linear
map, in all bins of these trials (`without`), and against a fit of the undisturbed recording in all
valid bins (`undisturbed`). `seeds` says how far two fits of the undisturbed recording differ that
have two seeds. Defaults of model and training, three simulated sessions. Results:
benchmarks/results/validity.json.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xarray as xr
from pynwb import NWBHDF5IO, NWBFile

from benchmarks.record import save_result, say
from metadyn.config import Config
from metadyn.data.synthetic import SimulatedSpikes, simulate
from metadyn.pipeline.fit import fit
from metadyn.pipeline.infer import infer

SHARE, PIECE, NOISE = (
    0.2,
    3.0,
    100.0,
)  # invalid share of the recording, in pieces of so many seconds [s], spikes in it [Hz]


@dataclass(frozen=True)
class Size:
    """Of the recordings, and settings of the fit."""

    seeds: int = 3
    trials: int = 100
    bins: int = 75
    units: int = 40
    training: tuple[tuple[str, int], ...] = ()


QUICK = Size(
    seeds=1, trials=24, bins=40, units=16, training=(("steps", 60), ("pretrain_steps", 60))
)


def recording(size: Size, seed: int) -> SimulatedSpikes:
    """A session of a limit cycle."""
    made = simulate(
        "limit-cycle",
        n_sessions=1,
        n_trials=size.trials,
        n_bins=size.bins,
        units=(size.units,) * 2,
        seed=seed,
    )
    return made[0]


def bounds(session: SimulatedSpikes) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of each trial [s]."""
    return session.trial_start, session.trial_start + session.counts.shape[1] * session.bin_width


def written(
    session: SimulatedSpikes,
    path: Path,
    *,
    trials: np.ndarray | slice = slice(None),
    spikes: Callable[[int, np.ndarray], np.ndarray] = lambda unit, times: times,
    observed: Callable[[int], tuple[float, float]] | None = None,
    invalid: Iterable[tuple[float, float]] = (),
) -> Path:
    """An NWB file of some trials of the session; spikes(unit, times) changes those of a unit,
    observed(unit) bounds it [s]."""
    nwbfile = NWBFile("simulated", session.key, datetime(2020, 1, 1, tzinfo=UTC))
    for unit in range(session.counts.shape[2]):
        times = session.spike_times[session.spike_index[unit] : session.spike_index[unit + 1]]
        own = {} if observed is None else {"obs_intervals": np.array([observed(unit)])}
        nwbfile.add_unit(spike_times=np.sort(spikes(unit, times)), **own)
    for start, stop in zip(*(each[trials] for each in bounds(session)), strict=True):
        nwbfile.add_trial(start_time=start, stop_time=stop)
    for start, stop in invalid:
        nwbfile.add_invalid_time_interval(start_time=start, stop_time=stop)
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


def inferred(path: Path, size: Size, seed: int) -> xr.Dataset:
    """What a fit of the file infers of it."""
    config = Config.model_validate(
        {"training": {"seed": seed, **dict(size.training)}, "data": {"min_rate": 0.0}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return infer(fit(path, config=config), path)


def r2(true: np.ndarray, found: np.ndarray) -> float:
    """1 − Σ(y − ŷ)² / Σ(y − ȳ)² of (bin, column), ȳ of each column."""
    return float(1 - ((true - found) ** 2).sum() / ((true - true.mean(0)) ** 2).sum())


def mapped_r2(true: np.ndarray, found: np.ndarray) -> float:
    """r² of latents (bin, latent) after the best affine map of those that were found."""
    design = np.concatenate([found, np.ones((len(found), 1))], 1).astype(np.float64)
    return r2(true, design @ np.linalg.lstsq(design, true, rcond=None)[0])


def lost_units(folder: Path, size: Size, seed: int) -> dict[str, float]:
    """Half of the units are lost in the middle of a trial, half-way through the recording."""
    session = recording(size, seed)
    start, stop = bounds(session)
    end = float(start[size.trials // 2] + (stop - start)[0] / 2)
    lost = np.random.default_rng(seed).permutation(size.units)[: size.units // 2]
    path = written(
        session,
        folder / "lost.nwb",
        spikes=lambda unit, times: times[times < end] if unit in lost else times,
        observed=lambda unit: (0.0, end if unit in lost else stop[-1]),
    )
    found = inferred(path, size, seed)
    gone = found.start_time.values[:, None] + found.time.values > end
    true, rates = session.rates[..., lost], found.rate_mean.values[..., lost]
    observed, missing = r2(true[~gone], rates[~gone]), r2(true[gone], rates[gone])
    kept = np.setdiff1d(np.arange(size.units), lost)
    others = r2(session.rates[..., kept][gone], found.rate_mean.values[..., kept][gone])
    return {
        "observed_half": observed,
        "lost_half": missing,
        "ratio": missing / observed,
        "other_units_in_lost_half": others,
    }


def invalid_pieces(session: SimulatedSpikes, size: Size, seed: int) -> np.ndarray:
    """Evenly spread pieces (piece, 2) [s] that make up SHARE of the recording."""
    start, stop = bounds(session)
    number = round(SHARE * (stop[-1] - start[0]) / PIECE)
    first = np.linspace(start[0], stop[-1] - PIECE, number) + np.random.default_rng(seed).uniform(
        0, PIECE, number
    )
    return np.column_stack([first, first + PIECE])


def invalid_time(folder: Path, size: Size, seed: int) -> dict[str, float]:
    """A fifth of the recording is filled with noise and said to be invalid."""
    session, rng = recording(size, seed), np.random.default_rng(seed)
    pieces = invalid_pieces(session, size, seed)

    def noisy(unit: int, times: np.ndarray) -> np.ndarray:
        noise = [rng.uniform(*piece, rng.poisson(NOISE * PIECE)) for piece in pieces]
        return np.concatenate([times, *noise])

    start, stop = bounds(session)
    met = (start[:, None] < pieces[:, 1]) & (stop[:, None] > pieces[:, 0])
    whole = np.flatnonzero(~met.any(1))
    disturbed = inferred(
        written(session, folder / "noise.nwb", spikes=noisy, invalid=pieces), size, seed
    )
    without = inferred(written(session, folder / "without.nwb", trials=whole), size, seed)
    clean = written(session, folder / "clean.nwb")
    undisturbed = [inferred(clean, size, each) for each in (seed, seed + 1000)]
    own = np.searchsorted(disturbed.start_time.values, start[whole] - 1e-6)
    pairs = (disturbed.latent_mean.values[own], without.latent_mean.values)
    same = np.searchsorted(start, disturbed.start_time.values - 1e-6)
    valid = disturbed.observed.values
    return {
        "without": mapped_r2(*(z.reshape(-1, z.shape[-1]) for z in reversed(pairs))),
        "undisturbed": mapped_r2(
            undisturbed[0].latent_mean.values[same][valid], disturbed.latent_mean.values[valid]
        ),
        "seeds": mapped_r2(*(each.latent_mean.values[same][valid] for each in undisturbed)),
        "true_latents_noise": mapped_r2(
            session.latents[same][valid], disturbed.latent_mean.values[valid]
        ),
        "true_latents_without": mapped_r2(
            session.latents[whole].reshape(-1, 2), pairs[1].reshape(-1, pairs[1].shape[-1])
        ),
    }


def measured(size: Size) -> dict:
    """Of each seed, what is measured."""
    result: dict = {"lost_units": [], "invalid_time": []}
    for seed in range(size.seeds):
        for name, measure in (("lost_units", lost_units), ("invalid_time", invalid_time)):
            with TemporaryDirectory() as folder:
                result[name].append(measure(Path(folder), size, seed))
            say(f"seed {seed}, {name}: {result[name][-1]}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small recording and few steps; nothing is kept"
    )
    quick = parser.parse_args().quick
    result = measured(QUICK if quick else Size())
    if not quick:
        save_result("validity", result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
