"""Random numbers of a step, whose first axis is sessions.

Where processes share the sessions of a step, each session has the numbers that it would have if one
process had them all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

AT_ONCE = 1 << 16  # numbers that stay in a CPU's cache


class SessionGenerator(torch.Generator):
    """A generator that knows which of a step's sessions are in this process.

    place (session,): where they stand among the `among` sessions of the step; None: all are here.
    """

    place: Tensor | None = None
    among: int = 0


def draw_for_sessions(
    draw: Callable[..., Tensor],
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    **options: Any,
) -> Tensor:
    """draw(shape, …), e.g. `torch.rand`, of the sessions that are here.

    Where some are in other processes, the numbers of all are drawn and those of others dropped.
    """
    if not isinstance(generator, SessionGenerator) or generator.place is None:
        return draw(shape, generator=generator, **options)
    return draw((generator.among, *shape[1:]), generator=generator, **options)[generator.place]


def bernoulli(
    share: float, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Bool[Tensor, "..."]:
    """True with probability `share`, independently in each entry.

    The same as `draw_for_sessions(torch.rand, …) < share`; on a CPU the numbers are not all held in
    memory.
    """
    return draw_for_sessions(partial(_below, share), shape, generator, device=device)


def _below(
    share: float, shape: tuple[int, ...], *, generator: torch.Generator, device: torch.device
) -> Bool[Tensor, "..."]:
    """Whether uniform numbers are below `share`."""
    if device.type != "cpu":
        return torch.rand(shape, generator=generator, device=device) < share
    chosen = torch.empty(shape, dtype=torch.bool)
    numbers = torch.empty(min(AT_ONCE, chosen.numel()))
    for part in chosen.view(-1).split(AT_ONCE):
        # uniform_ gives the numbers that torch.rand would, piece by piece
        torch.lt(numbers[: len(part)].uniform_(generator=generator), share, out=part)
    return chosen
