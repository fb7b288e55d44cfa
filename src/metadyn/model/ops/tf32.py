"""Products on a GPU of factors that are rounded to 10 bits, where training tolerates it.

The measurements are in docs/decisions/tf32.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Inside, if `on`, matrix products of single precision may use TF32."""
    if not on:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
