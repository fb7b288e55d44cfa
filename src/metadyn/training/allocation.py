"""Memory that a step frees stays with the process for the next step (docs/decisions/memory-kept.md)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3) of glibc, and the values that its own adjustment ends at; larger blocks are the system's in any case
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_BLOCK, USUALLY_KEPT, ALL = 1 << 25, 1 << 26, -1  # bytes


@contextmanager
def memory_kept() -> Iterator[None]:
    """Inside, no freed block of up to 32 MiB goes back to the system; all do at the end. Does nothing where libc is not glibc."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
    libc.mallopt(TRIM_THRESHOLD, ALL)
    try:
        yield
    finally:
        libc.mallopt(TRIM_THRESHOLD, USUALLY_KEPT)
        libc.malloc_trim(0)
