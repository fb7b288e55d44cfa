"""Where to compute, and whether the order of sums is fixed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from metadyn.errors import DeviceError


def find_device(name: str = "auto") -> torch.device:
    """The torch device of a name; `auto` is the GPU where there is one.

    Raises DeviceError where the device does not exist.

    >>> find_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(
            "a GPU was asked for, and there is none that torch can use",
            found="cpu",
            options={"device": "cpu"},
        )
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        found = f"{name!r}: {str(problem).splitlines()[0]}"
        raise DeviceError(
            "there is no such device", found=found, remedy="auto, cpu or cuda as `device`"
        ) from None


@contextmanager
def fixed_order(asked: bool) -> Iterator[None]:
    """Within it, if `asked`, torch adds in one order, or refuses where it cannot.

    A run repeated on the same machine then has the same weights. On a CPU, runs with one number of
    threads repeat anyway.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if asked:
        # Read when CUDA first multiplies
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
