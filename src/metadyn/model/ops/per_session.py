"""Tensors with one row a session: how modules declare them, and rows of some sessions.

A model has the same networks for all sessions but for a few tensors, of which each session has its
own: those are stacked, (session, …), padded to the largest session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Declaration:
    """How a tensor is treated by whoever does not know its module.

    per_session: its first axis counts sessions; padding: its value for units that a session lacks;
    decayed: whether weight decay pulls it towards zero.
    """

    per_session: bool = False
    padding: float = 0.0
    decayed: bool = True


class Declared(nn.Module):
    """A module that says how its own tensors, not those of its children, are treated."""

    decayed: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, float]] = MappingProxyType({})  # by name, where not zero

    def per_session_names(self) -> tuple[str, ...]:
        """The names of those of which each session has a row; here of none."""
        return ()


class PerSession(Declared):
    """A module of which each session has a row of every tensor."""

    def per_session_names(self) -> tuple[str, ...]:
        """The names of all."""
        return tuple(own_tensors(self))


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module by name, without those of its children."""
    parameters = dict(module.named_parameters(recurse=False))
    return parameters | dict(module.named_buffers(recurse=False))


def declarations(model: nn.Module) -> dict[str, Declaration]:
    """How each parameter and buffer of a model is treated, by its name there.

    A tensor of a module that declares nothing is shared by all sessions, and decayed if it is no
    bias.
    """
    found = {}
    for prefix, module in model.named_modules():
        known = module if isinstance(module, Declared) else Declared()
        rows = known.per_session_names()
        for name in own_tensors(module):
            decayed = known.decayed and "bias" not in name
            full = f"{prefix}.{name}" if prefix else name
            found[full] = Declaration(name in rows, known.padding.get(name, 0.0), decayed)
    return found


def session_rows(stacked: Tensor, session: Int[Tensor, " session"]) -> Tensor:
    """stacked[session], with a sparse gradient of these rows where they are not all."""
    return stacked[session] if len(session) == len(stacked) else SessionRows.apply(stacked, session)


class SessionRows(torch.autograd.Function):
    """stacked[session] with a gradient of as many rows as were asked for."""

    @staticmethod
    def forward(ctx: Any, stacked: Tensor, session: Int[Tensor, " session"]) -> Tensor:
        """The rows."""
        ctx.save_for_backward(session)
        ctx.shape = stacked.shape
        return stacked[session]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_rows: Tensor) -> tuple[Tensor, None]:
        """The sparse gradient of `stacked`."""
        (session,) = ctx.saved_tensors
        gradient = torch.sparse_coo_tensor(session[None], d_rows, ctx.shape, check_invariants=False)
        return gradient, None
