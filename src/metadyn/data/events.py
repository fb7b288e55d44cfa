"""When events were: a column of times, or arithmetic on columns where a file counts from elsewhere
or in other units."""

from __future__ import annotations

import ast
import difflib
import operator
import re
import warnings

import numpy as np
import pandas as pd

from metadyn.data.expressions import names_in, parse, spelled
from metadyn.errors import WindowError, as_keywords
from metadyn.records import Session

ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
TIME_NAME = re.compile(r"_times?$")  # how columns of times are called
# lengths, which start nowhere
DURATION_NAME = re.compile(r"reaction|response_time|duration|latency|delay|interval")
CLOCK_RATES = (
    30e3,
    25e3,
    24_414.0625,
    20e3,
    32e3,
    40e3,
    44.1e3,
    10e3,
    1e3,
)  # [Hz] of clocks and recordings
# [s]; what is said to follow a row's start sooner than that is no event in other units
SHORTEST_DELAY = 0.01
FEWEST_EVENTS = 5  # rows from which on it is no accident that all events lie in their rows


def event_times(session: Session, name: str, align: str) -> np.ndarray:
    """Times of events (row,) [s], NaN where there is none: a column, or sums and quotients such as
    `start_time + cue / 1000`.

    Raises WindowError when there is no such column or it holds no times.
    """
    table = session.intervals[name]
    if align in table and pd.api.types.is_numeric_dtype(table[align]):
        return table[align].to_numpy(dtype=np.float64)
    try:
        tree = parse(align)
        if not isinstance(tree, ast.Name) and names_in(tree):
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.broadcast_to(_evaluate(tree, table), len(table)).astype(np.float64)
    except KeyError as error:
        raise _no_event(session, name, error.args[0]) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    raise _no_event(session, name, align)


def _evaluate(node: ast.expr, table: pd.DataFrame) -> np.ndarray | float:
    """The value of an expression; KeyError for a name that is no column of numbers, ValueError for
    all but arithmetic."""
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            return ARITHMETIC[type(op)](_evaluate(left, table), _evaluate(right, table))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand, table)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.Name(id=name):
            if name not in table or not pd.api.types.is_numeric_dtype(table[name]):
                raise KeyError(name)
            return table[name].to_numpy(dtype=np.float64)
    raise ValueError(type(node).__name__)


def _no_event(session: Session, name: str, column: str) -> WindowError:
    table = session.intervals[name]
    problem = (
        f"column {column!r} holds no times"
        if column in table
        else f"no event column {column!r} in {name!r}"
    )
    nearest = difflib.get_close_matches(column, event_columns(table), n=1) or ["start_time"]
    found = f"event columns: {', '.join(event_columns(table)) or 'none'}"
    return WindowError(
        problem,
        file=session.source.uri,
        item=f"{name}.{column}",
        found=found,
        options={"align": nearest[0]},
    )


def event_columns(table: pd.DataFrame) -> list[str]:
    """The columns of event times in seconds on the session's clock: start and stop, and those whose
    times lie in their rows.

    A column called `..._time` may have its times in the rows before and after too.
    """
    numeric = [
        name
        for name in table.columns
        if pd.api.types.is_float_dtype(table[name]) or _is_named_as_time(table, name)
    ]
    return [name for name in numeric if _is_event(table, name)]


def _is_named_as_time(table: pd.DataFrame, name: str) -> bool:
    return bool(TIME_NAME.search(str(name))) and pd.api.types.is_numeric_dtype(table[name])


def _is_event(table: pd.DataFrame, name: str) -> bool:
    times = table[name].to_numpy(dtype=np.float64)
    if name in ("start_time", "stop_time"):
        return bool(np.isfinite(times).any())
    if _is_named_as_time(table, name):
        return share_inside(table, times) >= 0.5
    own = np.isfinite(times)
    inside = (times >= table.start_time) & (times <= table.stop_time)
    return bool(own.sum() >= FEWEST_EVENTS and inside[own].mean() >= 0.9)


def share_inside(table: pd.DataFrame, times: np.ndarray | float) -> float:
    """Of the rows with an event, how many have it between the start of the row before theirs and
    the end of the row after."""
    order = np.argsort(table.start_time.to_numpy(dtype=np.float64), kind="stable")
    start, stop, times = (
        np.asarray(each, dtype=np.float64)[order]
        for each in (table.start_time, table.stop_time, times)
    )
    stop = np.where(np.isfinite(stop), stop, np.append(start[1:], np.inf))
    usual = np.nanmedian(np.diff(start)) if len(start) > 1 else np.inf
    inside = (times >= np.append(start[:1] - usual, start[:-1])) & (
        times <= np.append(stop[1:], stop[-1:] + usual)
    )
    there = np.isfinite(times) & np.isfinite(start)
    return float(inside[there].mean()) if there.any() else 0.0


def correction_of(table: pd.DataFrame, column: str) -> str | None:
    """What puts the events of a column into their rows: from the row's start on, in other units, in
    samples; else None."""
    name, values = spelled(column), table[column].to_numpy(dtype=np.float64)
    clock = [1e3, 1e6, *_clock_rates(table, values)]
    tried = [f"start_time + {name}", *(f"{name} / {unit:.12g}" for unit in clock)]
    tried += [
        f"start_time + {name} / {unit}"
        for unit in (1_000, 1_000_000)
        if np.nanmedian(values) > SHORTEST_DELAY * unit
    ]
    return next(
        (each for each in tried if share_inside(table, _evaluate(parse(each), table)) >= 0.9), None
    )


def _clock_rates(table: pd.DataFrame, values: np.ndarray) -> list[float]:
    """The rate of a clock that the values may count samples of: their slope over the rows'
    starts."""
    starts = table.start_time.to_numpy(dtype=np.float64)
    there = np.isfinite(values) & np.isfinite(starts)
    if there.sum() < FEWEST_EVENTS or np.ptp(starts[there]) == 0:
        return []
    slope = float(np.polyfit(starts[there], values[there], 1)[0])
    return [rate for rate in CLOCK_RATES if abs(slope / rate - 1) < 0.01]


def misplaced_columns(table: pd.DataFrame) -> dict[str, str]:
    """The columns of times that lie outside of their rows, and what puts them into them
    (`start_time + cue_time`)."""
    named = [
        name
        for name in table.columns
        if _is_named_as_time(table, name)
        and not DURATION_NAME.search(name)
        and not _is_event(table, name)
    ]
    meant = {name: correction_of(table, name) for name in named if name != "stop_time"}
    return {name: expression for name, expression in meant.items() if expression}


def check_inside(
    session: Session, name: str, align: str, rows: np.ndarray, times: np.ndarray, windows: dict
) -> None:
    """Refuse a column whose events lie outside of their rows where something puts them inside, else
    say so.

    `windows` are the options of windows round them (start, n_bins) that the remedy repeats.
    """
    table = session.intervals[name].iloc[rows]
    if align not in table or align == "start_time" or share_inside(table, times[rows]) >= 0.5:
        return
    found = f"{align} from {np.nanmin(times[rows]):g} to {np.nanmax(times[rows]):g}"
    found += f", rows of {name} from {table.start_time.min():g} to {table.stop_time.max():g} s"
    meant = correction_of(table, align)
    if meant is None:
        warnings.warn(
            f"{session.source.uri or session.key}: most events lie outside of their rows: {found}",
            stacklevel=4,
        )
        return
    options = {**({} if name == "trials" else {"intervals": name}), "align": meant, **windows}
    problem = (
        f"the times in {align!r} lie outside of their rows: they count from elsewhere, or in other "
        "units than seconds"
    )
    item, remedy = (
        f"{name}.{align}",
        f"{as_keywords(options)} (or {as_keywords({'align': spelled(align) + ' + 0'})}, to take "
        "them as they are)",
    )
    raise WindowError(
        problem, file=session.source.uri, item=item, found=found, remedy=remedy, options=options
    )
