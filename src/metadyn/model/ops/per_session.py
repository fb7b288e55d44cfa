"""What each session has for itself lies in tensors stacked by session; a step of few sessions
touches their rows alone."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from metadyn.config import ModelConfig


def is_per_session(name: str, config: ModelConfig) -> bool:
    """Whether each session has a weight of that name for itself."""
    return name.startswith(("readin.", "likelihood.")) or (
        name == "log_q" and not config.shared_noise
    )


def session_rows(stacked: Tensor, session: Int[Tensor, " session"]) -> Tensor:
    """stacked[session]; of fewer sessions than there are, the gradient is a sparse tensor of their
    rows."""
    return stacked[session] if len(session) == len(stacked) else SessionRows.apply(stacked, session)


class SessionRows(torch.autograd.Function):
    """stacked[session] with a gradient whose size goes with the sessions asked for, not with those
    there are."""

    @staticmethod
    def forward(ctx, stacked, session):
        ctx.save_for_backward(session)
        ctx.shape = stacked.shape
        return stacked[session]

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rows):
        (session,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(
            session[None], d_rows, ctx.shape, check_invariants=False
        ), None
