"""Which interval table to take windows from, and its columns of event times."""

from __future__ import annotations

import difflib
import warnings

import numpy as np
import pandas as pd

from metadyn.data.ticks import LATEST
from metadyn.errors import WindowError, as_flags
from metadyn.records import Session

RECORDING = "recording"  # what `intervals` says for windows end to end over the whole recording
NO_TASK = ("epochs", "invalid_times")  # tables that divide or mark a recording and hold no trials


def choose_table(session: Session, intervals: str | None) -> str | None:
    """The table to take windows from: the one named, else `trials`; None for the whole recording.

    Raises WindowError when the named table is missing or empty, and when a file without `trials` has other tables of a task.
    """
    if intervals is None and "trials" in session.intervals:
        intervals = "trials"
    if intervals == RECORDING and RECORDING not in session.intervals:
        return None
    if intervals is None:
        return _whole_recording(session)
    table = session.intervals.get(intervals)
    if table is None or len(table) == 0:
        problem = f"no interval table {intervals!r}" if table is None else f"the interval table {intervals!r} has no rows"
        raise WindowError(
            problem, file=session.source.uri, item=intervals, found=listing(session), remedy=_other_table(session, intervals)
        )
    return intervals


def table_option(name: str) -> dict:
    """The option that chooses this table; none for the one that is taken without it."""
    return {} if name == "trials" else {"intervals": name}


def _whole_recording(session: Session) -> None:
    tasks = task_tables(session.intervals)
    if tasks:
        remedy = f"--intervals {tasks[0]}, or --intervals {RECORDING} for windows end to end over the whole recording"
        problem = "the file has no trials, but other interval tables"
        raise WindowError(problem, file=session.source.uri, item="trials", found=listing(session), remedy=remedy)


def task_tables(tables: dict[str, pd.DataFrame]) -> list[str]:
    """The tables whose rows look like trials: they say more of a row than when it was."""
    return [
        name
        for name, table in tables.items()
        if len(table) and name not in NO_TASK and set(table.columns) - {"start_time", "stop_time", "tags"}
    ]


def _other_table(session: Session, asked: str) -> str:
    there = [name for name, table in session.intervals.items() if len(table)]
    nearest = difflib.get_close_matches(asked, there, n=1) or task_tables(session.intervals) or [RECORDING]
    return f"--intervals {nearest[0]}"


def listing(session: Session) -> str:
    """Every interval table with its rows and columns, on one line."""
    tables = [f"{name} ({len(table)} rows: {', '.join(table.columns)})" for name, table in session.intervals.items()]
    return "interval tables: " + ("; ".join(tables) or "none")


def event_columns(table: pd.DataFrame) -> list[str]:
    """The columns named `..._time` of event times in seconds on the session's clock.

    A column that ends before the first row starts counts from the start of each row, and is none.
    """
    names = [
        name for name in table.columns if name.endswith(("_time", "_times")) and pd.api.types.is_numeric_dtype(table[name])
    ]
    return [name for name in names if table[name].max() >= table["start_time"].min()]


def event_times(session: Session, name: str, column: str) -> np.ndarray:
    """A column of event times (row,) [s], NaN where there is none. Raises WindowError when it is no such column."""
    table = session.intervals[name]
    if column in table and pd.api.types.is_numeric_dtype(table[column]):
        return table[column].to_numpy(dtype=np.float64)
    problem = f"column {column!r} holds no times" if column in table else f"no event column {column!r} in {name!r}"
    nearest = difflib.get_close_matches(column, event_columns(table), n=1) or ["start_time"]
    found = f"event columns: {', '.join(event_columns(table)) or 'none'}"
    raise WindowError(problem, file=session.source.uri, item=f"{name}.{column}", found=found, remedy=f"--align {nearest[0]}")


def usable_rows(session: Session, name: str, rows: np.ndarray, times: dict[str, np.ndarray]) -> np.ndarray:
    """Of `rows`, those whose `times` are all there; the others are left out with a warning, or an error if that is all."""
    missing = {column: ~(np.abs(values[rows]) <= LATEST) for column, values in times.items()}
    lost = np.logical_or.reduce(list(missing.values()))
    if not lost.any():
        return rows
    counts = ", ".join(f"{column} in {mask.sum()}" for column, mask in missing.items() if mask.any())
    if lost.all():
        raise _no_times(session, name, len(rows), missing, counts)
    found = f"{lost.sum()} of {len(rows)} rows of {name} lack a time ({counts})"
    warnings.warn(f"{session.source.uri or session.key}: {found}; left out", stacklevel=5)
    return rows[~lost]


def _no_times(session, name, n_rows, missing, counts) -> WindowError:
    worst = max(missing, key=lambda column: missing[column].sum())
    usable = {other: event_columns(table) for other, table in session.intervals.items()}
    found = f"no time (NaN) in {counts} of {n_rows} rows; " + "; ".join(
        f"{other} has {', '.join(columns) or 'no times'}" for other, columns in usable.items()
    )
    event = next((column for column in usable[name] if column != worst), "start_time")
    options = {**table_option(name), "align": event, "n_bins": 50}
    problem, item = f"no row of {name!r} has a {worst}", f"{name}.{worst}"
    return WindowError(problem, file=session.source.uri, item=item, found=found, remedy=as_flags(options), options=options)
