"""Which interval table to take windows from, and its columns of event times."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd

from metadyn.data.events import event_columns
from metadyn.data.ticks import LATEST
from metadyn.errors import WindowError, as_keywords
from metadyn.records import Session

RECORDING = "recording"  # what `intervals` says for windows end to end over the whole recording
NO_TASK = ("epochs", "invalid_times")  # tables that divide or mark a recording and hold no trials


def choose_table(session: Session, intervals: str | None) -> str | None:
    """The table to take windows from: the one of that name or path, else `trials`; None for the
    whole recording.

    Raises WindowError when the named table is missing or empty, or several have that name, and when
    a file without `trials` has other tables of a task.
    """
    if intervals is None:
        trials = tables_called("trials", session.intervals)
        if len(trials) == 1:
            return trials[0]
        _check_no_task(session)
        return None
    found = tables_called(intervals, session.intervals)
    if intervals == RECORDING and not found:
        return None
    if len(found) > 1:
        problem, remedy = (
            f"{len(found)} interval tables are called {intervals!r}",
            as_keywords({"intervals": found[0]}),
        )
        raise WindowError(
            problem, file=session.source.uri, item=intervals, found=listing(session), remedy=remedy
        )
    intervals = found[0] if found else intervals
    table = session.intervals.get(intervals)
    if table is None or len(table) == 0:
        problem = (
            f"no interval table {intervals!r}"
            if table is None
            else f"the interval table {intervals!r} has no rows"
        )
        raise WindowError(
            problem,
            file=session.source.uri,
            item=intervals,
            found=listing(session),
            remedy=_other_table(session, intervals),
        )
    return intervals


def tables_called(name: str, tables: Iterable[str]) -> list[str]:
    """The tables of that name or path: `trials` is behavior/trials too, where there is no table of
    the whole name."""
    return [name] if name in tables else [path for path in tables if path.endswith("/" + name)]


def table_option(name: str) -> dict:
    """The option that chooses this table; none for the one that is taken without it."""
    return {} if name == "trials" else {"intervals": name}


def _check_no_task(session: Session) -> None:
    """Raise WindowError where tables of a task are there, but none called `trials`."""
    tasks = task_tables(session.intervals)
    if tasks:
        remedy = (
            f"{as_keywords({'intervals': tasks[0]})}, or {as_keywords({'intervals': RECORDING})} "
            "for windows end to end over the whole recording"
        )
        problem = "the file has no trials, but other interval tables"
        raise WindowError(
            problem, file=session.source.uri, item="trials", found=listing(session), remedy=remedy
        )


def task_tables(tables: dict[str, pd.DataFrame]) -> list[str]:
    """The tables whose rows look like trials: they say more of a row than when it was, and lie
    where trials do."""
    return [
        name
        for name, table in tables.items()
        if len(table)
        and name not in NO_TASK
        and "/" not in name
        and set(table.columns) - {"start_time", "stop_time", "tags"}
    ]


def _other_table(session: Session, asked: str) -> str:
    """The remedy that names the table most like the one asked for."""
    there = [name for name, table in session.intervals.items() if len(table)]
    nearest = (
        difflib.get_close_matches(asked, there, n=1)
        or task_tables(session.intervals)
        or [RECORDING]
    )
    return as_keywords({"intervals": nearest[0]})


def listing(session: Session) -> str:
    """Every interval table with its rows and columns, on one line."""
    tables = [
        f"{name} ({len(table)} rows: {', '.join(table.columns)})"
        for name, table in session.intervals.items()
    ]
    return "interval tables: " + ("; ".join(tables) or "none")


def usable_rows(
    session: Session, name: str, rows: np.ndarray, times: dict[str, np.ndarray]
) -> np.ndarray:
    """Of `rows`, those whose `times` are all there; the others are left out with a warning, or an
    error if that is all."""
    missing = {column: ~(np.abs(values[rows]) <= LATEST) for column, values in times.items()}
    lost = np.logical_or.reduce(list(missing.values()))
    if not lost.any():
        return rows
    counts = ", ".join(
        f"{column} in {mask.sum()}" for column, mask in missing.items() if mask.any()
    )
    if lost.all():
        raise _no_times(session, name, len(rows), missing, counts)
    found = f"{lost.sum()} of {len(rows)} rows of {name} lack a time ({counts})"
    warnings.warn(f"{session.source.uri or session.key}: {found}; left out", stacklevel=5)
    return rows[~lost]


def _no_times(
    session: Session, name: str, n_rows: int, missing: dict[str, np.ndarray], counts: str
) -> WindowError:
    """The error for a column without any time; its remedy names a column that has some."""
    worst = max(missing, key=lambda column: missing[column].sum())
    usable = {other: event_columns(table) for other, table in session.intervals.items()}
    found = f"no time (NaN) in {counts} of {n_rows} rows; " + "; ".join(
        f"{other} has {', '.join(columns) or 'no times'}" for other, columns in usable.items()
    )
    event = next((column for column in usable[name] if column != worst), "start_time")
    options = {**table_option(name), "align": event, "n_bins": 50}
    problem, item = f"no row of {name!r} has a {worst}", f"{name}.{worst}"
    return WindowError(
        problem,
        file=session.source.uri,
        item=item,
        found=found,
        options=options,
    )
