"""Benchmarks of aligning, forecasting, reading and writing: each runs when quick, and its reference
does what we do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.forecast import QUICK, made, plain_forecast, reference_of, session_told
from metadyn.inference.forecast import forecast

ROOT = Path(__file__).parents[2]


def last_line(module: str) -> dict:
    """What `python -m benchmarks.MODULE --quick` prints at the end."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--quick"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("module", "parts"),
    [
        ("align", {"1", "4", "ceiling"}),
        ("calibration", {"calibration_share", "cpu_s", "peak_mib"}),
        ("forecast", {"ours_s", "reference_ratio", "peak_mib"}),
        ("io", {"annotate", "read", "many"}),
        ("scale", {"memory", "sessions"}),
    ],
)
def test_each_benchmark_ends_with_its_figures_and_keeps_none_when_quick(module, parts):
    before = sorted(
        (each.name, each.stat().st_mtime_ns) for each in (ROOT / "benchmarks/results").iterdir()
    )
    figures = last_line(module)
    assert parts <= figures.keys()
    assert (
        sorted(
            (each.name, each.stat().st_mtime_ns) for each in (ROOT / "benchmarks/results").iterdir()
        )
        == before
    )
    if module == "align":
        assert figures["4"]["cpu_s"] > 0
        assert figures["ceiling"]["k20"] > 0.9
    if module == "io":
        assert figures["annotate"]["arrays_mib"] > 0


def test_the_plain_forecast_has_the_mean_and_the_spread_of_ours():
    """300 samples of each, of the same trials: means within 5 standard errors, SDs within a
    quarter."""
    trained, counts = made(QUICK)
    counts = counts.select([0, 1])
    with torch.no_grad():  # paths that stay together: of chaos there would be no mean to compare
        trained.module.dynamics.flow.hidden.weight *= 0.5
    ours = forecast(trained, counts, context=QUICK.context, steps=QUICK.steps, samples=300)
    ours = ours["rate_samples"].values * trained.bin_width
    generator = torch.Generator().manual_seed(5)
    context = counts.counts[:, : QUICK.context]
    plain = plain_forecast(
        reference_of(trained),
        context,
        session_told(trained),
        QUICK.steps,
        300,
        trained.sessions[0].noise_scale,
        generator,
    )
    assert ours.shape == plain.shape
    ours, plain = np.log(ours), np.log(plain)  # rates of an exponential link have heavy tails
    error = np.hypot(ours.std(0), plain.std(0)) / 300**0.5
    assert (np.abs(ours.mean(0) - plain.mean(0)) < 5 * error).all()
    np.testing.assert_allclose(ours.std(0), plain.std(0), rtol=0.25)
