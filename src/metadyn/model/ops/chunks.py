"""Work on all entries (session, point, unit) in pieces that stay in a CPU's cache.

The sessions of a piece are padded only to the largest of them, so most of the padding is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Of a piece on a CPU, whose cache holds that many numbers of a few tensors; a GPU takes all at once
CHUNK_ENTRIES = 1 << 20


def session_chunks(
    shape: torch.Size, n_units: tuple[int, ...] | None, device: torch.device
) -> list[tuple[slice, int]]:
    """Slices of consecutive sessions, and the number of units of the largest in each.

    shape: (session, point, unit); n_units: of each session, without padding (None: all).

    >>> session_chunks(torch.Size((3, 1 << 19, 2)), (2, 1, 2), torch.device("cpu"))
    [(slice(0, 1, None), 2), (slice(1, 2, None), 1), (slice(2, 3, None), 2)]
    """
    sessions, points, units = shape
    n_units = n_units or (units,) * sessions
    most = (
        max(1, CHUNK_ENTRIES // max(1, points * units))
        if device.type == "cpu"
        else max(1, sessions)
    )
    return [
        (slice(first, first + most), max(n_units[first : first + most]))
        for first in range(0, sessions, most)
    ]


def entry_chunks(
    shape: torch.Size, n_units: tuple[int, ...], device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """Slices of sessions, as `session_chunks` has them, and of some of their units.

    Each pair selects at most CHUNK_ENTRIES entries, or those of one unit, on any device.
    """
    for rows, units in session_chunks(shape, n_units, device):
        points = shape[1] * len(range(*rows.indices(shape[0])))
        most = max(1, CHUNK_ENTRIES // max(1, points))
        for first in range(0, units, most):
            yield rows, slice(first, min(first + most, units))


def as_float(chosen: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """1 where True, else 0.

    Torch converts bytes five times as fast as truth values.
    """
    return chosen.view(torch.uint8).to(dtype)
