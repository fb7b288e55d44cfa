"""Random numbers of a step, the first axis sessions: a session gets the same ones, whichever
process has it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

AT_ONCE = 1 << 16  # numbers that stay in a CPU's cache


class SessionGenerator(torch.Generator):
    """A generator that can be told that only some of a step's sessions are here.

    place (session,): where they stand among the `among` sessions of the step; None: all are here.
    """

    place: Tensor | None = None
    among: int = 0


def draw_for_sessions(
    draw: Callable[..., Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    **options,
) -> Tensor:
    """draw(shape, …), e.g. torch.rand; where only some sessions are here, numbers are drawn for all
    and theirs are kept."""
    place = getattr(generator, "place", None)
    if place is None:
        return draw(shape, generator=generator, **options)
    return draw((generator.among, *shape[1:]), generator=generator, **options)[place]


def bernoulli(
    share: float, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    """True where `draw_for_sessions(torch.rand, …)` is below `share`; on a CPU without memory for
    all of these numbers."""
    return draw_for_sessions(partial(_below, share), shape, generator, device=device)


def _below(
    share: float, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device
) -> Tensor:
    if device.type != "cpu":
        return torch.rand(shape, generator=generator, device=device) < share
    chosen = torch.empty(shape, dtype=torch.bool)
    numbers = torch.empty(min(AT_ONCE, chosen.numel()))
    for part in chosen.view(-1).split(AT_ONCE):
        torch.lt(numbers[: len(part)].uniform_(generator=generator), share, out=part)
    return chosen
