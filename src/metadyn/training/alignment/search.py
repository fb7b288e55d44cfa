"""The log posterior of where a new session lies in a trained model's latent space.

First weights know a session's latents x (latent,) up to an affine map z = A x + b. The dynamics f
stay as they are; A, b and the embedding e minimise −log p(A, b, e | x) = ½ n log E + ½ |f − μ|²_Σ +
½ |P (D − C A⁻¹ b − d)|² / σ²: E the mean Huber distance of rollouts of f from x to the x that
follow, n the number of independent ones; features f with prior N(μ, Σ) (module `prior`); baselines
N(d, σ²), of which P is the part that b can change. docs/decisions/placement-search.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import huber_loss

from metadyn.errors import DataError
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.prior import Prior, learn_prior, nan_where_failed, readout_shape
from metadyn.training.initial.session_init import SessionInit

MAX_STEPS = 30  # of a rollout

Maps = Float[Tensor, "candidate latent latent"]
Shifts = Float[Tensor, "candidate latent"]
Embeddings = Float[Tensor, "candidate embedding"]
# First bins of rollouts: trial and bin, each (rollout,)
Origins = tuple[Int[Tensor, " rollout"], Int[Tensor, " rollout"]]


@dataclass(frozen=True)
class Search:
    """One session's posterior as a function of candidates (map A, shift, embedding e).

    The offset of a candidate is b = shift + A · latent_mean.

    x : the session's latents before the map.
    weight, bias : its readout C and D for these.
    latent_mean : the part of the session's mean that belongs to its latents, not to its baselines.
    steps : of a rollout.
    """

    trained: TrainedModel
    x: Float[Tensor, "trial time latent"]
    observed: Bool[Tensor, "trial time"]
    weight: Float[Tensor, "unit latent"]
    bias: Float[Tensor, " unit"]
    prior: Prior
    latent_mean: Float[Tensor, " latent"]
    steps: int

    @staticmethod
    def of(trained: TrainedModel, init: SessionInit, counts: TrialCounts) -> Search:
        """The search for a session with these first weights.

        Raises DataError where no window has two bins.
        """
        if counts.windows.n_bins.max() < 2:
            raise DataError(
                "dynamics cannot be seen in windows of one bin",
                item=counts.session,
                remedy="longer windows: `n_bins`",
            )
        device = trained.module.log_q.device
        prior = learn_prior(trained, counts.n_trials)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32, device=device)

        return Search(
            trained=trained,
            x=tensor(init.latents),
            observed=torch.as_tensor(counts.observed, device=device),
            weight=tensor(init.weight),
            bias=tensor(init.bias),
            prior=prior,
            latent_mean=tensor(latent_part_of_mean(init, prior)),
            steps=max(1, min(MAX_STEPS, int(np.median(counts.windows.n_bins)) // 2)),
        )

    def random_origins(self, count: int, generator: torch.Generator) -> Origins:
        """Where `count` rollouts start, at random."""
        n_trials, n_bins = self.x.shape[:2]
        device = generator.device
        trial = torch.randint(n_trials, (count,), generator=generator, device=device)
        first = torch.randint(n_bins - self.steps, (count,), generator=generator, device=device)
        return trial, first

    def all_origins(self) -> Origins:
        """Where rollouts start, every quarter of a rollout in each trial."""
        n_trials, n_bins = self.x.shape[:2]
        device = self.x.device
        bins = torch.arange(0, n_bins - self.steps, max(1, self.steps // 4), device=device)
        trials = torch.arange(n_trials, device=device)
        return trials.repeat_interleave(len(bins)), bins.repeat(n_trials)

    def offset(
        self,
        maps: Float[Tensor, "*candidate latent latent"],
        shift: Float[Tensor, "*candidate latent"],
    ) -> Float[Tensor, "*candidate latent"]:
        """b of z = A x + b, of one candidate or several."""
        return shift + maps @ self.latent_mean

    def errors(
        self, maps: Maps, shift: Shifts, embedding: Embeddings, origins: Origins
    ) -> Float[Tensor, "step candidate latent"]:
        """Mean Huber distance, in x, of rollouts from the latents that follow, after each step."""
        trial, first = origins
        inverse = nan_where_failed(*torch.linalg.inv_ex(maps)).mT
        offset = self.offset(maps, shift)[:, None]
        following = torch.arange(1, self.steps + 1, device=first.device)[:, None]
        reached = first + following  # (step, rollout)
        states = self.roll_out(maps, offset, embedding, origins, reached)
        found = (states - offset) @ inverse  # in x: (step, candidate, rollout, latent)
        target = self.x[trial, reached][:, None].expand_as(found)
        both = self.observed[trial, first] & self.observed[trial, reached]
        counted = both.float()[:, None, :, None]  # (step, 1, rollout, 1)
        error = huber_loss(found, target, reduction="none")
        return (error * counted).sum(2) / counted.sum(2).clamp(min=1)

    def roll_out(
        self,
        maps: Maps,
        offset: Float[Tensor, "candidate 1 latent"],
        embedding: Embeddings,
        origins: Origins,
        reached: Int[Tensor, "step rollout"],
    ) -> Float[Tensor, "step candidate rollout latent"]:
        """States that the mean dynamics reach from the origins; `reached` are their bins."""
        trial, first = origins
        module = self.trained.module
        log_q = module.log_q[:1].expand(len(maps), -1)
        transition = module.dynamics(embedding[:, None], log_q)
        # Bins of all windows end to end, (step, candidate, 1, rollout)
        bins = (trial * self.x.shape[1] + reached)[:, None, None].expand(-1, len(maps), -1, -1)
        state = self.x[trial, first] @ maps.mT + offset  # (candidate, rollout, latent)
        path = []
        for step in range(self.steps):
            state = transition.mean(state[:, None], bins[step])[:, 0]
            path.append(state)
        return torch.stack(path)

    def loss(
        self, maps: Maps, shift: Shifts, embedding: Embeddings, origins: Origins
    ) -> Float[Tensor, " candidate"]:
        """Negative log posterior, without a constant that all candidates share.

        The size of rollouts' errors is not known, hence their logarithm; as many are independent as
        fit end to end into the data.
        """
        independent = self.observed.sum() * self.x.shape[-1] / self.steps
        error = self.errors(maps, shift, embedding, origins).mean((0, -1))
        misfit = 0.5 * independent * (error + 1e-8).log()
        readout = self.weight @ nan_where_failed(*torch.linalg.inv_ex(maps))
        offset = self.offset(maps, shift)
        unlike = self.unlikeness(readout, offset, embedding)
        plane, _ = torch.linalg.qr(self.weight)  # directions among units that b can change
        baseline = self.bias - self.prior.baseline_mean - (readout @ offset[..., None])[..., 0]
        return misfit + unlike + 0.5 * ((baseline @ plane) ** 2).sum(-1) / self.prior.baseline_var

    def unlikeness(
        self,
        readout: Float[Tensor, "candidate unit latent"],
        offset: Shifts,
        embedding: Embeddings,
    ) -> Float[Tensor, " candidate"]:
        """½ |f − μ|² in units of Σ, for each candidate's features f."""
        known = embedding[:, : self.prior.embedding_dim]
        features = torch.cat([known, readout_shape(readout), offset], -1)
        deviation = features - features.new_tensor(self.prior.mean)
        precision = features.new_tensor(np.linalg.inv(self.prior.covariance))
        return 0.5 * ((deviation @ precision) * deviation).sum(-1)


def latent_part_of_mean(init: SessionInit, prior: Prior) -> Float[np.ndarray, " latent"]:
    """How much of the session's mean belongs to its latents.

    All of it where baselines hardly differ, none where they differ much. In one trial the mean says
    where the trial was; taking it for the baseline would lose that.
    """
    plane = np.linalg.lstsq(init.weight, init.bias - prior.baseline_mean, rcond=None)[0]
    factor = prior.usual_factor()
    of_latents = np.diag(prior.covariance)[-prior.latent_dim :].mean()
    # Variance of a latent that is read from baselines alone
    inverse = np.trace(np.linalg.inv(factor @ factor.T))
    of_baselines = prior.baseline_var * inverse / len(init.weight) / prior.latent_dim
    return plane * of_latents / (of_latents + of_baselines)
