"""A good file, and everything that reads one: the commands, and the readers of `ndx_metadyn`."""

from __future__ import annotations

import json
import os
import shutil
import time
import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py
from pynwb import NWBHDF5IO
from typer.testing import CliRunner

import metadyn
from metadyn.cli import app
from metadyn.config import load_config
from tests.hostile.sandbox import PYNWB, Verdict

SIZES = {
    "latent_hidden": 4,
    "embedding_hidden": 4,
    "readin_hidden": 4,
    "readin_dim": 3,
    "hidden": (4, 4),
    "hyper_hidden": 4,
}
STEPS = {"steps": 2, "pretrain_steps": 1, "validate_every": 2, "trials_per_session": 2}
FILE, MODEL, PLAN = (
    "day.nwb",
    "model",
    "plan.json",
)  # what a case spoils, in a folder of its own: a derived file, and a folder of checkpoints
NAME, NEW = "limit-cycle-0", "new"


def make_good(folder: Path) -> Path:
    """`folder`/good with FILE, derived with run, forecasts and model, MODEL, and a recording apart
    in `folder`."""
    good, raw = folder / "good", folder / "raw"
    options = {"n_sessions": 1, "units": (4, 4), "n_trials": 4, "n_bins": 30}
    recording = metadyn.simulate("limit-cycle", raw, **options)[0]
    metadyn.fit(f"{NAME}={recording}", good / MODEL, load_config(model=SIZES, training=STEPS))
    annotated = metadyn.annotate(
        good / MODEL, f"{NAME}={recording}", raw / "annotated", context=10, steps=5
    )[0]
    metadyn.derive(annotated, good / FILE)
    shutil.copy(recording, folder / "other.nwb")
    return good


def command(*arguments) -> Verdict:
    """What a command says: `refused` where it ends with an error and a message, `silent` without
    one."""
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(
        app, [str(each) for each in arguments]
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    raw = {
        each for each in result.stdout + result.stderr if unicodedata.category(each) in ("Cc", "Cs")
    } - {"\n", "\t"}
    if raw:
        return Verdict("steers the terminal", f"{raw} in {result.stdout + result.stderr}")
    if result.exit_code == 0:
        return Verdict("worked", result.stderr)
    return Verdict(
        "refused" if (result.stderr + result.stdout).strip() else "silent", result.stderr
    )


def inspect(folder: Path) -> Verdict:
    return command("inspect", folder / FILE)


def fit(folder: Path) -> Verdict:
    haste = (
        "--pretrain-steps",
        1,
        "--steps",
        2,
        "--latent-hidden",
        4,
        "--readin-hidden",
        4,
        "--hidden",
        4,
        4,
    )
    return command("fit", folder / FILE, "-o", folder / "out", *haste)


RESUMING = [
    word
    for name, value in (STEPS | SIZES).items()
    for word in (f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else [value]))
]


def resume(folder: Path) -> Verdict:
    spare = folder.parent / "resumed"  # a resumed run writes into its folder
    shutil.rmtree(spare, ignore_errors=True)
    shutil.copytree(folder / MODEL, spare)
    return command("fit", f"{NAME}={folder / FILE}", "-o", spare, "--resume", *RESUMING)


def align(folder: Path) -> Verdict:
    haste = ("--trials", 2, "--steps", 1)
    return command("align", folder / MODEL, f"{NEW}={folder / FILE}", "-o", folder / "out", *haste)


def align_to_it(folder: Path) -> Verdict:
    haste = ("--trials", 2, "--steps", 1)
    return command(
        "align", folder / FILE, f"{NEW}={folder.parent / 'other.nwb'}", "-o", folder / "out", *haste
    )


def infer(folder: Path) -> Verdict:
    try:
        metadyn.infer(folder / MODEL, f"{NAME}={folder / FILE}")
    except metadyn.errors.MetadynError as error:
        return Verdict("refused", str(error))
    return Verdict("worked")


def forecast(folder: Path) -> Verdict:
    return command(
        "forecast", folder / MODEL, f"{NAME}={folder / FILE}", "--context", 10, "--steps", 5
    )


def annotate(folder: Path) -> Verdict:
    return command(
        "annotate",
        folder / MODEL,
        f"{NAME}={folder / FILE}",
        "-o",
        folder / "out",
        "--name",
        "Again",
    )


def derive(folder: Path) -> Verdict:
    return command("derive", folder / FILE, "-o", folder / "out" / "slim.nwb")


def package(folder: Path) -> Verdict:
    return command("package", folder / FILE, "-o", folder / "out")


def model(folder: Path) -> Verdict:
    return command("model", folder / FILE, "-o", folder / "out" / "weights.safetensors")


def readers(folder: Path) -> Verdict:
    """Views and rollout of `ndx_metadyn`; a file that pynwb itself cannot open is pynwb's to
    tell."""
    from ndx_metadyn import rollout

    with ExitStack() as stack:
        try:
            run = opened(folder, stack).processing["ecephys"]["LatentDynamics"]
            start = run.embeddings["context_embedding"][:], run.embeddings["context_latent"][:]
        except Exception as error:
            return Verdict(PYNWB, str(error))
        try:
            run.to_xarray()
            rollout(run.model, *start, n_steps=3, input_key=run.input_key)
        except (ValueError, OSError) as error:
            return Verdict("refused" if str(error) else "silent", str(error))
    return Verdict("worked")


def opened(folder: Path, stack: ExitStack):
    return stack.enter_context(NWBHDF5IO(str(folder / FILE), "r")).read()


def checks(folder: Path) -> Verdict:
    """nwbinspector with the checks of `ndx_metadyn`; what nwbinspector says of a check that failed
    is a fault."""
    from nwbinspector import inspect_nwbfile_object

    import ndx_metadyn.checks as ours

    names = [name for name in dir(ours) if name.startswith("check_")]
    with ExitStack() as stack:
        try:
            nwbfile = opened(folder, stack)
        except Exception as error:
            return Verdict(PYNWB, str(error))
        found = list(inspect_nwbfile_object(nwbfile, select=names))
    return Verdict("refused", found[0].message) if found else Verdict("worked")


def annotate_twice(folder: Path) -> Verdict:
    """Two processes annotate one copy at once, as PLAN says: who ends well has its run in the file,
    the other is told."""
    plan = json.loads((folder / PLAN).read_text())
    copy = folder / "out" / FILE
    copy.parent.mkdir()
    shutil.copy(folder / FILE, copy)
    children = [_forked(partial(_annotate_late, folder, copy, **each)) for each in plan]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    target = copy if plan[0]["in_place"] else folder / "out" / "both" / FILE
    runs = set(h5py.File(target)["processing/ecephys"]) if target.exists() else set()
    expected = {each["name"] for each, code in zip(plan, codes, strict=True) if code == 0}
    if not set(codes) <= {0, 1} or not expected or not expected <= runs:
        return Verdict("lost a run", f"exit codes {codes}, runs {runs}, plan {plan}")
    return Verdict("worked" if codes == [0, 0] else "refused")


def _annotate_late(folder: Path, copy: Path, name: str, in_place: bool, wait: float) -> bool:
    """Whether annotating worked, after some seconds; leaves with an error where it was not told why
    not."""
    time.sleep(wait)
    where = ("--in-place",) if in_place else ("-o", folder / "out" / "both")
    verdict = command("annotate", folder / MODEL, f"{NAME}={copy}", *where, "--name", name)
    if not verdict.good:
        raise RuntimeError(verdict.said)
    return verdict.word == "worked"


def _forked(work: Callable[[], bool]) -> int:
    """The number of a process that ends with 0 where the work says True, 1 where it says False, 2
    where it fails."""
    number = os.fork()
    if number == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return number


VERBS = {
    each.__name__: each
    for each in (
        inspect,
        fit,
        resume,
        align,
        align_to_it,
        infer,
        forecast,
        annotate,
        derive,
        package,
        model,
        readers,
        checks,
        annotate_twice,
    )
}
