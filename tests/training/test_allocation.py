"""Memory that a training loop frees stays with the process, and goes back at its end."""

import ctypes
import resource
import sys

import pytest
import torch

from metadyn.training.allocation import LARGEST_BLOCK, memory_kept

pytestmark = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")), reason="not glibc"
)
BLOCKS, SIZE = 12, LARGEST_BLOCK - 2**20  # together far above all that glibc keeps of itself
PAGES = BLOCKS * SIZE // resource.getpagesize()


def touched() -> int:
    """Pages touched for the first time while some tensors are made, all of which are freed at the end."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(SIZE // 4) for _ in range(BLOCKS)]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del tensors
    return after - before


def resident() -> int:
    """Pages of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def test_freed_blocks_are_used_again_and_given_back_at_the_end():
    for _ in range(2):
        touched()
        assert touched() > 0.7 * PAGES  # they are new each time
        with memory_kept():
            touched()
            assert touched() < 0.3 * PAGES
            kept = resident()
        assert resident() < kept - 0.7 * PAGES
