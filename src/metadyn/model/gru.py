"""A GRU over windows of different lengths; on a CPU a kernel compiled on first use (docs/decisions/fused-gru.md)."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SOURCE = Path(__file__).with_suffix(".cpp")
BLOCK = 16  # sequences that the kernel runs together; a thread takes whole blocks
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread", "-std=c++17")
log = logging.getLogger(__name__)


def reverse_within(x: Float[Tensor, "sequence time feature"], length: Int[Tensor, " sequence"]) -> Tensor:
    """Each sequence's first `length` bins in reverse order; what stands behind them is of no meaning."""
    time = torch.arange(x.shape[1], device=x.device)
    index = (length[:, None] - 1 - time) % x.shape[1]
    return x.gather(1, index[..., None].expand_as(x))


class GRU(nn.GRU):
    """One layer of gated recurrent units over features and over what is told about the whole sequence.

    Parameters, their names and first values are those of `nn.GRU(features + told, hidden)`, and so are the results.
    """

    def __init__(self, features: int, told: int, hidden: int):
        super().__init__(features + told, hidden, batch_first=True)

    def forward(
        self,
        features: Float[Tensor, "sequence time feature"],
        told: Float[Tensor, "sequence told"],
        length: Int[Tensor, " sequence"],
        reverse: bool = False,
    ) -> Float[Tensor, "sequence time hidden"]:
        """States of every bin; in reverse from each sequence's bin `length` - 1 to its first, and zero behind `length`."""
        if features.device.type == "cpu" and features.dtype == self.weight_hh_l0.dtype == torch.float32 and kernel():
            return self._fused(features, told, length, reverse)
        inputs = torch.cat([features, told[:, None].expand(-1, features.shape[1], -1)], -1)
        if not reverse:
            return super().forward(inputs)[0]
        states = reverse_within(super().forward(reverse_within(inputs, length))[0], length)
        seen = torch.arange(features.shape[1], device=length.device) < length[:, None]
        return torch.where(seen[..., None], states, 0.0)

    def _fused(self, features: Tensor, told: Tensor, length: Tensor, reverse: bool) -> Tensor:
        """What is told adds the same to the gates at every bin, so it goes to the kernel with the biases."""
        weight, weight_told = self.weight_ih_l0.split([features.shape[-1], told.shape[-1]], 1)
        r, z, n = (told @ weight_told.T + self.bias_ih_l0).chunk(3, -1)
        r_h, z_h, n_h = self.bias_hh_l0.chunk(3)
        bias = torch.stack([n_h.expand_as(n), r + r_h, z + z_h, n], 1)
        inputs = [x.contiguous() for x in (features, bias, weight, self.weight_hh_l0)]
        return Fused.apply(*inputs, length.long().contiguous(), reverse)


class Fused(torch.autograd.Function):
    """The kernel as a differentiable function."""

    @staticmethod
    def forward(ctx, features, bias, weight, weight_hidden, length, reverse):
        (sequences, time, inputs), hidden = features.shape, weight_hidden.shape[1]
        states = features.new_empty(sequences, time, hidden)
        ctx.sizes = (sequences, time, inputs, hidden, int(reverse))
        arrays = (length, features, bias, weight, weight_hidden, states)
        ctx.save_for_backward(*arrays)
        kernel().gru_forward(team(), parts_of(sequences), *ctx.sizes, *_pointers(*arrays))
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states):
        _, features, bias, weight, weight_hidden, _ = ctx.saved_tensors
        d_states, parts = d_states.contiguous(), parts_of(len(features))
        d_inputs = [torch.empty_like(features), torch.empty_like(bias)]
        d_weights = [each.new_empty(parts, *each.shape) for each in (weight, weight_hidden)]
        arrays = _pointers(*ctx.saved_tensors, d_states, *d_inputs, *d_weights)
        kernel().gru_backward(team(), parts, *ctx.sizes, *arrays)
        return *d_inputs, *(each.sum(0) for each in d_weights), None, None


def parts_of(sequences: int) -> int:
    """One for each of torch's threads, as long as there are blocks."""
    return max(1, min(torch.get_num_threads(), -(-sequences // BLOCK)))


@cache
def team() -> ctypes.c_void_p:
    """OpenMP's GOMP_parallel, whose threads are torch's; null without. Others would wait while those spin."""
    return ctypes.cast(getattr(ctypes.CDLL(None), "GOMP_parallel", None), ctypes.c_void_p)


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]


@cache
def kernel() -> ctypes.CDLL | None:
    """The compiled gru.cpp; without a compiler None, and one warning in the life of a process."""
    try:
        return _load()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        warnings.warn(
            f"GRUs run by torch, with which training takes several times as long: {reason}. A C++ compiler helps "
            "(Debian, Ubuntu: g++; macOS: xcode-select --install; conda: cxx-compiler)",
            stacklevel=4,
        )
        return None


def _load() -> ctypes.CDLL:
    """From the user's cache; where that cannot be written or its files cannot be run, from a folder of this process alone."""
    compiler = _compiler()
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return ctypes.CDLL(str(_compiled(compiler, Path(home) / "ndx-metadyn")))
    except (OSError, RuntimeError):  # RuntimeError: no home
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return ctypes.CDLL(str(_compiled(compiler, Path(folder))))


def _compiler() -> list[str]:
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise FileNotFoundError("no C++ compiler is found")


def _compiled(compiler: list[str], folder: Path) -> Path:
    """The library's file, whose name says what it was made from, by what and for which processor."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    made_of = "\n".join([SOURCE.read_text(encoding="utf-8"), *FLAGS, *compiler, version, _processor()])
    target = folder / f"gru-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as private:  # two processes may compile at the same time
            made = Path(private) / target.name
            _compile(compiler, made)
            os.replace(made, target)
    return target


def _compile(compiler: list[str], target: Path) -> None:
    log.info("compiling %s with %s", SOURCE.name, shlex.join(compiler))
    command = [*compiler, *FLAGS, str(SOURCE), "-o", str(target)]
    native = subprocess.run([*command, "-march=native"], capture_output=True, check=False)
    if native.returncode:  # some compilers know no native processor
        subprocess.run(command, capture_output=True, text=True, check=True)


def _processor() -> str:
    """Model and abilities of the processor: a home may be shared by machines, and a library made for another one crashes."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))}))
