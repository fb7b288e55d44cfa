"""The as_line that fit, align and score end in: how the model compares with its baselines, and what
to run next."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from metadyn.data.splits import evenly_spaced
from metadyn.errors import WindowError
from metadyn.pipeline.commands import as_flags
from metadyn.pipeline.comparison import baselines_ahead, summary
from metadyn.pipeline.next_command import (
    EMBEDDINGS_ALIKE,
    as_arguments,
    fit_command,
    recordings_of,
    settings_to_try,
    shown,
    shown_model,
    unused_folder,
)
from metadyn.records import TrialCounts

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel

ALIKE = "the embeddings of sessions are alike (no fault if sessions do not differ)"
# A verdict after a fit costs little: so many windows of so many sessions are scored
MOST_WINDOWS = 16
MOST_SESSIONS = 20


def of_fit(
    trained: TrainedModel,
    sessions: Sequence[TrialCounts],
    files: object,
    output: str | Path | None,
    skip_bad: bool = False,
) -> str:
    """The verdict after a fit, on some validation windows of up to MOST_SESSIONS sessions; windows
    kept for tests take no part.

    Parameters
    ----------
    trained, sessions : the model and the counts that it was fitted to.
    files, output : as they were given to the fit.
    skip_bad : the next command leaves out what the fit did.
    """
    chosen = [sessions[i] for i in evenly_spaced(len(sessions), MOST_SESSIONS)]
    part = "validation" if trained.training.validation_fraction else "training"
    scores = scores_of_spikes(trained, [few_windows(trained, counts, part) for counts in chosen])
    trained_on = [few_windows(trained, counts, "training") for counts in chosen]
    findings = faults_of(trained, trained_on, scores)
    given = as_arguments(files)
    folder = as_arguments([] if output is None else output)
    if findings:
        command = fit_command(trained, given, folder, settings_to_try(findings, trained))
    else:
        command = f"metadyn annotate {shown_model(*folder)} {shown(given)} -o annotated"
    return as_line(f"{part} windows", findings, scores, command + " --skip-bad" * skip_bad)


def of_align(
    trained: TrainedModel,
    counts: TrialCounts,
    model: object,
    file: object,
    output: str | Path | None,
    options: dict[str, Any],
    trials: int | None,
) -> str:
    """The verdict after an alignment, on windows that it was fitted to; the others are for `score`.

    Parameters
    ----------
    trained, counts : the model that knows the new session, and its counts.
    model, file, output, trials : as they were given to the alignment.
    options : those of the data that were given.
    """
    few = few_windows(trained, counts, "training")
    scores = scores_of_spikes(trained, [few])
    findings = faults_of(trained, [few], scores)
    files = shown(as_arguments(file))
    first = shown_model(*as_arguments(model))
    folder = as_arguments([] if output is None else output)
    if findings:
        more = {"max_steps": 500} if trials is None else {"trials": 2 * trials}
        flags = as_flags({**options, **more})
        command = f"metadyn align {first} {files} -o {unused_folder(*folder)} {flags}"
    else:
        command = f"metadyn score {shown_model(*folder)} {files} {as_flags(options)}".strip()
    return as_line("windows aligned to", findings, scores, command)


def of_score(
    trained: TrainedModel, counts: TrialCounts, scores: xr.Dataset, model: object, file: object
) -> str:
    """The verdict on the windows `counts` that were scored.

    `model` and `file` are as they were given.
    """
    findings = faults_of(trained, [counts], [scores])
    folder = as_arguments(model)
    if findings:
        files = recordings_of(trained, file)
        command = fit_command(trained, files, folder, settings_to_try(findings, trained))
    else:
        files = as_arguments(file)
        command = f"metadyn annotate {shown_model(*folder)} {shown(files)} -o annotated"
    return as_line(f"{scores.attrs['windows']} windows", findings, [scores], command)


def faults_of(
    trained: TrainedModel, sessions: list[TrialCounts], scores: list[xr.Dataset]
) -> dict[str, str]:
    """Faults in words, by name, the worst first: embeddings that are alike, then measures in which
    a baseline is ahead."""
    found = {EMBEDDINGS_ALIKE: ALIKE} if collapsed(trained, sessions) else {}
    return found | baselines_ahead(scores)


def collapsed(trained: TrainedModel, sessions: list[TrialCounts]) -> bool:
    """Whether the embeddings of sessions differ no more than those of trials within one (as
    `training.health` has it)."""
    from metadyn.inference.encoding import trial_embeddings
    from metadyn.training.health import is_collapsed

    known = [entry.embedding_mean for entry in trained.sessions if entry.embedding_mean]
    if len(known) < 2 or not trained.module.dynamics.embedded:
        return False
    variances = []
    for counts in sessions:
        mean = trial_embeddings(trained, counts).mean[0].numpy(force=True)  # (trial, embedding)
        variances.append(mean.var(0))
    return is_collapsed(np.std(known, axis=0, ddof=1), np.sqrt(np.mean(variances, 0)))


def few_windows(trained: TrainedModel, counts: TrialCounts, part: str) -> TrialCounts:
    """Up to MOST_WINDOWS of a session's `validation` or `training` windows, evenly spread, of the
    units that the model knows."""
    entry = trained.sessions[trained.index(counts.session)]
    if part == "training":
        chosen = entry.trained_on(counts)
    else:
        chosen = entry.held_out(counts) & ~entry.never_met(counts)
    windows = np.flatnonzero(chosen)
    units = np.flatnonzero(np.isin(counts.unit_rows, entry.unit_rows))
    return counts.select(windows[evenly_spaced(len(windows), MOST_WINDOWS)], units)


def scores_of_spikes(trained: TrainedModel, sessions: list[TrialCounts]) -> list[xr.Dataset]:
    """Scores without behaviour of the sessions whose windows are long enough."""
    from metadyn.inference.scores import score

    found = []
    for counts in sessions:
        with contextlib.suppress(WindowError):
            found.append(score(trained, replace(counts, behavior=None)))
    return found


def as_line(part: str, findings: dict[str, str], scores: list[xr.Dataset], command: str) -> str:
    """The verdict in one as_line: on which windows it rests, what was found, what to run next."""
    if findings:
        return f"verdict ({part}): {'; '.join(findings.values())}; try: {command}"
    return f"verdict ({part}): {summary(scores)}; next: {command}"
