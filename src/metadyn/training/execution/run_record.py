"""The settings and data of a run, kept with its checkpoints, and a check that the same run goes
on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from metadyn.config import ModelConfig, TrainingConfig
from metadyn.errors import TrainingError, as_keywords
from metadyn.old_words import modern
from metadyn.records import SessionEntry, TrialCounts
from metadyn.training.execution.checkpoint import (
    damage_as_error,
    pointed,
    read_model_file,
    read_state,
)


@dataclass(frozen=True)
class RunRecord:
    """The `settings` of a run by section, and the `trial_digests` of each session by its key."""

    settings: dict
    sessions: dict[str, dict]


def record_run(
    sessions: list[TrialCounts],
    config: ModelConfig,
    training: TrainingConfig,
    data: dict,
    *,
    digests: bool,
) -> RunRecord:
    """The record of a run with these settings; digests of the trials only if they are asked for.

    data: the options that the bins were made with.
    """
    settings = {
        "model": config.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
        "data": data,
    }
    # Digests read all counts, so they are made only for a run that is kept
    of_sessions = {counts.session: trial_digests(counts) for counts in sessions} if digests else {}
    return RunRecord(settings, of_sessions)


def trial_digests(counts: TrialCounts) -> dict[str, list]:
    """By what can differ between the trials of two runs: [how many, a digest of them].

    Windows, observed bins and condition labels; and spikes, unless the units have digests of their
    own.
    """
    windows = counts.windows
    labels = np.asarray([] if counts.condition is None else counts.condition, dtype=str)
    n_labels = len(set(labels.tolist()) - {""})  # an empty label is none
    digests = {
        "windows": [len(windows), digest(windows.start, windows.n_bins)],
        "observed bins": [int(counts.observed.sum()), digest(counts.observed_entries)],
        "condition labels": [n_labels, digest(labels)],
    }
    if counts.unit_digests is None:
        digests["spikes"] = [int(counts.counts.sum()), digest(counts.counts)]
    return digests


def digest(*arrays: np.ndarray) -> str:
    """The first 16 digits of the sha256 of the arrays' values.

    >>> digest(np.array([1.0, 2.0])) == digest(np.array([1.0]), np.array([2.0]))
    True
    """
    hashed = sha256()
    for values in arrays:
        hashed.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()[:16]


def check_same(folder: Path, sessions: list[TrialCounts], record: RunRecord) -> None:
    """Raise a TrainingError where the run in the folder was started with other settings or data.

    The error names what differs. sessions: the trials that train, whose units are those that the
    run kept.
    """
    checkpoint = pointed(folder, "latest")
    _, metrics = read_state(checkpoint)
    if not metrics:
        problem = "this folder holds a finished model, and no run to go on with"
        raise TrainingError(problem, file=folder, remedy="another folder (`output`)")
    entries = read_model_file(checkpoint / "model.safetensors").sessions
    with damage_as_error(checkpoint):
        before = {section: modern(section, part) for section, part in metrics["settings"].items()}
        settings = other_settings(before, record.settings)
        data = other_sessions(entries, sessions, metrics.get("sessions", {}), record.sessions)
        same_version = all(
            before[section].keys() == record.settings[section].keys()
            for section in ("model", "training")
        )
    if not settings and not data:
        return
    remedies = []
    if settings:
        config = as_keywords({"config": str(checkpoint / "config.toml")})
        remedies.append(f"{config} and no options for these settings")
    if data:
        remedies.append("the recordings as they were")
    if not same_version:  # its config.toml lacks settings that this version asks for
        remedies = []
    raise TrainingError(
        "the run in this folder was started with other settings or files",
        file=folder,
        found="; ".join([*settings, *data]),
        remedy=", or ".join([*remedies, "another folder (`output`)"]),
    )


def other_settings(then: dict, now: dict) -> list[str]:
    """Each setting that differs between settings by section, with both values.

    >>> other_settings({"training": {"steps": 5}}, {"training": {"steps": 9}})
    ['training.steps 5 in the run, 9 now']
    """
    # By "section.setting"
    before, after = (
        {f"{section}.{key}": value for section in part for key, value in part[section].items()}
        for part in (then, now)
    )
    return [
        f"{key} {_setting_text(before.get(key))} in the run, {_setting_text(after.get(key))} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _setting_text(value: object) -> str:
    """A setting as a message shows it."""
    return "not set" if value is None else json.dumps(value)


def other_sessions(
    entries: tuple[SessionEntry, ...],
    sessions: list[TrialCounts],
    then: dict[str, dict],
    now: dict[str, dict],
) -> list[str]:
    """What differs between the sessions of the run and those that are given now.

    entries: of the run's model. then, now: `trial_digests` by session.
    """
    before = [entry.key for entry in entries]
    after = [counts.session for counts in sessions]
    if before != after:
        return [f"sessions {', '.join(before)} in the run, {', '.join(after)} now"]
    found = []
    for entry, counts in zip(entries, sessions, strict=True):
        units = entry.other_data(counts)
        trials = other_trials(then.get(entry.key, {}), now[entry.key])
        differing = [units, *trials] if units else trials
        if differing:
            found.append(f"session {entry.key}: {', '.join(differing)}")
    return found


def other_trials(then: dict[str, list], now: dict[str, list]) -> list[str]:
    """What differs between two `trial_digests`, as far as both have it.

    >>> other_trials({"windows": [8, "1f"]}, {"windows": [9, "2e"]})
    ['8 windows in the run, 9 now']
    """
    found = []
    for name in now:
        if name not in then or list(then[name]) == list(now[name]):
            continue
        before, after = then[name][0], now[name][0]
        if before == after:
            found.append(f"other {name}")
        else:
            found.append(f"{before} {name} in the run, {after} now")
    return found
