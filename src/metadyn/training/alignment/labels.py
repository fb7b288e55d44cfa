"""Condition labels across sessions: which they share, and the words for where they share none or
too few."""

from __future__ import annotations

import warnings

import numpy as np

from metadyn.data.binning import label_of
from metadyn.errors import DataError
from metadyn.records import TrialCounts

SHOWN = 8  # labels that a message lists


def conditions(counts: TrialCounts) -> np.ndarray:
    """The label of each window (trial,) as text, empty where it has no condition; labels may have
    been given as numbers."""
    given = np.asarray([""] * counts.n_trials if counts.condition is None else counts.condition)
    return given if given.dtype.kind == "U" else np.array([label_of(each) for each in given])


def labels_of(counts: TrialCounts) -> set[str]:
    """The labels of a session's windows."""
    return set(conditions(counts).tolist()) - {""}


def shared_labels(sessions: list[TrialCounts]) -> list[str]:
    """The labels that every session has, sorted."""
    return sorted(set.intersection(*[labels_of(counts) for counts in sessions]))


def check_shared(sessions: list[TrialCounts]) -> list[str]:
    """The labels that every session has; DataError where there is none, a warning where some are
    left out."""
    shared, every = shared_labels(sessions), set.union(*[labels_of(counts) for counts in sessions])
    if not shared:
        raise DataError(
            "the sessions share no condition label, and so no average trial to find a common frame by",
            item=sessions[0].condition_name,
            found="; ".join([*map(_told, sessions), *_alike(every)]),
            remedy="another column (`condition`) that labels conditions alike in all files, or no `condition`: "
            "each session then starts from its own activity",
        )
    left_out = every - set(shared)
    if left_out:
        said = f"the common frame is found by the condition labels that all sessions have: {listed(shared)}"
        warnings.warn(
            "; ".join([f"{said}; left out: {listed(left_out)}", *_alike(every)]), stacklevel=2
        )
    return shared


def _told(counts: TrialCounts) -> str:
    name = counts.source.uri or counts.session
    return f"{name}: {listed(labels_of(counts))}"


def listed(labels, most: int = SHOWN) -> str:
    """Some labels, sorted, as a message shows them."""
    shown = sorted(labels)
    return (", ".join(map(repr, shown[:most])) or "none") + (
        f", … ({len(shown)})" if len(shown) > most else ""
    )


def _alike(labels: set[str]) -> list[str]:
    """What to say of labels that differ as text and are one number, as 1 stored as a number and
    "1.0" as text are."""
    by_number: dict[float, str] = {}
    for label in sorted(labels):
        number = _number(label)
        if number in by_number:
            return [
                f"{by_number[number]!r} and {label!r} are one number, but at least one is stored as text and text is compared"
            ]
        if number is not None:
            by_number[number] = label
    return []


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


def all_labelled(sessions: list[TrialCounts]) -> bool:
    """Whether every session was binned with condition labels; a warning where only some were."""
    without = [counts.session for counts in sessions if counts.condition is None]
    if without and len(without) < len(sessions):
        said = f"{len(without)} of {len(sessions)} sessions have no condition labels ({', '.join(without[:3])})"
        warnings.warn(
            f"{said}; each session starts from its own activity, and labels are not used",
            stacklevel=2,
        )
    return not without
