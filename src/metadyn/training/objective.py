"""The losses of a training step, of random crops of random trials.

Pre-training: the distance of encoder and dynamics to the smoothed latents of the warm start.
Then: −ELBO per scored entry (Vermani et al., arXiv:2410.05454, eq. 15), with part of each crop
hidden from the encoders (App. D.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.model.elbo import PosteriorSample, elbo, sample_posterior
from metadyn.model.meta_ssm import MetaSSM, Observations
from metadyn.records import TrialCounts
from metadyn.training.execution.batch import Batch, hide
from metadyn.training.execution.step import Metrics
from metadyn.training.execution.trials import SessionTrials
from metadyn.training.initial.pretraining import (
    part_of_mean,
    pretrain_loss,
    raise_process_noise,
    rollout_loss,
)

# bins: of longer windows a random part is seen at a time
LONGEST_CROP = 150
# bins: a third of the longest crop
LONGEST_TAIL = 50


def crop_range(config: TrainingConfig, sessions: list[TrialCounts]) -> tuple[int, int]:
    """Shortest and longest crop [bins]; by default whole windows, unless they are long."""
    if config.crop_bins:
        return config.crop_bins
    longest = max(int(counts.windows.n_bins.max()) for counts in sessions)
    if longest <= LONGEST_CROP // 2:
        return longest, longest
    return min(60, longest), min(LONGEST_CROP, longest)


def tail_range(config: TrainingConfig, longest: int) -> tuple[int, int]:
    """Fewest and most bins at the end of a crop that are forecast.

    The number that was set, if any. Else, of crops whose length was set, a fifth of the shortest,
    up to 20; by default none up to two thirds of the longest crop.
    """
    if config.tail_bins is not None:
        return config.tail_bins, config.tail_bins
    if config.crop_bins:
        fixed = max(1, min(20, config.crop_bins[0] // 5))
        return fixed, fixed
    return 0, min(LONGEST_TAIL, longest - longest // 3)


def draw_tail(
    bounds: tuple[int, int], generator: torch.Generator, device: torch.device
) -> int | Int[Tensor, ""]:
    """How many bins of a step are hidden at the end of each crop.

    In half of the steps the fewest (none by default, as decoding sees whole windows), all other
    numbers equally often. Where the number is fixed, no random number is used.
    """
    fewest, most = bounds
    if fewest == most:
        return most
    lowest = 2 * fewest - most  # as many numbers below `fewest` as above it
    tail = torch.randint(lowest, most + 1, (), generator=generator, device=device)
    return tail.clamp(min=fewest)


@dataclass(frozen=True)
class Objectives:
    """The losses of pre-training and of the ELBO, of random batches of the trials that train.

    Of several processes each has the part of its own sessions; the parts add up to the loss.

    model: of the sessions of this process.
    trials: those that train.
    crops: shortest and longest crop [bins].
    static: all steps of a stage do the same operations on tensors of the same shapes, those of the
        longest crop, and no value is read (docs/decisions/whole-step-graphs.md).
    """

    model: MetaSSM
    trials: SessionTrials
    config: ModelConfig
    training: TrainingConfig
    crops: tuple[int, int]
    static: bool = False

    def pretraining_loss(
        self, step: int, generator: torch.Generator, kl_weight: float | Tensor
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """The loss of pre-training, on crops of which entries alone are hidden.

        step, kl_weight: not used, as the loss is the same at every step of the stage.
        """
        batch = self.draw_batch(generator)
        seen, _ = hide(
            batch,
            tail_bins=0,
            masking=0.0,
            dropout=self.training.coordinated_dropout,
            generator=generator,
            mask_scope=self.training.mask_scope,
        )
        loss = pretrain_loss(
            self.model,
            seen,
            batch.warm_start(),
            self.config.pooling,
            generator,
            batch.share,
            self.trials.processes,
        )
        return loss, {}

    def negative_elbo(
        self, step: int, generator: torch.Generator, kl_weight: float | Tensor
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """−ELBO per scored entry with its penalties, and the terms of the ELBO.

        step: of the stage; before the first (0) process noise is set by the latents of the warm
            start, if there is one.
        generator: the random numbers of the step.
        kl_weight: of the KL terms.
        """
        training = self.training
        processes = self.trials.processes
        batch = self.draw_batch(generator)
        tails = tail_range(training, self.crops[1])
        seen, targets = hide(
            batch,
            tail_bins=draw_tail(tails, generator, self.trials.device),
            masking=training.masking,
            dropout=training.coordinated_dropout,
            generator=generator,
            mask_scope=training.mask_scope,
            longest_tail=tails[1] if self.static else None,
        )
        if step == 0 and batch.latents is not None:
            self.set_process_noise(batch, seen)
        sampled = sample_posterior(
            self.model,
            seen,
            targets,
            pooling=self.config.pooling,
            masked=training.masked,
            generator=generator,
        )
        terms = elbo(self.model, sampled, seen, targets, masked_kl=training.masked_kl)
        # Sums are of this process's sessions, entries of all: the processes' losses add up
        terms = replace(
            terms,
            entries=processes.total(terms.entries),
            weight_change=part_of_mean(terms.weight_change, batch.share),
        )
        loss = terms.loss(kl_weight, training.weight_change_penalty)
        if not training.multi_step:
            return loss, terms.per_entry()
        ahead = self.multi_step_loss(sampled, seen, generator)
        metrics = terms.per_entry() | {"multi_step": ahead.detach()}
        return loss + training.multi_step * ahead, metrics

    def draw_batch(self, generator: torch.Generator) -> Batch:
        """Random trials, all cropped to one random number of bins."""
        shortest, longest = self.crops
        device = self.trials.device
        length = torch.randint(shortest, longest + 1, (), generator=generator, device=device)
        trials = self.training.trials_per_session
        if self.static:
            return self.trials.batch(trials, longest, generator, length)
        return self.trials.batch(trials, int(length), generator)

    def multi_step_loss(
        self, sampled: PosteriorSample, seen: Observations, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """The distance of rollouts from sampled states to the encoder's means, which it does not
        move."""
        targets = sampled.q_z.mean.detach()
        return rollout_loss(
            sampled.transition, seen, sampled.sample, targets, generator, self.trials.processes
        )

    def set_process_noise(self, batch: Batch, seen: Observations) -> None:
        """Set the process noise of all sessions by the latents of the warm start."""
        for part, latents in self.noise_batches(batch, seen):
            raise_process_noise(
                self.model, part, latents, self.config.pooling, self.trials.processes
            )

    def noise_batches(
        self, batch: Batch, seen: Observations
    ) -> Iterator[tuple[Observations, Float[Tensor, "session trial time latent"]]]:
        """What process noise is set by: observations and latents of the warm start.

        The step's own batch, if it has all sessions or if they share the noise; else crops of each.
        """
        if self.trials.complete or self.config.shared_noise:
            yield seen, batch.warm_start()
            return
        training = self.training
        batches = self.trials.batches(training.trials_per_session, self.crops[1], training.seed)
        for each in batches:
            if not len(each.session):  # a process that has none of these sessions
                continue
            # Nothing is hidden, so the random numbers of this generator have no effect
            generator = torch.Generator(self.trials.device)
            whole, _ = hide(each, tail_bins=0, masking=0.0, dropout=0.0, generator=generator)
            yield whole, each.warm_start()
