"""Condition labels across sessions: which they share, and messages where they share none or few."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from jaxtyping import Shaped

from metadyn.data.binning import label_of
from metadyn.errors import DataError
from metadyn.records import TrialCounts

MAX_LISTED = 8  # labels that a message lists


def conditions(counts: TrialCounts) -> Shaped[np.ndarray, " trial"]:
    """The label of each window as text, empty where it has no condition; labels may be numbers."""
    if counts.condition is None:
        return np.asarray([""] * counts.n_trials)
    labels = np.asarray(counts.condition)
    return labels if labels.dtype.kind == "U" else np.array([label_of(each) for each in labels])


def labels_of(counts: TrialCounts) -> set[str]:
    """The labels of a session's windows."""
    return set(conditions(counts).tolist()) - {""}


def shared_labels(sessions: list[TrialCounts]) -> list[str]:
    """The labels that every session has, sorted."""
    return sorted(set.intersection(*[labels_of(counts) for counts in sessions]))


def all_labelled(sessions: list[TrialCounts]) -> bool:
    """Whether every session was binned with condition labels; a warning where only some were."""
    without = [counts.session for counts in sessions if counts.condition is None]
    if without and len(without) < len(sessions):
        names = ", ".join(without[:3])
        warnings.warn(
            f"{len(without)} of {len(sessions)} sessions have no condition labels ({names}); "
            "each session starts from its own activity, and labels are not used",
            stacklevel=2,
        )
    return not without


def check_shared(sessions: list[TrialCounts]) -> list[str]:
    """The labels that every session has.

    A warning where some are left out; raises DataError where no label is shared.
    """
    shared = shared_labels(sessions)
    every = set.union(*[labels_of(counts) for counts in sessions])
    if not shared:
        raise nothing_shared(sessions, every)
    left_out = every - set(shared)
    if left_out:
        used = "the shared latents are found by the condition labels that all sessions have"
        parts = [f"{used}: {listed(shared)}; left out: {listed(left_out)}", *_one_number(every)]
        warnings.warn("; ".join(parts), stacklevel=2)
    return shared


def nothing_shared(sessions: list[TrialCounts], every: set[str]) -> DataError:
    """The error of sessions without a shared label; `every` label of theirs is compared."""
    return DataError(
        "the sessions share no condition label, and so no average trial to find shared latents by",
        item=sessions[0].condition_name,
        found="; ".join([*map(_labels_by_file, sessions), *_one_number(every)]),
        remedy="another column (`condition`) that labels conditions alike in all files, "
        "or no `condition`: each session then starts from its own activity",
    )


def listed(labels: Iterable[str], most: int = MAX_LISTED) -> str:
    """Some labels, sorted, as a message shows them.

    >>> listed({"up", "left", "down"}, most=2)
    "'down', 'left', … (3)"
    """
    shown = sorted(labels)
    text = ", ".join(map(repr, shown[:most])) or "none"
    return f"{text}, … ({len(shown)})" if len(shown) > most else text


def _labels_by_file(counts: TrialCounts) -> str:
    """The labels of a session, behind the name of its file."""
    name = counts.source.uri or counts.session
    return f"{name}: {listed(labels_of(counts))}"


def _one_number(labels: set[str]) -> list[str]:
    """A sentence about two labels that differ as text and are one number, if there are such.

    1 stored as a number and "1.0" as text are.
    """
    by_number: dict[float, str] = {}
    for label in sorted(labels):
        number = _number(label)
        if number in by_number:
            return [
                f"{by_number[number]!r} and {label!r} are one number, "
                "but at least one is stored as text and text is compared"
            ]
        if number is not None:
            by_number[number] = label
    return []


def _number(label: str) -> float | None:
    """The number that a label stands for, if any."""
    try:
        return float(label)
    except ValueError:
        return None
