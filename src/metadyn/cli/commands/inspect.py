"""`metadyn inspect`: a file at a glance.

From top to bottom: units and spikes, tables of intervals with the columns that can mark an event,
series of behaviour, runs of models in the file, what stands in the way of a model, notes, and the
commands to run next. Long lists are cut after MOST_ROWS items, and the rest is counted.

In Python: `metadyn.inspect("session.nwb")`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

import metadyn
from metadyn.cli.console import MOST_ROWS, out, rows, wrapped
from metadyn.cli.progress import working

if TYPE_CHECKING:
    from metadyn.nwb.series_summary import SeriesSummary
    from metadyn.pipeline.describe import Description, TableSummary


def inspect(file: Annotated[str, typer.Argument(help="NWB file, or its address")]) -> None:
    """Show what a file holds for a model, what stands in the way, and what to run next.

    Example: [bold]metadyn inspect session.nwb[/bold]
    """
    with working("reading"):
        found = metadyn.inspect(file)
    show_description(found)


def show_description(found: Description) -> None:
    """Print units, tables, behaviour, runs, problems, notes and the next commands of a file."""
    console = out()
    console.print(Text(f"{found.file}  (identifier {found.identifier})", style="bold"))
    console.print(
        f"{found.n_units} units, {found.n_spikes} spikes{_rates_text(found)}{_span(found)}"
    )
    for each in found.units_observed[:MOST_ROWS]:
        which = f"{len(each.rows)} of the units (rows {_ranges(each.rows)})"
        console.print(f"{which}: {each.seconds:.1f} s observed")
    for line in (_columns(found), _areas(found)):
        if line:
            console.print(Text(wrapped(line, console.width)))
    for table in found.tables:
        console.print(_interval_table(table))
    if found.behavior:
        console.print(_behavior_table(found.behavior))
    _show_list("runs", found.runs)
    _show_list("problems", found.problems)
    _show_list("notes", found.notes)
    _show_list("next", found.next_commands, to_copy=True)


def _show_list(title: str, lines: tuple[str, ...], to_copy: bool = False) -> None:
    """Print indented lines under a title; nothing without lines.

    Parameters
    ----------
    title : printed in bold.
    lines : messages, whose options are printed as flags.
    to_copy : they are commands: none is broken, whatever the width.
    """
    if not lines:
        return
    from metadyn.cli.flags import with_flags

    console = out()
    console.print(Text(f"{title}:", style="bold"))
    text = "\n".join(f"  {line}" for line in lines)
    console.print(Text(text if to_copy else wrapped(with_flags(text), console.width)))


def _columns(found: Description) -> str:
    """The columns of the Units table, in a line."""
    return f"columns of units: {', '.join(found.unit_columns)}" if found.unit_columns else ""


def _areas(found: Description) -> str:
    """The locations of the units' electrodes, with how many units each has."""
    if not found.areas:
        return ""
    shown = ", ".join(f"{area} ({count})" for area, count in found.areas[:MOST_ROWS])
    left = len(found.areas) - MOST_ROWS
    return f"units by location: {shown}" + (f", and {left} more" if left > 0 else "")


def _rates_text(found: Description) -> str:
    """Lowest, highest and median rate of the units [Hz]; nothing without spikes."""
    if not found.rate_quantiles:
        return ""
    low, _, middle, _, high = found.rate_quantiles
    return f", {low:.2g}-{high:.2g} Hz (median {middle:.2g})"


def _span(found: Description) -> str:
    """First to last time of the recording [s], and how much of it is observed or invalid."""
    if found.span is None:
        return ""
    text = f", {found.span[0]:.2f}-{found.span[1]:.2f} s"
    if found.observed_seconds is not None:
        text += f", of which {found.observed_seconds:.1f} s observed"
    if found.invalid_seconds:
        text += f", {found.invalid_seconds:.1f} s invalid"
    return text


def _ranges(rows: tuple[int, ...]) -> str:
    """Ascending numbers as ranges.

    >>> _ranges((0, 1, 2, 3, 4, 7))
    '0-4, 7'
    """
    breaks = np.flatnonzero(np.diff(rows) > 1) + 1
    ends = [(part[0], part[-1]) for part in np.split(np.asarray(rows), breaks)]
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in ends[:MOST_ROWS]]
    return ", ".join(shown) + (", …" if len(ends) > MOST_ROWS else "")


def _interval_table(table: TableSummary) -> Table:
    """A line for each column of an interval table.

    How many values are missing, whether it can mark an event (`--align`), and the values in short.
    """
    title = f"{table.name}: {table.n_rows} rows{_lengths(table.seconds)}"
    shown = Table("column", "missing", "event", "values", title=title, title_justify="left")
    for each in table.columns:
        event = each.meant or "yes" * each.is_event
        shown.add_row(Text(each.name), str(each.n_missing), Text(event), Text(each.values))
    return shown


def _lengths(seconds: tuple[float, float, float] | None) -> str:
    """The durations of a table's rows, given as shortest, median and longest [s].

    >>> _lengths((0.5, 0.75, 2.0)), _lengths((1.0, 1.0, 1.0))
    (' of 0.5 to 2 s (median 0.75)', ' of 1 s')
    """
    if seconds is None:
        return ""
    low, middle, high = (f"{each:.4g}" for each in seconds)
    return f" of {middle} s" if low == high else f" of {low} to {high} s (median {middle})"


def _behavior_table(behavior: tuple[SeriesSummary, ...]) -> Table:
    """A line for each series of behaviour, by the path that `--behavior` takes."""
    headings = ("series", "kind", "unit", "rate [Hz]", "shape")
    shown = Table(*headings, title="behaviour", title_justify="left")
    return rows(shown, list(behavior), _behavior_row)


def _behavior_row(series: SeriesSummary) -> tuple[str, ...]:
    """Path, kind, unit, sampling rate (nothing where it varies) and shape (time, channel)."""
    rate = "" if series.rate is None else f"{series.rate:.6g}"
    return series.path, series.kind, series.unit, rate, "x".join(map(str, series.shape))
