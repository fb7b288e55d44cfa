"""The settings and data of a run, kept with its checkpoints, and a check that a run goes on with the
same."""

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
from metadyn.training.execution.checkpoint import damage_told, pointed, read_model_file, read_state


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
    of_sessions = {counts.session: trial_digests(counts) for counts in sessions} if digests else {}
    return RunRecord(settings, of_sessions)


def trial_digests(counts: TrialCounts) -> dict[str, list]:
    """How many windows, observed bins and condition labels a session has, each with a digest of
    them; and how many spikes, unless its units have digests of their own."""
    windows, observed = counts.windows, counts.observed_entries
    labels = np.asarray([] if counts.condition is None else counts.condition, dtype=str)
    digests = {
        "windows": [len(windows), digest(windows.start, windows.n_bins)],
        "observed bins": [int(counts.observed.sum()), digest(observed)],
        "condition labels": [len(set(labels.tolist()) - {""}), digest(labels)],
    }
    return (
        digests
        if counts.unit_digests is not None
        else {**digests, "spikes": [int(counts.counts.sum()), digest(counts.counts)]}
    )


def digest(*arrays: np.ndarray) -> str:
    """The first 16 digits of the sha256 of the arrays' values."""
    whole = sha256()
    for values in arrays:
        whole.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
    return whole.hexdigest()[:16]


def check_same(folder: Path, sessions: list[TrialCounts], record: RunRecord) -> None:
    """Raise a TrainingError that names what differs where the run in the folder was started with
    other settings or data.

    sessions: the trials that train, whose units are those that the run kept.
    """
    checkpoint = pointed(folder, "latest")
    _, metrics = read_state(checkpoint)
    if not metrics:
        problem = "this folder holds a finished model, and no run to go on with"
        raise TrainingError(problem, file=folder, remedy="another folder (`output`)")
    entries = read_model_file(checkpoint / "model.safetensors").sessions
    with damage_told(checkpoint):
        then = {section: modern(section, part) for section, part in metrics["settings"].items()}
        settings = other_settings(then, record.settings)
        data = other_sessions(entries, sessions, metrics.get("sessions", {}), record.sessions)
    if settings or data:
        remedies = [
            f"{as_keywords({'config': str(checkpoint / 'config.toml')})} and no options for these settings"
        ] * bool(settings)
        remedies += ["the recordings as they were"] * bool(data)
        if then["training"].keys() != record.settings["training"].keys():
            # Recorded by another version, whose config.toml lacks what this one asks for
            remedies = []
        raise TrainingError(
            "the run in this folder was started with other settings or files",
            file=folder,
            found="; ".join([*settings, *data]),
            remedy=", or ".join([*remedies, "another folder (`output`)"]),
        )


def other_settings(then: dict, now: dict) -> list[str]:
    """Each setting that differs, with both values."""
    before, after = (
        {f"{section}.{key}": value for section in part for key, value in part[section].items()}
        for part in (then, now)
    )
    return [
        f"{key} {_shown(before.get(key))} in the run, {_shown(after.get(key))} now"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value)


def other_sessions(
    entries: tuple[SessionEntry, ...], sessions: list[TrialCounts], then: dict, now: dict
) -> list[str]:
    """What differs in each session that is given from that of the run; `then` and `now` are their
    `trial_digests`."""
    before, after = [entry.key for entry in entries], [counts.session for counts in sessions]
    if before != after:
        return [f"sessions {', '.join(before)} in the run, {', '.join(after)} now"]
    found = []
    for entry, counts in zip(entries, sessions, strict=True):
        units, trials = (
            entry.other_data(counts),
            other_trials(then.get(entry.key, {}), now[entry.key]),
        )
        differing = [*([units] if units else []), *trials]
        found += [f"session {entry.key}: {', '.join(differing)}"] if differing else []
    return found


def other_trials(then: dict, now: dict) -> list[str]:
    """What differs between two `trial_digests`, as far as both have it."""
    differing = {
        name: (then[name][0], now[name][0])
        for name in now
        if name in then and list(then[name]) != list(now[name])
    }
    return [
        f"other {name}" if before == after else f"{before} {name} in the run, {after} now"
        for name, (before, after) in differing.items()
    ]
