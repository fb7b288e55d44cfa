"""Where to compute."""

import torch

from metadyn.errors import DeviceError


def find_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU where there is one; a DeviceError where the device asked for does not exist."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError("a GPU was asked for, and there is none that torch can use", found="cpu", remedy="--device cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        found = f"{name!r}: {str(problem).splitlines()[0]}"
        raise DeviceError("there is no such device", found=found, remedy="--device auto, cpu or cuda") from None
