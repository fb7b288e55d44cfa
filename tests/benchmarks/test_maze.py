"""Maze, five methods: a forecast of behaviour knows its context alone, and r² is that of plain
loops."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import maze
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.inference.baselines import LAGS
from metadyn.inference.forecast import forecast
from metadyn.records import Source, TrialCounts, Windows
from metadyn.training.fit import fit

BINS, CONTEXT = 12, 4


@pytest.fixture(scope="module")
def counts():
    """Ten trials of six units whose rates and velocity turn."""
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 5, BINS) + rng.uniform(0, 6, (10, 1))
    velocity = np.stack([3 + np.cos(angle), np.sin(angle) - 2], -1)
    spikes = rng.poisson(np.exp(velocity @ rng.normal(0, 0.5, (2, 6))))
    windows = Windows(np.arange(10.0), np.full(10, BINS), 0.02, "trials", np.arange(10))
    return TrialCounts(
        "new", Source(), spikes, np.ones((10, BINS), bool), windows, np.arange(6), behavior=velocity
    )


@pytest.fixture(scope="module", params=["low_rank", "shared"])
def trained(request, counts):
    config = ModelConfig(latent_dim=2, conditioning=request.param)
    return fit([counts], config, TrainingConfig(steps=5, pretrain_steps=5))


def garbled(counts: TrialCounts) -> TrialCounts:
    """The same contexts, and behind them nonsense."""
    later = np.arange(BINS)[:, None] >= CONTEXT
    return replace(
        counts,
        counts=np.where(later, 77, counts.counts),
        behavior=np.where(later, np.nan, counts.behavior),
    )


def test_what_comes_after_the_context_changes_no_feature_of_a_forecast(counts, trained):
    features = maze.forecast_latents(trained, counts, CONTEXT)
    np.testing.assert_array_equal(
        features, maze.forecast_latents(trained, garbled(counts), CONTEXT)
    )
    assert not np.array_equal(
        maze.latents(trained, counts), maze.latents(trained, garbled(counts))
    )  # garbage is seen


def test_a_forecast_goes_on_from_the_last_latent_of_the_cut_context(counts, trained):
    features = maze.forecast_latents(trained, counts, CONTEXT)
    told = forecast(trained, counts, context=CONTEXT, steps=BINS - CONTEXT)
    np.testing.assert_allclose(features[:, CONTEXT - 1], told["context_latent"].values, atol=1e-6)
    np.testing.assert_array_equal(features[:, CONTEXT:], told["latent_mean"].values)
    assert features.shape == (10, BINS, 2)


def test_scores_are_those_of_plain_loops(counts, trained):
    few, test = counts.select(slice(6)), counts.select(slice(6, None))
    latents = maze.forecast_latents(trained, test, CONTEXT)
    weight = np.random.default_rng(1).normal(size=(LAGS, 2, 2))

    def decode(features: np.ndarray) -> np.ndarray:
        out = np.zeros((*features.shape[:2], 2))
        for trial in range(len(features)):
            for time in range(BINS):
                for lag in range(LAGS):
                    out[trial, time] += features[trial, max(time - lag, 0)] @ weight[lag]
        return out

    def r2(predicted: np.ndarray) -> float:
        """Of the bins after the context."""
        error = total = 0.0
        for channel in range(2):
            mean = np.mean(
                [
                    test.behavior[trial, time, channel]
                    for trial in range(4)
                    for time in range(CONTEXT, BINS)
                ]
            )
            for trial in range(4):
                for time in range(CONTEXT, BINS):
                    true = test.behavior[trial, time, channel]
                    error += (true - predicted[trial, time, channel]) ** 2
                    total += (true - mean) ** 2
        return 1 - error / total

    assert maze.scores(trained, decode, test)["forecast_r2"] == pytest.approx(
        r2(decode(latents)), abs=1e-9
    )
    profile = np.zeros((4, BINS, 2))
    for time in range(BINS):
        profile[:, time] = sum(few.behavior[trial, time] for trial in range(6)) / 6
    assert maze.mean_profile_r2(few, test) == pytest.approx(r2(profile), abs=1e-9)
