"""Bins whose latent comes from the dynamics, not from the encoder (App. D.1: masking; and forecasts in training)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metadyn.model.dynamics import Transition


def mask_depth(masked: Bool[Tensor, "session trial time"]) -> Int[Tensor, "session trial time"]:
    """Bins since the last kept bin: 0 where kept, 1 for the first masked bin after it, and so on."""
    time = torch.arange(masked.shape[-1], device=masked.device)
    last_kept = torch.where(masked, torch.zeros_like(time), time).cummax(-1).values
    return time - last_kept


def fill(
    z: Float[Tensor, "session trial time latent"],
    masked: Bool[Tensor, "session trial time"],
    transition: Transition,
    noise: Float[Tensor, "session trial time latent"] | None = None,
) -> Float[Tensor, "session trial time latent"]:
    """Replace masked bins by the mean of the dynamics from the bin before, or by the sample of some standard normal noise.

    Bin 0 must be kept.

    All bins of one depth are filled at once, depth by depth: the same numbers as a chain over time (model.md).
    """
    depth = mask_depth(masked)
    for level in range(1, int(depth.max()) + 1):
        at_level = depth == level
        slots = int(at_level.sum(-1).max())
        time = at_level.to(torch.uint8).topk(slots, dim=-1).indices
        index = time[..., None].expand(-1, -1, -1, z.shape[-1])
        before = z.gather(2, (index - 1).clamp(min=0))
        chosen = at_level.gather(-1, time)[..., None]
        ahead = transition.mean(before) if noise is None else transition(before).at(noise.gather(2, index))
        z = z.scatter(2, index, torch.where(chosen, ahead, z.gather(2, index)))
    return z
