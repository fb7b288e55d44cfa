"""What a training step minimises: which stretch of which trials, what is hidden from the encoders,
distillation or ELBO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.model.elbo import elbo, sample_posterior
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.records import TrialCounts
from metadyn.training.execution.batch import Batch, DeviceTrials, hide
from metadyn.training.execution.host_trials import HostTrials
from metadyn.training.initial.pretraining import (
    distil_loss,
    part_of_mean,
    rollout_loss,
    start_process_noise,
)

Objective = Callable[[int, torch.Generator, float | Tensor], tuple[Tensor, dict[str, Tensor]]]
LONGEST_CROP = (
    150  # bins: longer windows are seen in random stretches (recipe.md: nothing visible is lost)
)
LONGEST_TAIL = 50  # bins: a third of the longest crop


def crop_range(config: TrainingConfig, sessions: list[TrialCounts]) -> tuple[int, int]:
    """Shortest and longest crop [bins]; whole windows by default, unless they are long."""
    if config.crop_bins:
        return config.crop_bins
    longest = max(int(counts.windows.n_bins.max()) for counts in sessions)
    return (
        (longest, longest)
        if longest <= LONGEST_CROP // 2
        else (min(60, longest), min(LONGEST_CROP, longest))
    )


def tail_range(config: TrainingConfig, longest: int) -> tuple[int, int]:
    """Fewest and most bins at the end of a crop that are forecast: as many as were asked for, if
    they were.

    Else of crops that were asked for a fifth of the shortest, up to 20; by default up to two thirds
    of the longest.
    """
    if config.tail_bins is not None:
        return config.tail_bins, config.tail_bins
    if config.crop_bins:
        fixed = max(1, min(20, config.crop_bins[0] // 5))
        return fixed, fixed
    return 0, min(LONGEST_TAIL, longest - longest // 3)


def drawn_tail(
    bounds: tuple[int, int], generator: torch.Generator, device: torch.device
) -> int | Tensor:
    """How many bins a step hides at the end; where that is free, none in half of the steps (whole
    windows are what decoding sees), all others equally often. No random number is spent where it is
    not free."""
    fewest, most = bounds
    if fewest == most:
        return most
    return torch.randint(2 * fewest - most, most + 1, (), generator=generator, device=device).clamp(
        min=fewest
    )


def make_objective(
    model: MetaSSM,
    trials: DeviceTrials | HostTrials,
    config: ModelConfig,
    training: TrainingConfig,
    crops: tuple[int, int],
    static: bool,
) -> Objective:
    """objective(step, generator, KL weight) → (loss, terms), of several processes each one's part:
    distillation, then the ELBO.

    Where the objective is `static`, all steps of a stage do the same to tensors of the same shapes,
    those of the longest crop, and no value is looked at (docs/decisions/whole-step-graphs.md).
    """
    tails, processes = tail_range(training, crops[1]), trials.processes

    def objective(
        step: int, generator: torch.Generator, kl_weight: float | Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        length = torch.randint(
            crops[0], crops[1] + 1, (), generator=generator, device=trials.device
        )
        cropped = (crops[1], generator, length) if static else (int(length), generator)
        batch = trials.batch(training.trials_per_session, *cropped)
        distilling = step < training.distil_steps
        seen, targets = hide(
            batch,
            tail_bins=0 if distilling else drawn_tail(tails, generator, trials.device),
            masking=0.0 if distilling else training.masking,
            dropout=training.coordinated_dropout,
            generator=generator,
            mask_scope=training.mask_scope,
            longest_tail=tails[1] if static else None,
        )
        if distilling:
            return distil_loss(
                model, seen, batch.latents, config.pooling, generator, batch.share, processes
            ), {}
        if step == training.distil_steps and batch.latents is not None:
            for part, latents in looks(trials, batch, seen, config, training, crops[1]):
                start_process_noise(model, part, latents, config.pooling, processes)
        drawn = sample_posterior(
            model,
            seen,
            targets,
            pooling=config.pooling,
            masked=training.masked,
            generator=generator,
        )
        terms = elbo(model, drawn, seen, targets, masked_kl=training.masked_kl)
        terms = replace(
            terms,
            entries=processes.total(terms.entries),
            weight_change=part_of_mean(terms.weight_change, batch.share),
        )
        loss, told = terms.loss(kl_weight, training.weight_change_penalty), terms.per_entry()
        if not training.multi_step:
            return loss, told
        ahead = rollout_loss(
            drawn.transition, seen, drawn.sample, drawn.q_z.mean.detach(), generator, processes
        )
        return loss + training.multi_step * ahead, told | {"multi_step": ahead.detach()}

    return objective


def looks(
    trials: DeviceTrials | HostTrials,
    batch: Batch,
    seen: Observations,
    config: ModelConfig,
    training: TrainingConfig,
    crop_bins: int,
) -> Iterator[tuple[Observations, Tensor]]:
    """What process noise is started from: what the step sees of all sessions; where it sees few,
    crops of each of the others.

    Noise that all share is started from what the step sees.
    """
    if isinstance(trials, DeviceTrials) or config.shared_noise:
        yield seen, batch.latents
        return
    for each in trials.batches(training.trials_per_session, crop_bins, training.seed):
        if len(each.session):
            generator = torch.Generator(
                trials.device
            )  # of which no number is taken that counts: nothing is hidden
            yield (
                hide(each, tail_bins=0, masking=0.0, dropout=0.0, generator=generator)[0],
                each.latents,
            )
