"""z_t = f(z_{t−1}; e), or a sample of p(z_t | z_{t−1}, e), in masked bins t, without q(z_t | y, e).

f: mean of the dynamics; masked: bins of training chosen at random, and bins that are forecast.
Appendix D.1 of Vermani et al., arXiv:2410.05454.

A run is some masked bins in a row. All runs go ahead together, one bin at a time: bins of depth d,
the d-th of their runs, follow from those of depth d − 1. That is as many steps as the longest run
has bins, not as many as there are bins, and the numbers are those of a loop over time.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metadyn.model.dynamics import Transition, values_at


def mask_depth(masked: Bool[Tensor, "session trial time"]) -> Int[Tensor, "session trial time"]:
    """Bins since the last kept bin: 0 where kept, 1 for the first masked bin after it, and so on.

    >>> mask_depth(torch.tensor([[[False, True, True, False, True]]])).tolist()
    [[[0, 1, 2, 0, 1]]]
    """
    time = torch.arange(masked.shape[-1], device=masked.device)
    last_kept = torch.where(masked, torch.zeros_like(time), time).cummax(-1).values
    return time - last_kept


def run_length(masked: Bool[Tensor, "session trial time"]) -> Int[Tensor, "session trial time"]:
    """The length of each run at its first bin; 0 elsewhere.

    >>> run_length(torch.tensor([[[False, True, True, False, True]]])).tolist()
    [[[0, 2, 0, 0, 1]]]
    """
    end = masked.shape[-1]
    time = torch.arange(end, device=masked.device)
    next_kept = torch.where(masked, end, time).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(mask_depth(masked) == 1, next_kept - time, 0)


def fill_masked(
    z: Float[Tensor, "session trial time latent"],
    masked: Bool[Tensor, "session trial time"],
    transition: Transition,
    noise: Float[Tensor, "session trial time latent"] | None = None,
    longest: int | None = None,
) -> Float[Tensor, "session trial time latent"]:
    """Replace masked bins by what the dynamics make of the bin before.

    masked : the first bin of a trial never is.
    noise : standard normal numbers of which samples are made; None for the mean.
    longest : no run has more bins than that; None where only the mask can say it, which costs a
    synchronisation on a GPU.
    """
    if not len(z):  # a process that has none of a step's sessions
        return z
    depth, length = mask_depth(masked), run_length(masked)
    if not transition.one_per_session:
        return fill_rows(z, depth, length, transition, noise, longest)
    # All trials of a session have the same dynamics: they stand in one row, end to end.
    filled = fill_rows(
        end_to_end(z),
        end_to_end(depth),
        end_to_end(length),
        transition.end_to_end(),
        None if noise is None else end_to_end(noise),
        longest,
    )
    return filled.view(z.shape)


def end_to_end(values: Tensor) -> Tensor:
    """Values (session, trial, time, …) of a session's trials in one row, (session, 1, bin, …)."""
    return values.flatten(1, 2)[:, None]


def fill_rows(
    z: Float[Tensor, "session row bin latent"],
    depth: Int[Tensor, "session row bin"],
    length: Int[Tensor, "session row bin"],
    transition: Transition,
    noise: Float[Tensor, "session row bin latent"] | None,
    longest: int | None,
) -> Float[Tensor, "session row bin latent"]:
    """`fill_masked` of rows in which no run goes on from row to row."""
    bins = depth.shape[-1]
    runs_of_depth, slots = count_runs(depth, longest)
    if not slots:
        return z
    # First bin of each run, the longest runs first: (session, row, slot)
    start = length.topk(slots[0], dim=-1).indices
    state = values_at(z, (start - 1).clamp(min=0))  # of the last kept bin before each run
    path = []
    for level, many in enumerate(slots):
        state = state[:, :, :many]  # the runs that go on
        now = (start[..., :many] + level).clamp(max=bins - 1)
        if noise is None:
            state = transition.mean(state, now)
        else:
            state = transition(state, now).at(values_at(noise, now))
        path.append(state)
    filled = torch.cat([z, *path], 2)  # (session, row, bin and then slots of each depth, latent)
    return values_at(filled, place_of_bins(depth, start, runs_of_depth))


def count_runs(
    depth: Int[Tensor, "session row bin"], longest: int | None
) -> tuple[Int[Tensor, " depth"], list[int]]:
    """How many runs of a row reach depth 1, 2, …, at most, as a tensor and as numbers above zero.

    With `longest`, as many as a row has room for, each behind a kept bin: the mask is not read.
    """
    bins = depth.shape[-1]
    if longest is None:
        counted = depth.new_zeros(*depth.shape[:2], bins + 1)
        counted = counted.scatter_add(-1, depth, torch.ones_like(depth))  # bins of each depth
        most = counted.amax((0, 1))[1:]
        return most, [each for each in most.tolist() if each]
    room = range(2, min(longest, bins - 1) + 2)  # bins of a run of 1, 2, …, and the kept bin
    most = bins // torch.arange(room.start, room.stop, device=depth.device)
    return most, [bins // each for each in room]


def place_of_bins(
    depth: Int[Tensor, "session row bin"],
    start: Int[Tensor, "session row slot"],
    runs_of_depth: Int[Tensor, " depth"],
) -> Int[Tensor, "session row bin"]:
    """Where each bin's state stands in `fill_rows`: kept bins in place, runs depth by depth."""
    bins = depth.shape[-1]
    time = torch.arange(bins, device=depth.device)
    # The slot of each run, at its first bin and then at all of its bins: (session, row, bin)
    number = torch.arange(start.shape[-1], device=depth.device).expand_as(start)
    slot_of_start = torch.zeros_like(depth).scatter(-1, start, number)
    first_of_run = (time + 1 - depth).clamp(max=bins - 1)
    slot = slot_of_start.gather(-1, first_of_run)
    # Where the states of depth 1, 2, … begin
    begin = bins + runs_of_depth.cumsum(0) - runs_of_depth
    place = begin[(depth - 1).clamp(min=0)] + slot
    return torch.where(depth > 0, place, time)
