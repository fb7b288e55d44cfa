"""From measurements of sessions, draws and seeds to [mean, standard error over seeds]."""

from __future__ import annotations

import numpy as np

from benchmarks.paper.measures import bounded
from benchmarks.record import mean_sem


def over_sessions(sessions: dict[str, dict]) -> dict[str, float]:
    """{session: {measure: value or one a draw}} → {measure: mean over draws and sessions}, each
    value `bounded`."""
    measures = next(iter(sessions.values())) if sessions else ()
    return {
        measure: float(
            np.mean(
                [
                    [bounded(value) for value in np.atleast_1d(each[measure])]
                    for each in sessions.values()
                ]
            )
        )
        for measure in measures
    }


def row(measurement: dict) -> dict:
    """One seed of one method: {measure: value}, {measure: {n_s: value}} for groups that are numbers
    of trials."""
    found: dict = {}
    for group, sessions in measurement["sessions"].items():
        for measure, value in over_sessions(sessions).items():
            if group.isdigit():
                found.setdefault(measure, {})[group] = value
            else:
                found[measure if group == "new" else f"{group}_{measure}"] = value
    return found | measurement["figures"]


def table(found: dict[int, dict[str, dict]]) -> dict:
    """{seed: {method: measurement}} → {method: {measure: [mean, sem] or {n_s: [mean, sem]}}}."""
    first = next(iter(found.values()))
    return {
        method: without_nan(mean_sem([row(each[method]) for each in found.values()]))
        for method in first
    }


def without_nan(values: dict | list) -> dict | list:
    """None for the standard error of one seed: JSON knows no NaN."""
    if isinstance(values, dict):
        return {key: without_nan(value) for key, value in values.items()}
    return [value if np.isfinite(value) else None for value in values]


def rounded(values):
    """Numbers in nested dictionaries and lists to four places."""
    if isinstance(values, dict):
        return {str(key): rounded(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [rounded(value) for value in values]
    return round(values, 4) if isinstance(values, float) else values
