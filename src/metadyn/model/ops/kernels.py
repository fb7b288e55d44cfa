"""GRUs and layers in C++ for a CPU: kernels.cpp, compiled where it first runs, and its threads.

Why they exist, and how much faster they are: docs/decisions/fused-gru.md.
"""

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
from torch import Tensor

from metadyn.cache import cache_folder

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = (
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-shared",
    "-fPIC",
    "-pthread",
    "-std=c++17",
)
log = logging.getLogger(__name__)


def runs(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors.

    They are for a CPU and single precision, and need a compiler.
    """
    fit = all(each.device.type == "cpu" and each.dtype == torch.float32 for each in tensors)
    return fit and kernels() is not None


def threads(parts: int) -> int:
    """The number of threads for work that has so many parts: at most those of torch."""
    return max(1, min(torch.get_num_threads(), parts))


def call(name: str, parts: int, *arguments: int | Tensor | None) -> None:
    """Run the kernel of that name in kernels.cpp, its work in so many parts."""
    passed = [
        ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else each for each in arguments
    ]
    getattr(kernels(), name)(team(), parts, *passed)


@cache
def team() -> ctypes.c_void_p:
    """OpenMP's GOMP_parallel, whose threads are torch's; null where there is none.

    Threads of our own would wait while those spin.
    """
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    return ctypes.c_void_p() if parallel is None else ctypes.cast(parallel, ctypes.c_void_p)


@cache
def kernels() -> ctypes.CDLL | None:
    """The compiled kernels.cpp; without a compiler None, and one warning a process."""
    try:
        return _load()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        warnings.warn(
            "GRUs and layers run by torch, with which training takes several times as long: "
            f"{reason}. A C++ compiler helps (Debian, Ubuntu: g++; macOS: xcode-select --install; "
            "conda: cxx-compiler)",
            stacklevel=4,
        )
        return None


def _load() -> ctypes.CDLL:
    """The library from the user's cache.

    Where that cannot be written or its files cannot be run, from a folder of this process alone.
    """
    compiler = _compiler()
    try:
        return ctypes.CDLL(str(_compiled(compiler, cache_folder())))
    except (OSError, RuntimeError):  # RuntimeError: no home
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return ctypes.CDLL(str(_compiled(compiler, Path(folder))))


def _compiler() -> list[str]:
    """The command of a C++ compiler; FileNotFoundError where there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        command = shlex.split(name)
        if command and shutil.which(command[0]):
            return command
    raise FileNotFoundError("no C++ compiler is found")


def _compiled(compiler: list[str], folder: Path) -> Path:
    """The library's file, compiled if need be.

    Its name follows from its source, its compiler and the processor.
    """
    asked = [*compiler, "--version"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    source = SOURCE.read_text(encoding="utf-8")
    made_of = "\n".join([source, *FLAGS, *compiler, version, _processor()])
    target = folder / f"kernels-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Two processes may compile at the same time: each in a folder of its own
        with tempfile.TemporaryDirectory(dir=folder) as private:
            made = Path(private) / target.name
            _compile(compiler, made)
            os.replace(made, target)
    return target


def _compile(compiler: list[str], target: Path) -> None:
    """Compile the kernels into `target`; CalledProcessError where the compiler fails."""
    log.info("compiling %s with %s", SOURCE.name, shlex.join(compiler))
    command = [*compiler, *FLAGS, str(SOURCE), "-o", str(target)]
    native = subprocess.run([*command, "-march=native"], capture_output=True, check=False)
    if native.returncode:  # some compilers do not know `native`
        subprocess.run(command, capture_output=True, text=True, check=True)


def _processor() -> str:
    """Model and features of the processor.

    A home may be shared by machines, and a library compiled for another one crashes.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    marks = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(marks)}))
