"""How a benchmark keeps what it measured: the figures with seed, commit and machine kind, as
JSON."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"


def say(line: str) -> None:
    """Progress, on stderr: stdout is for the figures."""
    print(line, file=sys.stderr, flush=True)


def resident_mib() -> float:
    """Largest resident memory of this process so far [MiB]; it begins at its parent's."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def in_a_process(measure: Callable, *arguments):
    """measure(*arguments) in a new process, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], capture_output=True, text=True, cwd=RESULTS.parents[1]
    ).stdout.strip()


def commit() -> str:
    """The commit that was measured, marked where the tree had changes beside the results
    themselves."""
    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"
    )
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def machine() -> str:
    torch_here = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch_here}"


def mean_sem(runs: list) -> dict | list:
    """[mean, standard error] over runs of nested dictionaries of numbers."""
    if isinstance(runs[0], dict):
        return {key: mean_sem([run[key] for run in runs]) for key in runs[0]}
    values = np.asarray(runs, float)
    sem = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return [round(float(values.mean()), 4), round(float(sem), 4)]


def save_result(name: str, figures: dict, **about) -> None:
    """Write the figures to results/NAME.json and print them as one line of JSON."""
    RESULTS.mkdir(exist_ok=True)
    record = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(),
        **about,
        **figures,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, default=float) + "\n")
    print(json.dumps(figures, default=float))
