"""What a person sees on the terminal: errors without tracebacks, progress, tables."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import xarray as xr
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from metadyn.errors import MetadynError

MOST_ROWS = 12  # lines of a table that still fit on a screen; the rest is counted


def out() -> Console:
    return Console(soft_wrap=True)


def err() -> Console:
    return Console(stderr=True, soft_wrap=True)


def show_error(error: MetadynError) -> None:
    Console(stderr=True).print(Panel(Text(str(error)), title=type(error).__name__, title_align="left", border_style="red"))


def show_warnings_as_notes() -> None:
    """Warnings as one line each, without the code that raised them."""

    def note(message, category, filename, lineno, file=None, line=None):
        err().print(Text(f"note: {message}", style="yellow"))

    warnings.showwarning = note


@contextmanager
def training_progress() -> Iterator:
    """A bar with stage, steps/s and time left; gives the `report` that training calls."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[terms]}"),
    )
    with Progress(*columns, console=err()) as progress:
        bar = progress.add_task("starting", total=None, terms="")

        def report(step) -> None:
            if step.message:
                progress.console.print(Text(f"note: {step.message}", style="yellow"))
            terms = " ".join(f"{name} {value:.3f}" for name, value in {**step.terms, **(step.validation or {})}.items())
            speed = f"{step.steps_per_second:.1f} steps/s " if step.steps_per_second else ""
            progress.update(bar, description=step.stage, completed=step.step, total=step.steps, terms=speed + terms)

        yield report


def rows(table: Table, many: list, make) -> Table:
    """The first rows of a table, and how many more there are."""
    for each in many[:MOST_ROWS]:
        table.add_row(*map(str, make(each)))
    if len(many) > MOST_ROWS:
        table.caption = f"and {len(many) - MOST_ROWS} more"
    return table


def show_description(found) -> None:
    """A `metadyn.nwb.describe.Description`."""
    console = out()
    console.print(Text(f"{found.file}  (identifier {found.identifier})", style="bold"))
    console.print(f"{found.n_units} units, {found.n_spikes} spikes{_rates(found)}{_span(found)}")
    if found.unit_columns:
        console.print(Text(f"columns of units: {', '.join(found.unit_columns)}"))
    for table in found.tables:
        console.print(_interval_table(table))
    if found.behavior:
        console.print(_behavior_table(found.behavior))
    for title, lines in (
        ("runs", found.runs),
        ("problems", found.problems),
        ("notes", found.notes),
        ("next", found.next_commands),
    ):
        if lines:
            console.print(Text(f"{title}:", style="bold"))
            console.print(Text("\n".join(f"  {line}" for line in lines)))


def _rates(found) -> str:
    if not found.rate_quantiles:
        return ""
    low, _, middle, _, high = found.rate_quantiles
    return f", {low:.2g}-{high:.2g} Hz (median {middle:.2g})"


def _span(found) -> str:
    seen = "" if found.observed_seconds is None else f", of which {found.observed_seconds:.1f} s observed"
    return "" if found.span is None else f", {found.span[0]:.2f}-{found.span[1]:.2f} s{seen}"


def _interval_table(table) -> Table:
    shown = Table(title=f"{table.name}: {table.n_rows} rows", title_justify="left")
    for heading in ("column", "missing", "event", "values"):
        shown.add_column(heading)
    for each in table.columns:
        shown.add_row(Text(each.name), str(each.n_missing), "yes" if each.is_event else "", Text(each.values))
    return shown


def _behavior_table(behavior) -> Table:
    shown = Table("series", "unit", "rate [Hz]", "shape", title="behaviour", title_justify="left")
    return rows(
        shown,
        list(behavior),
        lambda s: (s.path, s.unit, "" if s.rate is None else f"{s.rate:.6g}", "x".join(map(str, s.shape))),
    )


def show_forecast(ahead: xr.Dataset) -> None:
    """One line a window: when the forecast begins and ends, the latents at its end and the units' mean rate."""
    table = Table(
        "window", "from [s]", "to [s]", "latents at the end", "mean rate [Hz]", title=f"forecast of {ahead.attrs['session']}"
    )
    start, time = ahead.start_time.values, ahead.time.values
    latents, rate = ahead.latent_mean.values[:, -1], ahead.rate_mean.values.mean((1, 2))
    half = ahead.attrs["bin_width"] / 2
    windows = list(range(len(start)))
    out().print(
        rows(
            table,
            windows,
            lambda i: (
                i,
                f"{start[i] + time[0] - half:.3f}",
                f"{start[i] + time[-1] + half:.3f}",
                " ".join(f"{value:.3g}" for value in latents[i]),
                f"{rate[i]:.3g}",
            ),
        )
    )
