"""kill -9 at random moments of fit, align, annotate and package.

Each runs in a forked process, all imports done, and is killed at a moment drawn evenly from the
time that it takes (one that was done before does not count). Afterwards every source is
byte-identical, every pointer of a model folder names a checkpoint that loads, every file with a
target's name is complete (it holds what that of an undisturbed run holds), and the same run again,
of `fit` with --resume where there is a checkpoint, of `annotate` and `package` with --overwrite,
ends well and leaves no unfinished file. Of `package` the writing is tried, without the findings,
which only read.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

import metadyn
from metadyn.config import load_config
from metadyn.training.execution.checkpoint import load_model, pointed, read_model_file, read_state
from tests.hostile.sandbox import contents, hidden
from tests.hostile.verbs import SIZES, STEPS, command

HASTE = (
    "--pretrain-steps",
    5,
    "--steps",
    25,
    "--validate-every",
    2,
    "--latent-hidden",
    4,
    "--hidden",
    4,
    4,
)


@dataclass(frozen=True)
class Job:
    """Something that writes below `output`: `first`, and `again` after it was killed; both say
    whether they worked."""

    output: Path
    first: Callable[[], bool]
    again: Callable[[], bool]


def jobs(folder: Path) -> dict[str, Job]:
    """The four of them, on three simulated recordings and what is made of these, below
    `folder`/given."""
    given, out = folder / "given", folder / "out"
    files = metadyn.simulate(
        "limit-cycle", given / "raw", n_sessions=3, units=(4, 4), n_trials=6, n_bins=30
    )
    metadyn.fit(files[:2], given / "model", load_config(model=SIZES, training=STEPS))
    derived = metadyn.annotate(given / "model", files[:2], given / "derived", derive=True)

    def run(verb: str, *arguments) -> bool:
        return command(verb, *arguments, "-o", out / verb).word == "worked"

    def fit_again() -> bool:
        return run("fit", *files[:2], *HASTE, *["--resume"] * (out / "fit" / "latest").exists())

    def align_again() -> bool:
        return (out / "align" / "best").exists() or align()  # a whole model is not written over

    def package(overwrite: bool) -> bool:
        return bool(metadyn.package(derived, out / "package", overwrite=overwrite))

    align = partial(run, "align", given / "model", files[2], "--trials", 2, "--steps", 1)
    annotate = partial(run, "annotate", given / "model", *files[:2])
    return {
        "fit": Job(out / "fit", partial(run, "fit", *files[:2], *HASTE), fit_again),
        "align": Job(out / "align", align, align_again),
        "annotate": Job(out / "annotate", annotate, partial(annotate, "--overwrite")),
        "package": Job(out / "package", partial(package, False), partial(package, True)),
    }


def killed_after(seconds: float, work: Callable[[], bool]) -> bool:
    """Do the work in a forked process and kill it after that time; whether it was still at it."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # of a fork beside threads; the child starts none
        number = os.fork()
    if number == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return os.WIFSIGNALED(status)


def inside(folder: Path) -> dict[str, list[str]]:
    """The paths in each NWB file below a folder, and the lines of each YAML; files with private
    names apart."""
    found = {}
    for path in sorted(folder.rglob("*.nwb")) + sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder)
        if path.suffix == ".nwb" and not hidden(name):
            with h5py.File(path, "r") as file:
                found[str(name)] = names = []
                file.visit(names.append)
        elif not hidden(name):
            found[str(name)] = path.read_text().splitlines()
    return found


def unfinished(folder: Path) -> list[str]:
    return [name for name in contents(folder) if hidden(Path(name))]


def load_checkpoints(folder: Path) -> int:
    """How many checkpoints the folder's pointers name, all of which load."""
    named = [pointer for pointer in ("best", "latest") if (folder / pointer).exists()]
    for pointer in named:
        read_model_file(pointed(folder, pointer) / "model.safetensors")
        read_state(pointed(folder, pointer))
    if "best" in named:
        load_model(folder)
    return len(named)


def crash(job: Job, sources: Path, kills: int, seed: int = 0) -> Counter:
    """Kill the job so many times and look at what is left; raises AssertionError where something
    was lost."""
    began = time.monotonic()
    assert job.first(), "it fails undisturbed"
    took, whole = time.monotonic() - began, inside(job.output)
    before, found = contents(sources), Counter()
    rng = np.random.default_rng(seed)
    while found["killed"] < kills:
        shutil.rmtree(job.output, ignore_errors=True)
        moment = rng.uniform(0, took)
        if not killed_after(moment, job.first):
            took = moment  # it was done before that
            continue
        found["killed"] += 1
        assert contents(sources) == before, "a source was changed"
        left = inside(job.output)
        assert all(left[name] == whole[name] for name in left), "a partial file has a target's name"
        found["whole files left"] += len(left)
        found["unfinished files left"] += len(unfinished(job.output))
        found["checkpoints left, all loaded"] += load_checkpoints(job.output)
        assert job.again(), "the next run failed"
        assert inside(job.output) == whole, "the next run made something else"
        assert not unfinished(job.output), "an unfinished file stayed"
        load_checkpoints(job.output)
        found["next run succeeded"] += 1
    return found
