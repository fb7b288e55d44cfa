"""The compiled kernels.cpp, and in which threads it runs (docs/decisions/fused-gru.md)."""

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
    """Whether the kernels can take these: on a CPU, in single precision, where there is a
    compiler."""
    return (
        all(each.device.type == "cpu" and each.dtype == torch.float32 for each in tensors)
        and kernels() is not None
    )


def threads(parts: int) -> int:
    """As many as torch has, of at most so many parts of the work."""
    return max(1, min(torch.get_num_threads(), parts))


def call(name: str, parts: int, *arguments: int | Tensor | None) -> None:
    """A kernel by its name in kernels.cpp, its work in so many parts."""
    passed = [
        ctypes.c_void_p(each.data_ptr()) if isinstance(each, Tensor) else each for each in arguments
    ]
    getattr(kernels(), name)(team(), parts, *passed)


@cache
def team() -> ctypes.c_void_p:
    """OpenMP's GOMP_parallel, whose threads are torch's; null without. Others would wait while
    those spin."""
    return ctypes.cast(getattr(ctypes.CDLL(None), "GOMP_parallel", None), ctypes.c_void_p)


@cache
def kernels() -> ctypes.CDLL | None:
    """The compiled kernels.cpp; without a compiler None, and one warning in the life of a
    process."""
    try:
        return _load()
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        warnings.warn(
            f"GRUs and layers run by torch, with which training takes several times as long: {reason}. A C++ compiler helps "
            "(Debian, Ubuntu: g++; macOS: xcode-select --install; conda: cxx-compiler)",
            stacklevel=4,
        )
        return None


def _load() -> ctypes.CDLL:
    """From the user's cache; where that cannot be written or its files cannot be run, from a folder
    of this process alone."""
    compiler = _compiler()
    try:
        return ctypes.CDLL(str(_compiled(compiler, cache_folder())))
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
    """The library's file, whose name says what it was made from, by what and for which
    processor."""
    version = subprocess.run(
        [*compiler, "--version"], capture_output=True, text=True, check=True
    ).stdout
    made_of = "\n".join(
        [SOURCE.read_text(encoding="utf-8"), *FLAGS, *compiler, version, _processor()]
    )
    target = folder / f"kernels-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=folder
        ) as private:  # two processes may compile at the same time
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
    """Model and abilities of the processor: a home may be shared by machines, and a library made
    for another one crashes."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    return "\n".join(
        sorted(
            {
                line
                for line in lines
                if line.startswith(("model name", "flags", "Features", "CPU part"))
            }
        )
    )
