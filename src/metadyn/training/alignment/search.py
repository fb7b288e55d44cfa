"""Where a new session lies in a trained model's latent space, and which embedding its dynamics
have: a search.

A warm start knows a session's latents x up to an affine map, z = A x + b. The dynamics stay as they
are; A, b and e are those under which rollouts from x meet the x that follow, given what the
training sessions have shown of readouts, baselines, latents and embeddings (recipe.md, "Few-shot
alignment that works"; docs/decisions/placement-search.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ortho_group
from torch import Tensor
from torch.nn.functional import huber_loss

from metadyn.errors import DataError
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.execution.loop import StepReport, reported
from metadyn.training.execution.schedules import cosine
from metadyn.training.initial.moments import SessionInit

STEPS, POINTS = 30, 64  # steps of a rollout, and rollouts an iteration
STARTS, SURVIVORS = 16, 6  # maps tried, and those that go on after the first third
ITERATIONS, LEARNING_RATE = 150, 0.03
SINGULAR = 1e-4  # variance of a readout that is taken for none: of latents that no unit shows
SHAPE_SD, OFFSET_SD, BASELINE_SD = (
    0.3,
    0.3,
    0.01,
)  # spread of one more session: of readouts, offsets (SDs of latents), baselines


@dataclass(frozen=True)
class Placement:
    """z = map @ x + offset: map (latent, latent), offset (latent,); embedding_mean, embedding_sd
    (embedding,), empty where the dynamics know none; `loss` in nats, without a constant that all
    gauges of a session share."""

    map: np.ndarray
    offset: np.ndarray
    embedding_mean: np.ndarray
    embedding_sd: np.ndarray
    loss: float


@dataclass(frozen=True)
class Prior:
    """Joint Gaussian of a session's features [e, readout shape, mean latent], and Gaussian of a
    unit's baseline D.

    mean (feature,), covariance (feature, feature).
    """

    mean: np.ndarray
    covariance: np.ndarray
    embedding_dim: int
    latent_dim: int
    baseline_mean: float
    baseline_var: float


def sound(factor: Tensor, failed: Tensor) -> Tensor:
    """A factorisation (candidate, …), NaN where it failed: a candidate that is no map any more does
    not end the search."""
    return factor.masked_fill(failed[..., None, None] > 0, torch.nan)


def readout_shape(weight: Tensor) -> Tensor:
    """Scale and shape of readouts (…, unit, latent), whichever way they are turned among units: log
    diagonal and scaled lower entries of the Cholesky factor of CᵀC per unit, (…, latent (latent +
    1) / 2)."""
    gram = weight.mT @ weight / weight.shape[-2]
    factor = sound(
        *torch.linalg.cholesky_ex(gram + SINGULAR * torch.eye(gram.shape[-1], device=gram.device))
    )
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    row, column = torch.tril_indices(weight.shape[-1], weight.shape[-1], -1)
    return torch.cat([diagonal.log(), factor[..., row, column] / diagonal[..., column]], -1)


def factor_of(shape: np.ndarray, dim: int) -> np.ndarray:
    """The Cholesky factor (latent, latent) of a `readout_shape`."""
    diagonal = np.exp(shape[:dim])
    factor = np.diag(diagonal)
    row, column = np.tril_indices(dim, -1)
    factor[row, column] = shape[dim:] * diagonal[column]
    return factor


def learn_prior(trained: TrainedModel, n_trials: int) -> Prior:
    """What the training sessions lead to expect of a session with that many trials."""
    frame, readouts, dim = (
        trained.shared_latents,
        trained.module.likelihood,
        trained.config.latent_dim,
    )
    sizes = [entry.n_units for entry in trained.sessions]
    shapes = np.array(
        [
            readout_shape(readouts.weight[row, :size].detach().cpu()).numpy()
            for row, size in enumerate(sizes)
        ]
    )
    known = trained.sessions[: len(frame.centers)]
    width = trained.config.embedding_dim if trained.module.dynamics.embedded else 0
    embeddings = np.array([entry.embedding_mean for entry in known]).reshape(len(known), -1)[
        :, :width
    ]
    features = np.concatenate([embeddings, shapes[: len(known)], frame.centers], 1)
    unseen = np.concatenate([np.zeros(width), shapes.mean(0), np.zeros(dim)])
    spread = np.concatenate(
        [np.ones(width), np.full(shapes.shape[1], SHAPE_SD), OFFSET_SD * frame.latent_sd]
    )
    mean, covariance = with_one_more(features, unseen, spread)
    covariance[-dim:, -dim:] += frame.trial_spread / n_trials
    baselines = np.concatenate(
        [readouts.bias[row, :size].numpy(force=True) for row, size in enumerate(sizes)]
    )
    return Prior(
        mean,
        covariance,
        width,
        dim,
        float(baselines.mean()),
        float(baselines.var() + BASELINE_SD**2),
    )


def with_one_more(
    features: np.ndarray, mean: np.ndarray, sd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance over sessions (session, feature), as if one more had been seen there,
    with that spread.

    Correlations count for less the fewer sessions there are to tell them.
    """
    sessions, size = features.shape
    average = (features.sum(0) + mean) / (sessions + 1)
    deviation = features - average
    scatter = deviation.T @ deviation
    trust = sessions / (sessions + size)
    scatter = trust * scatter + (1 - trust) * np.diag(np.diag(scatter))
    return average, (scatter + np.diag(sd**2)) / (sessions + 1)


def orthogonal_maps(dim: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Turns and mirror images, (count, dim, dim): evenly round the circle in a plane, else at
    random."""
    if dim != 2:
        return np.array(ortho_group.rvs(dim, size=count, random_state=rng)).reshape(count, dim, dim)
    angle = 2 * np.pi * np.arange(count // 2) / (count // 2)
    turns = np.stack(
        [
            np.stack([np.cos(angle), -np.sin(angle)], -1),
            np.stack([np.sin(angle), np.cos(angle)], -1),
        ],
        1,
    )
    return np.concatenate([turns, turns * [1.0, -1.0]])


@dataclass(frozen=True)
class Search:
    """One session's search: its latents x (trial, time, latent), where they are observed, its
    readout C x + D, the prior.

    `pull` (latent,): the part of the session's mean in x that belongs to its latents, not to its
    baselines.
    """

    trained: TrainedModel
    x: Tensor
    observed: Tensor
    weight: Tensor
    bias: Tensor
    prior: Prior
    pull: Tensor
    steps: int

    @staticmethod
    def of(trained: TrainedModel, start: SessionInit, counts: TrialCounts) -> Search:
        if counts.windows.n_bins.max() < 2:
            raise DataError(
                "dynamics cannot be seen in windows of one bin",
                item=counts.session,
                remedy="longer windows: `n_bins`",
            )
        device = trained.module.log_q.device
        prior = learn_prior(trained, counts.n_trials)
        steps = max(1, min(STEPS, int(np.median(counts.windows.n_bins)) // 2))

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32, device=device)

        parts = (
            tensor(start.latents),
            torch.as_tensor(counts.observed, device=device),
            tensor(start.weight),
            tensor(start.bias),
        )
        return Search(trained, *parts, prior, tensor(pull_of(start, prior)), steps)

    def rollouts(self, count: int | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where rollouts start (trial, bin): at random, or (None) every quarter of a rollout."""
        n_trials, n_bins = self.x.shape[:2]
        last = n_bins - self.steps
        if count is not None:
            pick = [
                torch.randint(bound, (count,), generator=generator, device=generator.device)
                for bound in (n_trials, last)
            ]
            return pick[0], pick[1]
        bins = torch.arange(0, last, max(1, self.steps // 4), device=self.x.device)
        return torch.arange(n_trials, device=self.x.device).repeat_interleave(
            len(bins)
        ), bins.repeat(n_trials)

    def offset(self, maps: Tensor, shift: Tensor) -> Tensor:
        """b of z = A x + b, (candidate, latent)."""
        return shift + maps @ self.pull

    def errors(
        self, maps: Tensor, shift: Tensor, embedding: Tensor, where: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Mean Huber distance of rollouts after each number of steps, in x: (step, candidate,
        latent)."""
        trial, first = where
        back, offset = sound(*torch.linalg.inv_ex(maps)).mT, self.offset(maps, shift)[:, None]
        module = self.trained.module
        transition = module.dynamics(embedding[:, None], module.log_q[:1].expand(len(maps), -1))
        reached = first + torch.arange(1, self.steps + 1, device=first.device)[:, None]
        # Bins of all windows end to end, (step, candidate, 1, rollout)
        bins = (trial * self.x.shape[1] + reached)[:, None, None].expand(-1, len(maps), -1, -1)
        state = self.x[trial, first] @ maps.mT + offset  # (candidate, rollout, latent)
        path = []
        for step in range(self.steps):
            state = transition.mean(state[:, None], bins[step])[:, 0]
            path.append(state)
        both = (self.observed[trial, first] & self.observed[trial, reached]).float()[
            :, None, :, None
        ]
        found = (torch.stack(path) - offset) @ back
        error = huber_loss(
            found, self.x[trial, reached][:, None].expand_as(found), reduction="none"
        )
        return (error * both).sum(2) / both.sum(2).clamp(min=1)

    def loss(
        self, maps: Tensor, shift: Tensor, embedding: Tensor, where: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Negative log posterior (candidate,): errors of rollouts, of unknown size and as many as
        fit into the data, and the prior of embedding, readout, mean latent and baseline."""
        independent = self.observed.sum() * self.x.shape[-1] / self.steps
        misfit = (
            0.5
            * independent
            * (self.errors(maps, shift, embedding, where).mean((0, -1)) + 1e-8).log()
        )
        readout = self.weight @ sound(*torch.linalg.inv_ex(maps))
        offset = self.offset(maps, shift)
        features = torch.cat(
            [embedding[:, : self.prior.embedding_dim], readout_shape(readout), offset], -1
        )
        deviation = features - features.new_tensor(self.prior.mean)
        precision = features.new_tensor(np.linalg.inv(self.prior.covariance))
        unlike = 0.5 * ((deviation @ precision) * deviation).sum(-1)
        plane, _ = torch.linalg.qr(self.weight)
        baseline = self.bias - self.prior.baseline_mean - (readout @ offset[..., None])[..., 0]
        return misfit + unlike + 0.5 * ((baseline @ plane) ** 2).sum(-1) / self.prior.baseline_var


def pull_of(start: SessionInit, prior: Prior) -> np.ndarray:
    """How much of the session's mean belongs to its latents: all where baselines hardly differ,
    none where they differ much.

    In one trial the mean says where the trial was; taking it for the baseline would lose that.
    """
    plane = np.linalg.lstsq(start.weight, start.bias - prior.baseline_mean, rcond=None)[0]
    factor = factor_of(prior.mean[prior.embedding_dim : -prior.latent_dim], prior.latent_dim)
    of_latents = np.diag(prior.covariance)[-prior.latent_dim :].mean()
    of_baselines = (
        prior.baseline_var
        * np.trace(np.linalg.inv(factor @ factor.T))
        / len(start.weight)
        / prior.latent_dim
    )
    return plane * of_latents / (of_latents + of_baselines)


def candidates(search: Search, start: SessionInit, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (candidate, latent, latent) that give the readout its usual shape, turned all ways;
    shifts; embeddings."""
    rng, prior = np.random.default_rng(seed), search.prior
    usual = factor_of(prior.mean[prior.embedding_dim : -prior.latent_dim], prior.latent_dim)
    own = np.linalg.cholesky(
        start.weight.T @ start.weight / len(start.weight) + SINGULAR * np.eye(prior.latent_dim)
    )
    maps = np.linalg.inv(usual.T) @ orthogonal_maps(prior.latent_dim, STARTS, rng) @ own.T
    drawn = rng.multivariate_normal(prior.mean, prior.covariance, len(maps))
    embeddings = np.zeros((len(maps), search.trained.config.embedding_dim))
    embeddings[:, : prior.embedding_dim] = drawn[:, : prior.embedding_dim]
    shifts = np.tile(prior.mean[-prior.latent_dim :], (len(maps), 1))
    return tuple(
        torch.as_tensor(part, dtype=torch.float32, device=search.x.device)
        for part in (maps, shifts, embeddings)
    )


def descend(
    search: Search,
    parts: tuple[Tensor, ...],
    iterations: int,
    generator: torch.Generator,
    report: Callable[[StepReport], None],
) -> tuple[Tensor, ...]:
    """The candidates after Adam steps on random rollouts, each on its own loss."""
    parts = tuple(part.detach().clone().requires_grad_() for part in parts)
    optimiser = torch.optim.Adam(parts, lr=LEARNING_RATE)
    for iteration in reported(range(iterations), "search", report):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 + cosine(iteration, iterations)) / 2
        loss = search.loss(*parts, search.rollouts(POINTS, generator))
        gradients = torch.autograd.grad(
            loss.sum(), parts, allow_unused=True, materialize_grads=True
        )
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        optimiser.step()
    return tuple(part.detach() for part in parts)


def ranked(
    search: Search, parts: tuple[Tensor, ...], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Losses over all rollouts and the order from the best; a candidate that is no map any more is
    last."""
    where = search.rollouts(None, generator)
    with torch.no_grad():  # one by one: all paths are held at a time
        loss = torch.cat(
            [
                search.loss(*[part[row : row + 1] for part in parts], where)
                for row in range(len(parts[0]))
            ]
        )
    loss = loss.nan_to_num(torch.inf, torch.inf, torch.inf)
    return loss, loss.argsort()


def find_placement(
    trained: TrainedModel,
    start: SessionInit,
    counts: TrialCounts,
    seed: int = 0,
    report: Callable[[StepReport], None] = lambda _: None,
) -> Placement:
    """The most probable map and embedding of a session, and how sure the embedding is.

    start: the session's warm start, of which latents (trial, time, latent), weight and bias are
    used. The dynamics are not changed. The SD of the embedding is Laplace's at the best candidate,
    and what the candidates differ by beside it.
    """
    search = Search.of(trained, start, counts)
    generator = torch.Generator(search.x.device).manual_seed(seed)
    parts = descend(search, candidates(search, start, seed), ITERATIONS // 3, generator, report)
    _, order = ranked(search, parts, generator)
    survivors = tuple(part[order[:SURVIVORS]] for part in parts)
    parts = descend(search, survivors, ITERATIONS - ITERATIONS // 3, generator, report)
    loss, order = ranked(search, parts, generator)
    best = tuple(part[order[0]] for part in parts)
    width = search.prior.embedding_dim
    probability = (loss.min() - loss).softmax(0)
    mean = best[2][:width]
    between = (probability[:, None] * (parts[2][:, :width] - mean) ** 2).sum(0)
    variance = between + laplace_variance(search, best)[:width] if width else between
    maps, offset = best[0], search.offset(best[0], best[1])
    return Placement(
        *(each.numpy(force=True) for each in (maps, offset, mean, variance.sqrt())),
        float(loss.min()),
    )


def laplace_variance(search: Search, best: tuple[Tensor, ...]) -> Tensor:
    """Variance of the embedding (embedding,) from the curvature of the loss in map, shift and
    embedding together."""
    sizes = [part.numel() for part in best]
    where = search.rollouts(None, torch.Generator(search.x.device))

    def loss(flat: Tensor) -> Tensor:
        parts = [
            part.view_as(like)[None] for part, like in zip(flat.split(sizes), best, strict=True)
        ]
        return search.loss(*parts, where)[0]

    curvature = torch.autograd.functional.hessian(
        loss, torch.cat([part.flatten() for part in best])
    )
    values, vectors = torch.linalg.eigh(curvature.double())
    return ((vectors**2) @ (1 / values.clamp(min=1.0)))[-sizes[-1] :].float()
