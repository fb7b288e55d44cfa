"""How fast a training step could be: what it must compute and move, at the speeds that this device
reaches.

Products count twice their multiplications, forward once and backward twice (the read-in's inputs
need no gradient: once). Moved are, once each: the counts of the drawn bins, a byte each; what the
backward pass needs of the forward pass (features, states of the GRUs, q(z) and z), written and
read; of each weight its gradient, written and read, itself and its two moments, read and written.
Padding, random numbers, masks and everything that a cache could keep cost nothing here. Nor does
order: `dependent_steps` are products of which each needs the one before, along the GRUs (the
embedding first, then both directions at once) and along the longest usual run of masked bins,
forward and backward.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from metadyn.model.meta_ssm import MetaSSM
from metadyn.model.ops.gru import GRU
from metadyn.model.ops.tf32 import tf32
from metadyn.training.execution.batch import longest_masked

FLOAT = 4  # bytes
REPEATS = 5  # the fastest counts: a device's peak


@dataclass(frozen=True)
class Size:
    """A step of `trials` × `bins` of each session, of which a share is masked."""

    n_units: list[int]
    trials: int
    bins: int
    masking: float

    @property
    def points(self) -> int:
        return len(self.n_units) * self.trials * self.bins

    @property
    def points_with_a_past(self) -> int:
        return len(self.n_units) * self.trials * (self.bins - 1)

    @property
    def entries(self) -> int:
        return sum(self.n_units) * self.trials * self.bins


@dataclass(frozen=True)
class Peak:
    """Operations a second of large products, bytes a second of large copies."""

    operations: float
    bytes: float


def operations(size: Size, model: MetaSSM) -> int:
    """Multiplications and additions of a step's products; without the hypernetwork and others of a
    few numbers a trial."""
    hidden, features = model.readin.weight_out.shape[1:]
    dynamics = model.dynamics
    f = sum(weight.numel() for weight in (each.weight for each in dynamics.flow.maps.values()))
    widths = [gru.hidden_size for gru in grus(model)]
    each_bin = features * (hidden + 3 * sum(widths)) + model.latent_encoder.head.weight.numel()
    after_the_first = 3 * sum(width**2 for width in widths) + (1 + size.masking) * f
    products = 3 * (size.points * each_bin + size.points_with_a_past * after_the_first)
    return round(2 * (products + size.entries * (2 * hidden + 3 * model.latent_dim)))


def moved(size: Size, model: MetaSSM) -> int:
    """Bytes that a step must read or write."""
    features = model.readin.bias_out.shape[1]
    kept = features + sum(gru.hidden_size for gru in grus(model)) + 3 * model.latent_dim
    per_unit = {
        name: each
        for name, each in model.named_parameters()
        if name.startswith(("likelihood.", "readin.weight_in"))
    }
    weights = sum(size.n_units) * sum(each[0, 0].numel() for each in per_unit.values())
    weights += sum(each.numel() for name, each in model.named_parameters() if name not in per_unit)
    return size.entries + FLOAT * (2 * size.points * kept + 8 * weights)


def grus(model: MetaSSM) -> list[GRU]:
    return [
        model.embedding_encoder.gru,
        model.latent_encoder.forward_gru,
        model.latent_encoder.backward_gru,
    ]


def dependent_steps(size: Size) -> int:
    """Of the GRUs, forward and backward, and of the longest usual run of masked bins."""
    return 2 * (2 * size.bins + min(longest_masked(size.masking), size.bins - 1))


def fastest(run: Callable[[], object], synchronise: Callable[[], None]) -> float:
    """Seconds of the fastest of some runs, after one that does not count."""
    seconds = []
    for _ in range(1 + REPEATS):
        synchronise()
        began = time.perf_counter()
        run()
        synchronise()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def measured_peak(device: torch.device, synchronise: Callable[[], None]) -> Peak:
    """Of products of square matrices, on a GPU in TF32, and of a copy that no cache holds."""
    side, large = (8192, 1 << 28) if device.type == "cuda" else (1024, 1 << 25)
    one, other, out = (torch.ones(side, side, device=device) for _ in range(3))
    source, target = (torch.zeros(large, device=device) for _ in range(2))
    with tf32(device.type == "cuda"):
        product = fastest(lambda: torch.mm(one, other, out=out), synchronise)
    copy = fastest(lambda: target.copy_(source), synchronise)
    return Peak(2 * side**3 / product, 2 * large * FLOAT / copy)


def floor(size: Size, model: MetaSSM, peak: Peak, seconds: float) -> dict[str, float]:
    """The least that a step could take, and how far the measured `seconds` are from it."""
    least = max(operations(size, model) / peak.operations, moved(size, model) / peak.bytes)
    return {
        "gflop": round(operations(size, model) / 1e9, 3),
        "moved_mib": round(moved(size, model) / 2**20, 2),
        "peak_gflops": round(peak.operations / 1e9, 1),
        "peak_gib_s": round(peak.bytes / 2**30, 1),
        "floor_s": round(least, 7),
        "gap": round(seconds / least, 1),
        "dependent_steps": dependent_steps(size),
    }
