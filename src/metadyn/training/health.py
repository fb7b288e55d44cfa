"""Two ways in which training can go wrong without any number being wrong, said plainly while it
happens (recipe.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.batch import DeviceTrials, hide
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.execution.loop import StepReport

FLAT_BITS = 0.005  # bits per spike: below, rates say no more than the unit's mean
GRACE = 0.25  # share of the ELBO steps before anything is said
COLLAPSED = (
    "the embedding tells no session from another (its SD between sessions is not above that within): "
    "try a smaller training.process_noise, or --conditioning shared if the sessions should not differ"
)
FLAT = (
    "predicted rates hardly vary (both scores below 0.005 bits per spike): "
    "try a wider training.smoothing_bins, a lower training.learning_rate, or wider bins"
)


def is_collapsed(between, within) -> bool:
    """Whether no dimension's SD between sessions is above that within a session: (embedding,)
    each."""
    return bool((between <= within).all())


@torch.no_grad()
def embedding_spread(
    model: MetaSSM, trials: DeviceTrials | HostTrials, training: TrainingConfig, crop_bins: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """SD between sessions of the mean of q(e), and within a session over its trials: (embedding,)
    each."""
    generator = SessionGenerator(trials.device).manual_seed(training.seed)
    batch = trials.batch(
        min(training.trials_per_session, int(trials.processes.least(trials.n_trials))),
        crop_bins,
        generator,
    )
    seen, _ = hide(batch, tail_bins=0, masking=0.0, dropout=0.0, generator=generator)
    mean = model.embedding(model.features(seen), seen.length).mean
    center = mean.mean(1)
    spread = ((mean - center[:, None]) ** 2).mean(1)
    centers, within = (
        trials.processes.placed(each, batch.here, batch.among) for each in (center, spread)
    )
    return centers.std(0), within.mean(0).sqrt()


def warning_reporter(
    report: Callable[[StepReport], None],
    model: MetaSSM,
    trials: DeviceTrials | HostTrials,
    config: ModelConfig,
    training: TrainingConfig,
    crop_bins: int,
) -> Callable[[StepReport], None]:
    """`report`, with a message where the embedding or the rates have collapsed, once each a run."""
    several = min(trials.among, training.sessions_per_step or trials.among) > 1
    left = {COLLAPSED} if model.dynamics.embedded and several else set()
    left |= {FLAT} if model.likelihood.of_counts else set()

    def found(scores: dict[str, float]) -> list[str]:
        messages = []
        if COLLAPSED in left:
            messages += [COLLAPSED] * is_collapsed(
                *embedding_spread(model, trials, training, crop_bins)
            )
        return messages + [FLAT] * (FLAT in left and max(scores.values()) < FLAT_BITS)

    def reporter(step: StepReport) -> None:
        due = (
            step.validation is not None
            and step.step >= training.distil_steps + GRACE * training.steps
        )
        messages = found(step.validation) if due and left and step.stage == "elbo" else []
        left.difference_update(messages)
        report(replace(step, message="; ".join(messages)) if messages else step)

    return reporter
