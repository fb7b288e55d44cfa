"""`metadyn.fit`: one model of many recordings, kept in a folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from metadyn.config import Config
from metadyn.data.storage import existing_folder, is_on_disk
from metadyn.errors import ConfigError
from metadyn.pipeline import verdict
from metadyn.pipeline.inputs import Recording, check_distinct, recordings
from metadyn.pipeline.models import stored_options
from metadyn.pipeline.reading import read_all
from metadyn.pipeline.skipping import Skipped, skipping
from metadyn.records import TrialCounts

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel
    from metadyn.training.execution.loop import StepReport


def fit(
    files: object,
    output: str | Path | None = None,
    config: Config | None = None,
    *,
    resume: bool = False,
    device: str = "auto",
    deterministic: bool = False,
    memory: float | None = None,
    skip_bad: bool = False,
    report: Callable[[StepReport], None] = lambda _: None,
) -> TrainedModel:
    """Train one model on all recordings.

    Many files are read by several processes. The counts that memory shall not hold stay in files
    beside the model, which have no name and end with the run.

    Parameters
    ----------
    files : a recording or several: paths, folders, addresses (`https://…`, `dandi://…`),
        `NAME=FILE`, open NWBFiles, Sessions or TrialCounts.
    output : folder that keeps the model; None keeps none.
    config : of windows, model and training; default: the package's.
    resume : go on with the run that `output` holds.
    device : auto, cpu or cuda.
    deterministic : the same weights each time on this machine; slower on a GPU.
    memory : GiB of counts held in memory; default: a quarter of what is free.
    skip_bad : leave out recordings that cannot be used; a warning at the end says which and why.
    report : called with the progress of reading and training.

    Raises
    ------
    DataError : a recording (with `skip_bad`: each) cannot be used, two share an identifier, or a
        process that reads was killed.
    DeviceError : there is no such device.
    ConfigError : `output` holds a model already and `resume` is not set.
    WriteError : `output` cannot be written, which is found before anything is read, or the disk is
        full.
    """
    from metadyn.training import fit as training
    from metadyn.training.execution.devices import find_device, fixed_order
    from metadyn.training.execution.loop import StepReport

    find_device(device)
    config = config or Config()
    folder = model_folder(output, resume)
    given = recordings(files, absent_too=skip_bad)
    with skipping(skip_bad) as skipped:
        sessions = read_all(
            given,
            config.data,
            existing_folder(folder),
            memory=memory,
            report=lambda n: report(StepReport(n, len(given), "reading")),
            skipped=skipped,
        )
        _check(sessions, given, skipped, config)
        with fixed_order(deterministic):
            trained = training.fit(
                sessions,
                config.model,
                config.training,
                data=stored_options(config.data),
                folder=folder,
                resume=resume,
                device=device,
                report=report,
            )
            said = verdict.of_fit(trained, sessions, files, output, skip_bad)
            report(StepReport(1, 1, "verdict", message=said))
    return trained


def _check(
    sessions: list[TrialCounts], given: list[Recording], skipped: Skipped, config: Config
) -> None:
    """DataError where two sessions have one name; a warning where each step would read the disk."""
    check_distinct(skipped.kept(given), [counts.session for counts in sessions])
    on_disk = any(is_on_disk(counts.counts) for counts in sessions)
    if on_disk and config.training.sessions_per_step is None:
        warnings.warn(
            "the counts are more than memory shall hold, but each step takes all sessions: "
            "with `sessions_per_step=20` it takes few",
            stacklevel=3,
        )


def model_folder(output: str | Path | None, resume: bool) -> Path | None:
    """The folder for a model, which can be written; None where none is kept.

    Raises ConfigError where it holds a model already, unless a run is to be resumed.
    """
    from metadyn.training.execution.checkpoint import check_writable

    if output is None:
        return None
    folder = Path(output).expanduser()
    check_writable(folder)
    if (folder / "best").exists() and not resume:
        remedy = "another folder (`output`), or `resume=True` to go on with the run that it holds"
        raise ConfigError("the folder holds a model already", file=folder, remedy=remedy)
    return folder
