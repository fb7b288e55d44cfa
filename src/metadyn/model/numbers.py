"""Random numbers of a step, the first axis sessions: a session gets the same ones, whichever process has it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Numbers(torch.Generator):
    """A generator that can be told that only some of a step's sessions are here.

    place (session,): where they stand among the `among` sessions of the step; None: all are here.
    """

    place: Tensor | None = None
    among: int = 0


def drawn(draw: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator | None, **options) -> Tensor:
    """draw(shape, …), e.g. torch.rand; where only some sessions are here, numbers are drawn for all and theirs are kept."""
    place = getattr(generator, "place", None)
    if place is None:
        return draw(shape, generator=generator, **options)
    return draw((generator.among, *shape[1:]), generator=generator, **options)[place]
