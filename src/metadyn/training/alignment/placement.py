"""The most probable place of a new session in a trained model's latent space, found by a search.

Many candidates (A, b, e) descend the negative log posterior of `Search` by Adam (Kingma and Ba,
2015); the best third of the way go on, and the best of these is taken. The width of q(e) is
Laplace's approximation, Σ = H⁻¹ with H the Hessian at the best (MacKay, Information Theory,
Inference, and Learning Algorithms, 2003, ch. 27), plus the spread among candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import ortho_group
from torch import Tensor

from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.prior import SINGULAR
from metadyn.training.alignment.search import Search
from metadyn.training.execution.loop import Reporter, reported, silent
from metadyn.training.execution.schedules import cosine
from metadyn.training.initial.session_init import SessionInit

N_CANDIDATES = 16  # maps tried
N_SURVIVORS = 6  # those that go on after the first third
N_ROLLOUTS = 64  # an iteration
ITERATIONS = 150
LEARNING_RATE = 0.03


@dataclass(frozen=True)
class Placement:
    """Where a session lies: z = map @ x + offset, x the latents of its first weights.

    embedding_mean, embedding_sd : q(e); empty where the dynamics have no embedding.
    loss : in nats, without a constant that all placements of a session share.
    """

    map: Float[np.ndarray, "latent latent"]
    offset: Float[np.ndarray, " latent"]
    embedding_mean: Float[np.ndarray, " embedding"]
    embedding_sd: Float[np.ndarray, " embedding"]
    loss: float


class Candidates(NamedTuple):
    """Candidates of a search: maps A, shifts (`Search.offset`) and embeddings e."""

    maps: Float[Tensor, "candidate latent latent"]
    shifts: Float[Tensor, "candidate latent"]
    embeddings: Float[Tensor, "candidate embedding"]

    def select(self, rows: Tensor | slice) -> Candidates:
        """Those of the given rows."""
        return Candidates(*[part[rows] for part in self])


def find_placement(
    trained: TrainedModel,
    init: SessionInit,
    counts: TrialCounts,
    seed: int = 0,
    report: Reporter = silent,
) -> Placement:
    """The most probable map and embedding of a session, and the SD of the embedding.

    init: its first weights, of which latents and readout are used.
    """
    search = Search.of(trained, init, counts)
    generator = torch.Generator(search.x.device).manual_seed(seed)
    third = ITERATIONS // 3
    first = first_candidates(search, init, seed)
    tried = optimise_candidates(search, first, third, generator, report)
    _, order = rank(search, tried)
    survivors = tried.select(order[:N_SURVIVORS])
    final = optimise_candidates(search, survivors, ITERATIONS - third, generator, report)
    loss, order = rank(search, final)
    best = final.select(order[:1])
    mean, sd = embedding_posterior(search, final, best, loss)
    return Placement(
        map=best.maps[0].numpy(force=True),
        offset=search.offset(best.maps[0], best.shifts[0]).numpy(force=True),
        embedding_mean=mean.numpy(force=True),
        embedding_sd=sd.numpy(force=True),
        loss=float(loss.min()),
    )


def first_candidates(search: Search, init: SessionInit, seed: int) -> Candidates:
    """Maps that give the readout its usual shape, rotated all ways; embeddings from the prior."""
    rng = np.random.default_rng(seed)
    prior = search.prior
    n_latents, width = prior.latent_dim, prior.embedding_dim
    usual = prior.usual_factor()
    gram = init.weight.T @ init.weight / len(init.weight)
    own = np.linalg.cholesky(gram + SINGULAR * np.eye(n_latents))
    maps = np.linalg.inv(usual.T) @ orthogonal_maps(n_latents, N_CANDIDATES, rng) @ own.T
    samples = rng.multivariate_normal(prior.mean, prior.covariance, len(maps))
    embeddings = np.zeros((len(maps), search.trained.config.embedding_dim))
    embeddings[:, :width] = samples[:, :width]
    shifts = np.tile(prior.mean[-n_latents:], (len(maps), 1))
    device = search.x.device
    parts = [
        torch.as_tensor(part, dtype=torch.float32, device=device)
        for part in (maps, shifts, embeddings)
    ]
    return Candidates(*parts)


def orthogonal_maps(
    dim: int, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "count {dim} {dim}"]:
    """Rotations and mirror images: evenly round the circle in a plane, else at random."""
    if dim != 2:
        return np.array(ortho_group.rvs(dim, size=count, random_state=rng)).reshape(count, dim, dim)
    angle = 2 * np.pi * np.arange(count // 2) / (count // 2)
    first_row = np.stack([np.cos(angle), -np.sin(angle)], -1)
    second_row = np.stack([np.sin(angle), np.cos(angle)], -1)
    rotations = np.stack([first_row, second_row], 1)  # (count / 2, 2, 2)
    return np.concatenate([rotations, rotations * [1.0, -1.0]])


def optimise_candidates(
    search: Search,
    candidates: Candidates,
    iterations: int,
    generator: torch.Generator,
    report: Reporter,
) -> Candidates:
    """The candidates after Adam steps on random rollouts, each on its own loss."""
    parts = Candidates(*[part.detach().clone().requires_grad_() for part in candidates])
    optimiser = torch.optim.Adam(parts, lr=LEARNING_RATE)
    for iteration in reported(range(iterations), "search", report):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 + cosine(iteration, iterations)) / 2
        origins = search.random_origins(N_ROLLOUTS, generator)
        loss = search.loss(*parts, origins)  # (candidate,): their sum has each one's gradient
        gradients = torch.autograd.grad(
            loss.sum(), parts, allow_unused=True, materialize_grads=True
        )
        for part, gradient in zip(parts, gradients, strict=True):
            part.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
        optimiser.step()
    return Candidates(*[part.detach() for part in parts])


def rank(
    search: Search, candidates: Candidates
) -> tuple[Float[Tensor, " candidate"], Int[Tensor, " candidate"]]:
    """Losses over all rollouts, and the order from the best; what is no map any more is last."""
    origins = search.all_origins()
    losses = []
    with torch.no_grad():
        for row in range(len(candidates.maps)):  # one by one: all paths are held at a time
            one = candidates.select(slice(row, row + 1))
            losses.append(search.loss(*one, origins))
    loss = torch.cat(losses).nan_to_num(torch.inf, torch.inf, torch.inf)
    return loss, loss.argsort()


def embedding_posterior(
    search: Search,
    candidates: Candidates,
    best: Candidates,
    loss: Float[Tensor, " candidate"],
) -> tuple[Float[Tensor, " embedding"], Float[Tensor, " embedding"]]:
    """Mean and SD of e: Laplace's variance at the best, and that among the candidates."""
    width = search.prior.embedding_dim
    probability = (loss.min() - loss).softmax(0)
    mean = best.embeddings[0, :width]
    squares = (candidates.embeddings[:, :width] - mean) ** 2
    between = (probability[:, None] * squares).sum(0)
    variance = between + laplace_variance(search, best)[:width] if width else between
    return mean, variance.sqrt()


def laplace_variance(search: Search, best: Candidates) -> Float[Tensor, " embedding"]:
    """Variance of the embedding from the curvature in map, shift and embedding together.

    best: one candidate. Directions that the data do not determine keep the variance 1 of p(e).
    """
    origins = search.all_origins()
    sizes = [part.numel() for part in best]

    def loss(flat: Float[Tensor, " parameter"]) -> Float[Tensor, ""]:
        parts = zip(flat.split(sizes), best, strict=True)
        one = Candidates(*[part.view_as(like) for part, like in parts])
        return search.loss(one.maps, one.shifts, one.embeddings, origins)[0]

    point = torch.cat([part.flatten() for part in best])
    curvature = torch.autograd.functional.hessian(loss, point)
    values, vectors = torch.linalg.eigh(curvature.double())
    return ((vectors**2) @ (1 / values.clamp(min=1.0)))[-sizes[-1] :].float()
