"""Two ways in which training fails without any number being invalid, reported while it happens: the
embedding collapses, or predicted rates stay flat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metadyn.config import TrainingConfig
from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.random import SessionGenerator
from metadyn.training.execution.batch import hide
from metadyn.training.execution.loop import Reporter, StepReport
from metadyn.training.execution.step import EVIDENCE
from metadyn.training.execution.trials import SessionTrials

# bits per spike: below, rates say no more than the unit's mean
FLAT_BITS = 0.005
# Share of the ELBO steps before anything is reported
GRACE = 0.25
COLLAPSED_EMBEDDING = (
    "the embedding tells no session from another "
    "(its SD between sessions is not above that within): try a smaller `process_noise`, "
    "or `conditioning='shared'` if the sessions should not differ"
)
FLAT_RATES = (
    "predicted rates hardly vary (both scores below 0.005 bits per spike): try a wider "
    "training.smoothing_bins, a lower training.learning_rate, or wider bins"
)


def is_collapsed(
    between: Float[Tensor, " embedding"] | np.ndarray,
    within: Float[Tensor, " embedding"] | np.ndarray,
) -> bool:
    """Whether no dimension's SD between sessions is above that within a session.

    >>> is_collapsed(np.array([0.5, 0.1]), np.array([0.2, 0.2]))
    False
    """
    return bool((between <= within).all())


@torch.no_grad()
def embedding_spread(
    model: MetaSSM, trials: SessionTrials, training: TrainingConfig, crop_bins: int
) -> tuple[Float[Tensor, " embedding"], Float[Tensor, " embedding"]]:
    """SD of the mean of q(e) between sessions, and within a session over its trials.

    Of one batch of random trials, the same at every call; of several processes, of all sessions.
    """
    generator = SessionGenerator(trials.device).manual_seed(training.seed)
    most = int(trials.processes.least(trials.n_trials))  # trials that every session has
    batch = trials.batch(min(training.trials_per_session, most), crop_bins, generator)
    seen, _ = hide(batch, tail_bins=0, masking=0.0, dropout=0.0, generator=generator)
    mean = model.embedding(model.features(seen), seen.length).mean  # (session, trial, embedding)
    center = mean.mean(1)  # (session, embedding)
    variance = ((mean - center[:, None]) ** 2).mean(1)
    centers, variances = (
        trials.processes.placed(each, batch.here, batch.among) for each in (center, variance)
    )
    return centers.std(0), variances.mean(0).sqrt()


def warning_reporter(
    report: Reporter,
    model: MetaSSM,
    trials: SessionTrials,
    training: TrainingConfig,
    crop_bins: int,
) -> Reporter:
    """`report`, with a message where the embedding collapses or rates are flat, each once a run.

    Validations are checked after a quarter of the steps on the ELBO: the embedding where dynamics
    depend on it and a step takes several sessions, rates where observations are counts.

    model, trials: those of the run, the trials that train.
    crop_bins: the longest crop.
    """
    checks: dict[str, Callable[[dict[str, float]], bool]] = {}
    several = min(trials.among, training.sessions_per_step or trials.among) > 1
    if model.dynamics.embedded and several:
        checks[COLLAPSED_EMBEDDING] = lambda scores: is_collapsed(
            *embedding_spread(model, trials, training, crop_bins)
        )
    if model.likelihood.of_counts:
        checks[FLAT_RATES] = lambda scores: max(scores.values()) < FLAT_BITS

    def reporter(step: StepReport) -> None:
        messages = []
        # The last stage is the ELBO's, so steps are counted from the end
        late = step.steps - step.step <= (1 - GRACE) * training.steps
        if step.validation is not None and step.stage == EVIDENCE and late:
            messages = [each for each, fails in checks.items() if fails(step.validation)]
        for each in messages:
            del checks[each]
        report(replace(step, message="; ".join(messages)) if messages else step)

    return reporter
