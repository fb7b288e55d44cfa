"""Time and memory of forecasts with samples: 64 samples x 1000 trials x 50 steps, beside a plain
loop.

    python -m benchmarks.forecast [--quick]

A simulated session of 100 units, contexts of 50 bins, the default model after a few steps of
training. `one_forecast`: a call of `forecast` for each of some trials, with all their samples.
`reference`: the modules of benchmarks/reference.py in a loop over trials, samples and bins, for
some trials and samples; both are scaled to all. CPU seconds of this one thread, medians of
repetitions in turns; ratios within a repetition. `peak_mib` is what the process grew by while it
forecast, result included, in a process of its own; `result_mib` is the size of the result. Results:
benchmarks/results/forecast.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from benchmarks.binning import cpu_seconds
from benchmarks.record import in_a_process, resident_mib, save_result
from benchmarks.reference import Reference, from_model
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.synthetic import as_counts, simulate
from metadyn.inference.forecast import forecast
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.fit import fit


@dataclass(frozen=True)
class Size:
    """Of the forecast, and how many trials (and samples of the reference) the slow ways do."""

    trials: int = 1000
    samples: int = 64
    steps: int = 50
    context: int = 50
    units: int = 100
    some_trials: int = 10
    some_samples: int = 4
    repetitions: int = 5


QUICK = Size(
    trials=12, samples=4, steps=6, context=8, units=10, some_trials=2, some_samples=2, repetitions=2
)


def made(size: Size) -> tuple[TrainedModel, TrialCounts]:
    """A session of limit cycles, and a model that has seen 20 of its trials for a few steps."""
    units, n_bins = (size.units, size.units), size.context + size.steps
    counts = as_counts(
        simulate("limit-cycle", n_sessions=1, units=units, n_trials=size.trials, n_bins=n_bins)[0]
    )
    few = counts.select(slice(20))
    return fit(
        [few],
        ModelConfig(),
        TrainingConfig(steps=5, pretrain_steps=5, tail_bins=0, test_fraction=0.0),
    ), counts


def reference_of(trained: TrainedModel) -> Reference:
    return from_model(
        trained.module, trained.config, [entry.n_units for entry in trained.sessions]
    ).eval()


@torch.no_grad()
def plain_forecast(
    reference: Reference,
    counts: np.ndarray,
    told,
    steps: int,
    samples: int,
    noise: float,
    generator: torch.Generator,
) -> np.ndarray:
    """Samples of the counts expected (sample, trial, step, unit) after contexts (trial, time,
    unit), one after another.

    told: the distribution of e (embedding,); noise: factor on the SD of the process noise.
    """
    session, rates = reference.sessions[0], []
    for _ in range(samples):
        for trial in torch.as_tensor(counts, dtype=torch.float32):
            features = session.readin(trial[None], None)
            embedding = told.mean + told.stddev * torch.randn(told.mean.shape, generator=generator)
            q = reference.latent_encoder(features, embedding)
            state = q.mean[:, -1] + q.stddev[:, -1] * torch.randn(
                1, q.mean.shape[-1], generator=generator
            )
            weights = reference.dynamics.changed(reference.dynamics.changes(embedding))
            for _ in range(steps):
                jump = (
                    noise
                    * (session.log_q / 2).exp()
                    * torch.randn(state.shape, generator=generator)
                )
                state = reference.dynamics(state, weights) + jump
                rates.append(session.likelihood(state).mean[0])
    return torch.stack(rates).view(samples, len(counts), steps, -1).numpy()


def session_told(trained: TrainedModel) -> torch.distributions.Normal:
    """q(e) of the first session, as its training left it."""
    entry = trained.sessions[0]
    return torch.distributions.Normal(
        torch.tensor(entry.embedding_mean), torch.tensor(entry.embedding_sd)
    )


def result_bytes(size: Size, trained: TrainedModel) -> int:
    columns = trained.config.latent_dim + size.units
    return 4 * size.samples * size.trials * size.steps * columns


def growth(size: Size) -> float:
    """MiB by which this process grew at most while it forecast, after a small forecast."""
    trained, counts = made(size)
    asked = {"context": size.context, "steps": size.steps}
    forecast(trained, counts.select([0]), samples=2, **asked)
    before = resident_mib()
    forecast(trained, counts, samples=size.samples, **asked)
    return resident_mib() - before


def measure(size: Size) -> dict:
    peak = in_a_process(growth, size)  # first: a process starts at its parent's peak
    trained, counts = made(size)
    asked = {"context": size.context, "steps": size.steps}
    some, reference, told = (
        list(range(size.some_trials)),
        reference_of(trained),
        session_told(trained),
    )
    contexts = counts.counts[some, : size.context]
    generator = torch.Generator().manual_seed(0)

    def by_trial() -> None:
        for trial in some:
            forecast(trained, counts.select([trial]), samples=size.samples, **asked)

    def by_sample() -> None:
        plain_forecast(
            reference,
            contexts,
            told,
            size.steps,
            size.some_samples,
            trained.sessions[0].noise_scale,
            generator,
        )

    scale = size.trials / size.some_trials
    ways = {
        "ours": (lambda: forecast(trained, counts, samples=size.samples, **asked), 1),
        "means_alone": (lambda: forecast(trained, counts, **asked), 1),
        "one_forecast": (by_trial, scale),
        "reference": (by_sample, scale * size.samples / size.some_samples),
    }
    for way in ("one_forecast", "reference"):
        ways[way][0]()
    took = [
        {name: scale * cpu_seconds(way) for name, (way, scale) in ways.items()}
        for _ in range(size.repetitions)
    ]
    return {
        **{f"{name}_s": round(median(run[name] for run in took), 3) for name in ways},
        **{
            f"{name}_ratio": round(median(run[name] / run["ours"] for run in took), 1)
            for name in ("one_forecast", "reference")
        },
        "result_mib": round(result_bytes(size, trained) / 2**20, 1),
        "peak_mib": round(peak, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small, in seconds; nothing is kept")
    torch.set_num_threads(1)
    quick = parser.parse_args().quick
    size = QUICK if quick else Size()
    figures = measure(size)
    if quick:
        print(json.dumps(figures))
    else:
        save_result("forecast", figures, seed=0, size=vars(size))


if __name__ == "__main__":
    main()
