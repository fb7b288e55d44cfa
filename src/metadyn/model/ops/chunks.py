"""Sessions few enough at a time that operations on all their entries stay in a CPU's cache, without
most of the padding."""

from __future__ import annotations

from collections.abc import Iterator

import torch

ENTRIES = (
    1 << 20
)  # of a stretch on a CPU, where that many floats of a few tensors fit the cache; a GPU takes all at once


def session_chunks(
    shape: torch.Size, n_units: tuple[int, ...] | None, device: torch.device
) -> list[tuple[slice, int]]:
    """Consecutive sessions and the units of the largest: shape (session, point, unit), units that
    are real (None: all)."""
    sessions, points, units = shape
    n_units = n_units or (units,) * sessions
    most = max(1, ENTRIES // max(1, points * units)) if device.type == "cpu" else max(1, sessions)
    return [
        (slice(first, first + most), max(n_units[first : first + most]))
        for first in range(0, sessions, most)
    ]


def entry_chunks(
    shape: torch.Size, n_units: tuple[int, ...], device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """Sessions as in `session_chunks`, and some of their units at a time: at most ENTRIES entries,
    or one unit's, on any device."""
    for rows, units in session_chunks(shape, n_units, device):
        points = shape[1] * len(range(*rows.indices(shape[0])))
        most = max(1, ENTRIES // max(1, points))
        yield from (
            (rows, slice(first, min(first + most, units))) for first in range(0, units, most)
        )


def as_float(chosen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """1 where True, else 0; by way of bytes, which torch makes numbers of five times as fast as of
    truth values."""
    return chosen.view(torch.uint8).to(dtype)
