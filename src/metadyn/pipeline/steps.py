"""The public verbs: read, call, save. One function per step; each takes files, folders, sessions or
counts.

A recording is a path, an address (`https://…`, `dandi://…`), `NAME=FILE`, an open NWBFile, a
`Session` or `TrialCounts`; a model is a folder that `fit` or `align` wrote, an NWB file that
`annotate` wrote or its address, or a `TrainedModel`. torch and pynwb are imported when a step needs
them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from metadyn.config import Config, load_config, plain_numbers
from metadyn.data.splits import evenly
from metadyn.data.storage import is_on_disk, nearest
from metadyn.errors import ConfigError
from metadyn.pipeline import verdict
from metadyn.pipeline.annotation import annotate
from metadyn.pipeline.inputs import check_distinct, recordings, single
from metadyn.pipeline.models import (
    counts_for,
    counts_to_align,
    load_model,
    on_device,
    stored_options,
)
from metadyn.pipeline.reading import read_all
from metadyn.pipeline.scoring import save_scores, score
from metadyn.pipeline.sharing import derive, fetch, findings, package, upload
from metadyn.pipeline.skipping import skipping
from metadyn.records import Session, TrialCounts

__all__ = [
    "align",
    "annotate",
    "bin_spikes",
    "derive",
    "fetch",
    "findings",
    "fit",
    "forecast",
    "infer",
    "load_config",
    "load_model",
    "package",
    "read_session",
    "save_model",
    "save_scores",
    "score",
    "simulate",
    "upload",
]

ALL_AT_ONCE = "the counts are more than memory shall hold, but each step takes all sessions: with --sessions-per-step 20 it takes few"


def read_session(source, *, key: str | None = None, behavior=()) -> Session:
    """One recording; see `metadyn.nwb.read.read_session`."""
    from metadyn.nwb.read import read_session

    return read_session(source, key=key, behavior=behavior)


def bin_spikes(session: Session, **options) -> TrialCounts:
    """Counts in windows; options are the fields of `DataConfig`, see
    `metadyn.data.binning.bin_spikes`."""
    from metadyn.data.binning import bin_spikes

    return bin_spikes(session, **plain_numbers(options))


def simulate(family: str, output: str | Path, **options) -> list[Path]:
    """Simulate sessions and write them below `output` as NWB files that lie as in a dandiset;
    returns their paths.

    `options` are those of `metadyn.data.synthetic.simulate`: parameters, n_sessions, n_trials,
    n_bins, units, rate_range [Hz], seed, ... Gaussian observations have no files: call that
    function for them.
    """
    from metadyn.data import synthetic
    from metadyn.nwb.simulate import write_simulated

    return [write_simulated(session, output) for session in synthetic.simulate(family, **options)]


def fit(
    files,
    output: str | Path | None = None,
    config: Config | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    deterministic: bool = False,
    memory: float | None = None,
    skip_bad: bool = False,
    report: Callable = lambda _: None,
):
    """Train one model on all recordings; returns the `TrainedModel`, kept in the folder `output` if
    given.

    Up to `memory` GiB of counts (by default a quarter of what is free) are held in memory; of all
    others the trials stay in files beside the model, which have no name and end with the run. Many
    files are read by several processes. With `skip_bad` recordings that cannot be used are left
    out, and a warning at the end says which and why.

    Raises
    ------
    DataError : a recording (with `skip_bad`: each) cannot be used, two share an identifier, or a
        process that reads was killed.
    DeviceError : there is no such device.
    ConfigError : `output` holds a model already and `resume` is not set.
    WriteError : `output` cannot be written, which is found before anything is read, or the disk is
        full.
    """
    from metadyn.training.execution.devices import find_device, fixed_order
    from metadyn.training.execution.loop import StepReport
    from metadyn.training.fit import fit

    find_device(device)
    config = config or Config()
    folder = _model_folder(output, resume)
    given = recordings(files, absent_too=skip_bad)
    with skipping(skip_bad) as skipped:
        options = {
            "memory": memory,
            "report": lambda n: report(StepReport(n, len(given), "reading")),
        }
        sessions = read_all(given, config.data, nearest(folder), skipped=skipped, **options)
        check_distinct(skipped.kept(given), [counts.session for counts in sessions])
        if config.training.sessions_per_step is None and any(
            is_on_disk(counts.counts) for counts in sessions
        ):
            warnings.warn(ALL_AT_ONCE, stacklevel=2)
        options = {
            "data": stored_options(config.data),
            "folder": folder,
            "resume": resume,
            "device": device,
            "report": report,
        }
        with fixed_order(deterministic):
            trained = fit(sessions, config.model, config.training, **options)
            report(
                StepReport(
                    1,
                    1,
                    "verdict",
                    message=verdict.of_fit(trained, sessions, files, output, skip_bad),
                )
            )
        return trained


def align(
    model,
    file,
    output: str | Path | None = None,
    config: Config | None = None,
    *,
    data: dict | None = None,
    trials: int | None = None,
    device: str = "auto",
    report: Callable = lambda _: None,
):
    """Give a new recording a read-in and a likelihood; returns a `TrainedModel` that knows it too,
    kept in `output` if given.

    `data` are options for other windows or units than the model's; `trials` takes only that many
    windows, evenly spread. Raises WriteError where `output` cannot be written, before anything is
    trained; SelectionError where `data` name condition labels and these do not place the recording.
    Those of the model's own column are warned of.
    """
    from metadyn.training.alignment.align import align
    from metadyn.training.execution.loop import StepReport

    trained = on_device(load_model(model), device)
    folder = _model_folder(output, resume=False)
    counts, settings = (
        counts_to_align(trained, single(file), data or {}),
        (config or Config()).align,
    )
    if trials is not None:
        counts = counts.select(trials=evenly(counts.n_trials, trials))
        settings = settings.model_copy(
            update={"test_fraction": 0.0}
        )  # the other windows are for tests
    aligned = align(trained, counts, settings, device=device, report=report)
    if folder is not None:
        save_model(aligned, folder)
    said = verdict.of_align(aligned, counts, model, file, output, data or {}, trials)
    report(StepReport(1, 1, "verdict", message=said))
    return aligned


def infer(model, file, *, data: dict | None = None, device: str = "auto") -> xr.Dataset:
    """Smoothed latents, rates [Hz] and embeddings of a recording that the model knows; see
    `metadyn.inference.infer.infer`."""
    from metadyn.inference.infer import infer

    trained = on_device(load_model(model), device)
    return infer(trained, counts_for(trained, single(file), data))


def forecast(
    model,
    file,
    *,
    context: int,
    steps: int,
    samples: int = 0,
    seed: int = 0,
    data: dict | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """The `steps` bins after the first `context` bins of each window, which alone are seen: latents
    and rates [Hz].

    Windows shorter than the context are left out, with a warning; WindowError where none is left.
    """
    from metadyn.inference.forecast import forecast

    trained = on_device(load_model(model), device)
    counts = counts_for(trained, single(file), data)
    return forecast(trained, counts, context=context, steps=steps, samples=samples, seed=seed)


def save_model(trained, folder: str | Path) -> Path:
    """Keep a model in a folder that `load_model` reads; returns the folder."""
    from metadyn.training.execution import checkpoint

    return checkpoint.save_model(trained, folder)


def _model_folder(output: str | Path | None, resume: bool) -> Path | None:
    """The folder for a model, which can be written; one that holds a model already is not written
    over."""
    from metadyn.training.execution.checkpoint import check_writable

    if output is None:
        return None
    folder = Path(output).expanduser()
    check_writable(folder)
    if (folder / "best").exists() and not resume:
        remedy = "another folder (-o), or --resume to go on with the run that it holds"
        raise ConfigError("the folder holds a model already", file=folder, remedy=remedy)
    return folder
