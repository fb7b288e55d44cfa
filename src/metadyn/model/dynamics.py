"""The dynamics p(z_t | z_{t-1}, e) and the ways in which an embedding changes them (section 3.1,
eqs. 11-14).

`transition = dynamics(e, log_q)`; `transition(z)` is a Gaussian; `transition.rollout(z, 20)` a
forecast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from metadyn.model.gaussian import Gaussian
from metadyn.model.ops.layer import activated, layer

LAYERS = ("input", "hidden", "output")  # of f, in the order of the hypernetwork's outputs
Layer = Callable[
    [Tensor, bool], Tensor
]  # x (session, trial, point, in) → (session, trial, point, out), or tanh of it


def of_trials(weight: Tensor, bias: Tensor) -> Layer:
    """The layer whose weights (trial or 1, in, out) are those of all sessions' trials, or one for
    all."""
    return lambda x, tanh: layer(x.flatten(0, 1), weight, bias[None], tanh).unflatten(
        0, x.shape[:2]
    )


@dataclass(frozen=True)
class LowRankChange:
    """The change U Vᵀ of a weight: left (session, trial, out, rank), right (session, trial, in,
    rank).

    It is written out where a session's trials share it, and never formed where each trial has its
    own.
    """

    left: Tensor
    right: Tensor

    def layer(self, weight: Tensor, bias: Tensor) -> Layer:
        if self.left.shape[1] == 1:
            return DenseChange(self.left @ self.right.mT).layer(weight, bias)
        return lambda x, tanh: activated(
            linear(x, weight, bias) + x @ self.right @ self.left.mT, tanh
        )

    def squared_norm(self) -> Tensor:
        """‖U Vᵀ‖²_F = Σ (UᵀU ∘ VᵀV): (session, trial)."""
        return ((self.left.mT @ self.left) * (self.right.mT @ self.right)).sum((-2, -1))


@dataclass(frozen=True)
class DenseChange:
    """Any change of a weight: change (session, trial, out, in)."""

    change: Tensor

    def layer(self, weight: Tensor, bias: Tensor) -> Layer:
        return of_trials((weight + self.change).flatten(0, 1).mT, bias)

    def squared_norm(self) -> Tensor:
        """‖change‖²_F: (session, trial)."""
        return (self.change**2).sum((-2, -1))


@dataclass(frozen=True)
class Shift:
    """What an input beside z adds to a layer, the same at every point: value (session, trial,
    out)."""

    value: Tensor

    def layer(self, weight: Tensor, bias: Tensor) -> Layer:
        return lambda x, tanh: activated(linear(x, weight, bias) + self.value[..., None, :], tanh)

    def squared_norm(self) -> float:
        """No weight is changed."""
        return 0.0


class Unchanged:
    """A layer that knows no embedding."""

    def layer(self, weight: Tensor, bias: Tensor) -> Layer:
        return of_trials(weight.mT[None], bias)

    def squared_norm(self) -> float:
        return 0.0


Change = LowRankChange | DenseChange | Shift | Unchanged


@dataclass(frozen=True)
class Transition:
    """One dynamics, made by an embedding: z (session, trial, time, latent) → N(f(z), diag
    exp(log_q)).

    `shared`: all trials of a session have one embedding, and their bins go through the layers
    together.
    """

    dynamics: Dynamics
    changes: tuple[Change, Change, Change]
    log_q: Float[Tensor, "session 1 1 latent"]
    shared: bool = False

    @cached_property
    def layers(self) -> list[Layer]:
        """Those of f, changed."""
        net = self.dynamics
        plain = (
            (net.weight_in, net.bias_in),
            (net.weight_hidden, net.bias_hidden),
            (net.weight_out, net.bias_out),
        )
        return [change.layer(*each) for change, each in zip(self.changes, plain, strict=True)]

    def mean(
        self, z: Float[Tensor, "session trial time latent"]
    ) -> Float[Tensor, "session trial time latent"]:
        first, second, third = self.layers
        points = z.flatten(1, 2)[:, None] if self.shared else z
        out = third(second(first(points, True), True), False).view(z.shape)
        return z + out if self.dynamics.residual else out

    def __call__(self, z: Float[Tensor, "session trial time latent"]) -> Gaussian:
        mean = self.mean(z)
        return Gaussian(mean, self.log_q.expand_as(mean))

    def rollout(
        self,
        z: Float[Tensor, "session trial latent"],
        steps: int,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "session trial time latent"]:
        """The next `steps` states after z: the mean path, or one noisy path when a generator is
        given."""
        state, path = z[:, :, None], []
        for _ in range(steps):
            state = self.mean(state) if generator is None else self(state).sample(generator)
            path.append(state)
        return torch.cat(path, 2)

    def with_noise_scale(self, factor: float) -> Transition:
        """The same dynamics with process noise of `factor` times the SD."""
        return replace(self, log_q=self.log_q + 2 * log(factor))

    def weight_change(self) -> Tensor:
        """‖h(e)‖_F per embedding, the penalty of section D.1; 0 where no weight is changed."""
        total = sum(change.squared_norm() for change in self.changes)
        return (total + 1e-12).sqrt() if isinstance(total, Tensor) else self.log_q.new_zeros(())


class Dynamics(nn.Module):
    """f(z) = W_o tanh(W_hh tanh(W_in z + b) + b') + b'', or with `residual` z + that: what all
    sessions share (`shared`)."""

    embedded = False

    def __init__(self, latent_dim: int, hidden: tuple[int, int], *, residual: bool = False):
        super().__init__()
        self.residual = residual
        first, second = hidden
        self.weight_in = nn.Parameter(torch.randn(first, latent_dim) / latent_dim**0.5)
        self.bias_in = nn.Parameter(torch.randn(first) * 0.5)
        self.weight_hidden = nn.Parameter(torch.randn(second, first) / first**0.5)
        self.bias_hidden = nn.Parameter(torch.zeros(second))
        self.weight_out = nn.Parameter(torch.randn(latent_dim, second) / second**0.5)
        self.bias_out = nn.Parameter(torch.zeros(latent_dim))

    def changes(
        self, embedding: Float[Tensor, "session trial embedding"]
    ) -> tuple[Change, Change, Change]:
        """What an embedding changes in the layers named by LAYERS; here nothing."""
        return Unchanged(), Unchanged(), Unchanged()

    def forward(
        self,
        embedding: Float[Tensor, "session trial embedding"],
        log_q: Float[Tensor, "session latent"],
    ) -> Transition:
        """The transition of each trial; of one embedding a session, (session, 1, embedding), that
        of all its trials."""
        return Transition(
            self, self.changes(embedding), log_q[:, None, None], shared=embedding.shape[1] == 1
        )


class LowRankDynamics(Dynamics):
    """`low_rank`: a hypernetwork turns e into low-rank changes of the weights of `layers`, W_in and
    W_hh (eqs. 13-14)."""

    embedded = True

    def __init__(
        self,
        latent_dim: int,
        hidden: tuple[int, int],
        embedding_dim: int,
        rank: int,
        hyper_hidden: int,
        *,
        layers: tuple[str, ...] = ("input", "hidden"),
        residual: bool = False,
    ):
        super().__init__(latent_dim, hidden, residual=residual)
        first, second = hidden
        out_and_in = {
            "input": (first, latent_dim),
            "hidden": (second, first),
            "output": (latent_dim, second),
        }
        self.layers = [layer for layer in LAYERS if layer in layers]
        self.rank, self.sizes = (
            rank,
            [size * rank for layer in self.layers for size in out_and_in[layer]],
        )
        self.hyper = nn.Sequential(
            nn.Linear(embedding_dim, hyper_hidden),
            nn.Tanh(),
            nn.Linear(hyper_hidden, hyper_hidden),
            nn.Tanh(),
            nn.Linear(hyper_hidden, sum(self.sizes)),
        )

    def changes(
        self, embedding: Float[Tensor, "session trial embedding"]
    ) -> tuple[Change, Change, Change]:
        parts = self.hyper(embedding).split(self.sizes, -1)
        factors = [part.unflatten(-1, (-1, self.rank)) for part in parts]
        changed = dict(
            zip(self.layers, map(LowRankChange, factors[::2], factors[1::2]), strict=True)
        )
        change_in, change_hidden, change_out = (changed.get(layer, Unchanged()) for layer in LAYERS)
        return change_in, change_hidden, change_out


class LinearDynamics(Dynamics):
    """`linear` (Linear Adapter, as in CoDA): W_in and W_hh are linear functions of e.

    The directions start small, or training diverges (recipe.md).
    """

    embedded = True

    def __init__(
        self,
        latent_dim: int,
        hidden: tuple[int, int],
        embedding_dim: int,
        *,
        residual: bool = False,
    ):
        super().__init__(latent_dim, hidden, residual=residual)
        first, second = hidden
        self.directions_in = nn.Parameter(0.02 * torch.randn(embedding_dim, first, latent_dim))
        self.directions_hidden = nn.Parameter(0.02 * torch.randn(embedding_dim, second, first))

    def changes(
        self, embedding: Float[Tensor, "session trial embedding"]
    ) -> tuple[DenseChange, DenseChange, Unchanged]:
        directions = (self.directions_in, self.directions_hidden)
        change_in, change_hidden = (
            DenseChange(torch.einsum("sne,eoi->snoi", embedding, each)) for each in directions
        )
        return change_in, change_hidden, Unchanged()


class InputDynamics(Dynamics):
    """`input` (Embedding-Input, as in CAVIA and DYNAMO): e stands beside z in the input, f([z,
    e])."""

    embedded = True

    def __init__(
        self,
        latent_dim: int,
        hidden: tuple[int, int],
        embedding_dim: int,
        *,
        residual: bool = False,
    ):
        super().__init__(latent_dim, hidden, residual=residual)
        self.weight_embedding = nn.Parameter(
            torch.randn(hidden[0], embedding_dim) / (latent_dim + embedding_dim) ** 0.5
        )

    def changes(
        self, embedding: Float[Tensor, "session trial embedding"]
    ) -> tuple[Shift, Unchanged, Unchanged]:
        return Shift(embedding @ self.weight_embedding.mT), Unchanged(), Unchanged()
