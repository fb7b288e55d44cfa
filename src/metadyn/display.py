"""What a person sees on the terminal: errors without tracebacks, progress, tables."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import fill
from unicodedata import category

import numpy as np
import xarray as xr
from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from metadyn.errors import MetadynError, MissingMetadataError

MOST_ROWS = 12  # lines of a table that still fit on a screen; the rest is counted

NO_BREAK = "\ue000"  # a private letter, which no text has, where a line may not end
QUOTED = re.compile(r'"[^"]*"')
COPIED = re.compile(
    r" *(file: |try: (.*\s)?(--[a-z]|(metadyn|git|datalad|pip|python|h5clear|cp|curl) ))"
)
UNSEEN = (
    "Cc",
    "Cf",
    "Cs",
)  # Unicode's categories of control and format characters and half surrogates


SHOWN: list[Live] = []  # lines that stand on the terminal at the moment, see `on_terminal`


class PlainConsole(Console):
    """Shows what a file says letter by letter: no markup, and what would steer a terminal or cannot
    be encoded as an escape."""

    def __init__(self, **options):
        super().__init__(markup=False, emoji=False, soft_wrap=True, **options)
        for live in SHOWN if self.is_terminal else ():
            self.push_render_hook(live)  # so that it steps aside for what is printed here

    def print(self, *objects, **options):
        """A table is laid out within the width, its long words folded; the lines of all else are
        the terminal's to fold."""
        tables = [each for each in objects if isinstance(each, Table)]
        for column in (column for table in tables for column in table.columns):
            column.overflow = "fold"
        super().print(*objects, **{"soft_wrap": not tables, **options})

    def render(self, renderable, options=None):
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def visible(text: str) -> str:
    """The text with control, format and half characters, all but line breaks and tabs, as
    escapes."""
    return "".join(
        ascii(each)[1:-1] if category(each) in UNSEEN and each not in "\n\t" else each
        for each in text
    )


def out() -> Console:
    return PlainConsole()


def err() -> Console:
    return PlainConsole(stderr=True)


def first_process() -> bool:
    """Whether this is the process that speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def wrapped(text: str, width: int) -> str:
    """The text in lines of this width, broken between words alone; what is copied stays in one
    line: a file, a command."""
    return "\n".join(
        line if COPIED.match(line) else _filled(line, width) for line in text.split("\n")
    )


def _filled(line: str, width: int) -> str:
    indent = line[: len(line) - len(line.lstrip(" "))] + "    "
    whole = QUOTED.sub(lambda quoted: quoted[0].replace(" ", NO_BREAK), line)
    return fill(
        whole, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ).replace(NO_BREAK, " ")


def show_error(error: MetadynError) -> None:
    """The kind of error and its lines; a template to fill in goes to the standard output, so that
    it can be kept in a file."""
    console = err()
    told = Text(wrapped(f"{type(error).__name__}: {error}", console.width))
    told.stylize("bold red", 0, len(type(error).__name__) + 1)
    console.print(told)
    if isinstance(error, MissingMetadataError):
        out().print(error.template, highlight=False)


def show_warnings_as_notes() -> None:
    """Warnings as one line each, without the code that raised them."""

    def note(message, category, filename, lineno, file=None, line=None):
        console = err()
        console.print(Text(wrapped(f"note: {message}", console.width), style="yellow"))

    warnings.showwarning = note


@contextmanager
def on_terminal(*lines: Progress, transient: bool = False) -> Iterator[None]:
    """Lines that are kept up to date on a terminal, below what is printed meanwhile (`transient`:
    until the end); elsewhere nothing."""
    console = err()
    if not (console.is_terminal and first_process()):
        yield
        return
    live = Live(
        Group(*lines), console=console, transient=transient, redirect_stdout=sys.stdout.isatty()
    )
    SHOWN.append(live)
    try:
        with live:
            yield
    finally:
        SHOWN.remove(live)


@contextmanager
def training_progress() -> Iterator:
    """A bar with stage, steps/s and time left, a line of every term at each validation, and the
    verdict at the end; gives the `report` for training."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    progress, verdicts = Progress(*columns), []
    bar = progress.add_task("starting", total=None, speed="")
    with on_terminal(progress):
        console = err()

        def report(step) -> None:
            if step.stage == "verdict":
                verdicts.append(step.message)
                return
            if step.message:
                console.print(Text(wrapped(f"note: {step.message}", console.width), style="yellow"))
            if step.validation:
                console.print(
                    Text(_terms(step, console.width if console.is_terminal else None)),
                    highlight=False,
                )
            progress.update(
                bar,
                description=step.stage,
                completed=step.step,
                total=step.steps,
                speed=_speed(step),
            )

        yield report
    if first_process():
        for verdict in verdicts:
            out().print(verdict, highlight=False)


@contextmanager
def working(doing: str) -> Iterator:
    """On a terminal a line that says what is done and for how long, until it is done, above a bar
    with bytes, speed and time left of each download; gives the `progress` for downloads."""
    line = Progress(TextColumn("{task.description}"), TimeElapsedColumn())
    line.add_task(doing, total=None)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    bars, of_file = Progress(*columns), {}

    def progress(name: str, done: int, total: int) -> None:
        if name not in of_file:
            of_file[name] = bars.add_task(name, total=total)
        bars.update(of_file[name], completed=done, visible=done < total)

    with on_terminal(line, bars, transient=True):
        yield progress


def _terms(step, width: int | None) -> str:
    """One line, or lines of a width that are broken between the terms."""
    terms = [f"{name} {value:.4g}" for name, value in {**step.terms, **step.validation}.items()]
    parts = [
        f"{step.stage} {step.step}/{step.steps}",
        *terms,
        _speed(step),
        f"{step.seconds_left:.0f} s left",
    ]
    line = " ".join(part.replace(" ", NO_BREAK) for part in parts if part)
    return line.replace(NO_BREAK, " ") if width is None else _filled(line, width)


def _speed(step) -> str:
    return f"{step.steps_per_second:.1f} steps/s" if step.steps_per_second else ""


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
    for each in found.units_observed[:MOST_ROWS]:
        console.print(
            f"{len(each.rows)} of the units (rows {_ranges(each.rows)}): {each.seconds:.1f} s observed"
        )
    if found.unit_columns:
        console.print(
            Text(wrapped(f"columns of units: {', '.join(found.unit_columns)}", console.width))
        )
    if found.areas:
        shown = ", ".join(f"{area} ({count})" for area, count in found.areas[:MOST_ROWS])
        more = f", and {len(found.areas) - MOST_ROWS} more" if len(found.areas) > MOST_ROWS else ""
        console.print(Text(wrapped(f"units by location: {shown}{more}", console.width)))
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
            told = "\n".join(f"  {line}" for line in lines)
            console.print(Text(told if title == "next" else wrapped(told, console.width)))


def _rates(found) -> str:
    if not found.rate_quantiles:
        return ""
    low, _, middle, _, high = found.rate_quantiles
    return f", {low:.2g}-{high:.2g} Hz (median {middle:.2g})"


def _span(found) -> str:
    seen = (
        ""
        if found.observed_seconds is None
        else f", of which {found.observed_seconds:.1f} s observed"
    )
    seen += f", {found.invalid_seconds:.1f} s invalid" if found.invalid_seconds else ""
    return "" if found.span is None else f", {found.span[0]:.2f}-{found.span[1]:.2f} s{seen}"


def _ranges(rows: tuple[int, ...]) -> str:
    """Ascending numbers as ranges: 0-4, 7."""
    breaks = np.flatnonzero(np.diff(rows) > 1) + 1
    ends = [(part[0], part[-1]) for part in np.split(np.asarray(rows), breaks)]
    shown = [f"{first}-{last}" if last > first else str(first) for first, last in ends[:MOST_ROWS]]
    return ", ".join(shown) + (", …" if len(ends) > MOST_ROWS else "")


def _interval_table(table) -> Table:
    shown = Table(
        title=f"{table.name}: {table.n_rows} rows{_lengths(table.seconds)}", title_justify="left"
    )
    for heading in ("column", "missing", "event", "values"):
        shown.add_column(heading)
    for each in table.columns:
        shown.add_row(
            Text(each.name),
            str(each.n_missing),
            Text(each.meant or "yes" * each.is_event),
            Text(each.values),
        )
    return shown


def _lengths(seconds: tuple[float, float, float] | None) -> str:
    if seconds is None:
        return ""
    low, middle, high = (f"{each:.4g}" for each in seconds)
    return f" of {middle} s" if low == high else f" of {low} to {high} s (median {middle})"


def _behavior_table(behavior) -> Table:
    shown = Table(
        "series", "kind", "unit", "rate [Hz]", "shape", title="behaviour", title_justify="left"
    )
    return rows(
        shown,
        list(behavior),
        lambda s: (
            s.path,
            s.kind,
            s.unit,
            "" if s.rate is None else f"{s.rate:.6g}",
            "x".join(map(str, s.shape)),
        ),
    )


def show_forecast(ahead: xr.Dataset) -> None:
    """One line a window: when the forecast begins and ends, the latents at its end and the units'
    mean rate."""
    table = Table(
        "window",
        "from [s]",
        "to [s]",
        "latents at the end",
        "mean rate [Hz]",
        title=f"forecast of {ahead.attrs['session']}",
    )
    start, time = ahead.start_time.values, ahead.time.values
    latents, rate = ahead.latent_mean.values[:, -1], ahead.rate_mean.values.mean((1, 2))
    half = ahead.attrs["bin_width"] / 2
    windows, number = list(range(len(start))), ahead.trial.values
    out().print(
        rows(
            table,
            windows,
            lambda i: (
                number[i],
                f"{start[i] + time[0] - half:.3f}",
                f"{start[i] + time[-1] + half:.3f}",
                " ".join(f"{value:.3g}" for value in latents[i]),
                f"{rate[i]:.3g}",
            ),
        )
    )


WINDOWS = {
    "test": "test windows, which the model has never met",
    "validation": "validation windows, which chose the checkpoint but trained nothing",
    "held-out": "windows that trained nothing; some may have chosen the checkpoint",
    "all": "windows, those that trained the model too",
}
MEASURES = {  # heading of each column, and its score
    "hidden\nr²": "reconstruction_r2",
    "hidden\nbits": "bits_per_spike",
    "forecast\nr²": "forecast_r2",
    "forecast\nbits": "forecast_bits_per_spike",
    "behaviour\nr²": "behavior_r2",
}


def show_score(scores: xr.Dataset) -> None:
    """One line a predictor, `-` for what is not measured of it; what the columns are; the
    verdict."""
    told = scores.attrs
    columns = {heading: name for heading, name in MEASURES.items() if name in scores}
    title = f"{told['session']}: {told['n_windows']} {WINDOWS[told['windows']]}"
    table = Table(
        "predictor", *columns, title=title, caption=_what_scores_are(scores), caption_justify="left"
    )
    for i, predictor in enumerate(scores.predictor.values):
        values = [float(scores[name][i]) for name in columns.values()]
        if not np.isnan(values).all():
            table.add_row(
                str(predictor), *("-" if np.isnan(value) else f"{value:.3f}" for value in values)
            )
    console = out()
    console.print(table, soft_wrap=False)
    if told["behavior_note"]:
        console.print(f"behaviour has no r²: {told['behavior_note']}", highlight=False)
    console.print(told["verdict"], highlight=False)


def _what_scores_are(scores: xr.Dataset) -> str:
    """The definitions under a table of scores."""
    told, seconds = scores.attrs, float(scores.step[-1])
    decoded = f" behaviour: decoders learn on {told['n_training_windows']} windows that trained the model."
    return (
        "r²: 1 - Σ(y - ŷ)² / Σ(y - ȳ)², ȳ the mean over the windows that trained the model, which scores 0. "
        "bits: per spike, above the mean rate. hidden: a fifth of the entries, not shown to the model. "
        f"forecast: the {scores.sizes['step']} bins ({seconds:.2f} s) after {told['context_bins']}, "
        f"of {told['n_forecast_windows']} windows." + (decoded if "behavior_r2" in scores else "")
    )


def show_demo(found, figure) -> None:
    """A `metadyn.pipeline.demo.DemoResult`: embeddings beside true speeds, forecasts beside those
    of shared dynamics."""
    from metadyn.pipeline.demo import HORIZONS, SHOTS

    headings = [f"{which}k={horizon}" for which in ("", "shared ") for horizon in HORIZONS]
    title = "r² of forecast rates against true ones, k bins ahead, on trials not trained on"
    table = Table(
        "session", "speed", "embedding", *headings, title=title, box=None, padding=(0, 1, 0, 0)
    )
    for row in range(len(found.sessions)):
        scores = [*found.low_rank[row], *found.shared[row]]
        shown = [f"{value:.2f}" if value == value else "-" for value in scores]
        label = f"new, {SHOTS} trials" if row == len(found.sessions) - 1 else str(row)
        table.add_row(label, f"{found.speeds[row]:.2f}", f"{found.embeddings[row]:+.2f}", *shown)
    gap = float((found.low_rank[:-1, -1] - found.shared[:-1, -1]).mean())
    console = out()
    console.print(table)
    console.print(f"Spearman of embedding and speed: {found.spearman:+.3f}", highlight=False)
    console.print(
        f"r² at k={HORIZONS[-1]} above shared dynamics, mean of the training sessions: {gap:+.2f}",
        highlight=False,
    )
    console.print(
        f"{len(found.files)} annotated files without a new validation error: {found.files[0].parents[1]}",
        highlight=False,
    )
    console.print(f"figure: {figure or 'none, matplotlib is not installed'}", highlight=False)
