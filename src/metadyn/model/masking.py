"""Bins whose latent comes from the dynamics, not from the encoder (App. D.1: masking; and forecasts
in training)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metadyn.model.dynamics import Transition, values_at


def mask_depth(masked: Bool[Tensor, "session trial time"]) -> Int[Tensor, "session trial time"]:
    """Bins since the last kept bin: 0 where kept, 1 for the first masked bin after it, and so
    on."""
    time = torch.arange(masked.shape[-1], device=masked.device)
    last_kept = torch.where(masked, torch.zeros_like(time), time).cummax(-1).values
    return time - last_kept


def run_length(masked: Bool[Tensor, "session trial time"]) -> Int[Tensor, "session trial time"]:
    """Masked bins in a row, told at the first of them; 0 elsewhere."""
    time, end = torch.arange(masked.shape[-1], device=masked.device), masked.shape[-1]
    next_kept = torch.where(masked, end, time).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(mask_depth(masked) == 1, next_kept - time, 0)


def fill(
    z: Float[Tensor, "session trial time latent"],
    masked: Bool[Tensor, "session trial time"],
    transition: Transition,
    noise: Float[Tensor, "session trial time latent"] | None = None,
    longest: int | None = None,
) -> Float[Tensor, "session trial time latent"]:
    """Replace masked bins by the mean of the dynamics from the bin before, or by the sample of some
    standard normal noise.

    Bin 0 must be kept. Where no run of masked bins is longer than `longest`, the mask is not looked
    at to know how much to do.

    All runs of masked bins go ahead together, a bin at a time: the same numbers as a chain over
    time (model.md).
    """
    if not len(z):  # a process that has none of a step's sessions
        return z
    depth, length = mask_depth(masked), run_length(masked)
    if transition.one_per_session:  # then it matters to no run which trial it is in
        whole, (z, depth, length) = (
            z.shape,
            (each.flatten(1, 2)[:, None] for each in (z, depth, length)),
        )
        noise = None if noise is None else noise.flatten(1, 2)[:, None]
        return _fill(z, depth, length, transition.end_to_end(), noise, longest).view(whole)
    return _fill(z, depth, length, transition, noise, longest)


def runs_going_on(
    depth: Int[Tensor, "session row bin"], longest: int | None
) -> tuple[Tensor, list[int]]:
    """Runs of a row that reach depth 1, 2, …, at most, as a tensor and as numbers above zero: as
    they are, or as many as a row has room for, each behind a kept bin."""
    bins = depth.shape[-1]
    if longest is None:
        many = (
            depth.new_zeros(*depth.shape[:2], bins + 1)
            .scatter_add(-1, depth, torch.ones_like(depth))
            .amax((0, 1))[1:]
        )
        return many, [each for each in many.tolist() if each]
    room = range(2, min(longest, bins - 1) + 2)
    return bins // torch.arange(room.start, room.stop, device=depth.device), [
        bins // each for each in room
    ]


def _fill(
    z: Tensor,
    depth: Tensor,
    length: Tensor,
    transition: Transition,
    noise: Tensor | None,
    longest: int | None,
) -> Tensor:
    """`fill` where z is (session, row, bin, latent) and no run goes on from row to row."""
    bins = depth.shape[-1]
    going_on, slots = runs_going_on(depth, longest)
    if not slots:
        return z
    start = length.topk(slots[0], dim=-1).indices  # the longest runs first
    state, path = values_at(z, (start - 1).clamp(min=0)), []
    for level, many in enumerate(slots):
        state = state[:, :, :many]
        now = (start[..., :many] + level).clamp(max=bins - 1)
        state = (
            transition.mean(state, now)
            if noise is None
            else transition(state, now).at(values_at(noise, now))
        )
        path.append(state)
    slot = torch.zeros_like(depth).scatter(
        -1, start, torch.arange(slots[0], device=z.device).expand_as(start)
    )
    bin_ = torch.arange(bins, device=z.device)
    before = (
        bins + going_on.cumsum(0) - going_on
    )  # where the states of a depth begin in what is joined below
    filled = before[(depth - 1).clamp(min=0)] + slot.gather(
        -1, (bin_ + 1 - depth).clamp(max=bins - 1)
    )
    return values_at(torch.cat([z, *path], 2), torch.where(depth > 0, filled, bin_))
