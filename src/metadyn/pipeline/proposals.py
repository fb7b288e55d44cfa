"""The options that a file suggests, each tried on it: windows that work; units, events and
conditions that it names."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd

from metadyn.data.binning import bin_spikes
from metadyn.data.events import event_columns, event_times, misplaced_columns
from metadyn.data.expressions import spelled
from metadyn.data.slips import SPIKE_TIMES
from metadyn.data.tables import choose_table, table_option, task_tables
from metadyn.data.windows import make_windows
from metadyn.errors import MetadynError, as_keywords
from metadyn.records import Session

GOOD = (
    "good",
    "single",
    "single unit",
    "single-unit",
    "sua",
    "su",
)  # what curators call a unit to keep
EVENTS = (
    r"mov.*(onset|begin|start)|(onset|begin|start).*mov",
    r"^go|go_?cue|response_?cue",
)  # the likeliest first
CONDITIONS = (
    r"target_?dir|direction",
    r"target",
    r"condition",
    r"type",
    r"stim",
    r"odou?r|contrast|cue",
    r"side|choice",
)
NO_CONDITION = re.compile(
    r"time|onset|duration|power|present|position|loc|response|outcome|accuracy|correct"
)
MOST_CONDITIONS, FEWEST_TRIALS = 16, 3  # as many labels, each of at least as many trials
BEFORE, LONGEST = 0.2, 1.0  # [s] before and after an event, where rows have that much room
STEP = 5  # bins; a proposal is a round number


def usable_options(session: Session) -> tuple[dict | None, tuple[str, ...]]:
    """Options of windows that give counts, and the problems of the default ones.

    What an error proposes is tried next, so that the message and the next command agree.

    Returns
    -------
    The first options that work (None when none do), and the messages.
    """
    waiting = candidates(session)
    tried: list[dict] = []
    problems: list[MetadynError] = []
    while waiting:
        options = waiting.pop(0)
        tried.append(options)
        try:
            bin_spikes(session, **options)
        except MetadynError as error:
            problems.append(error)
            if error.item == SPIKE_TIMES:  # no windows mend these
                break
            if error.options and error.options not in tried:
                waiting.insert(0, dict(error.options))
        else:
            return options, tuple(str(error) for error in problems[:1])
    kinds = {error.problem: str(error) for error in problems}
    return None, tuple(kinds.values())


def candidates(session: Session) -> list[dict]:
    """Options of windows to try, the plainest first.

    The defaults, windows around starts of trials, a table of a task, the recording end to end.
    """
    round_start = [{"align": "start_time", "n_bins": 50}] if "trials" in session.intervals else []
    tables = [{"intervals": name} for name in task_tables(session.intervals) if name != "trials"]
    return [{}, *round_start, *tables, {"intervals": "recording"}]


def enriched(session: Session, options: dict) -> dict:
    """Options that work, with an event, a condition and units that the file names and that work."""
    name = choose_table(session, options.get("intervals"))
    proposed = [{"units": good_units(session.units)}]
    if name is not None:
        table = session.intervals[name]
        windows = {} if "align" in options else windows_round_event(session, name)
        proposed = [windows, {"condition": condition_column(table)}, *proposed]
    for each in proposed:
        more = {key: value for key, value in each.items() if value is not None}
        if more and _works(session, {**options, **more}):
            options = {**options, **more}
    return options


def _works(session: Session, options: dict) -> bool:
    """Whether counts come of these options; what there is to say of them is said only then."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            bin_spikes(session, **options)
        except MetadynError:
            return False
    for each in caught:
        warnings.warn(each.message, stacklevel=2)
    return True


def good_units(units: pd.DataFrame) -> str | None:
    """The expression that keeps the units which a curator called good, where some are and some are
    not."""
    for name in units.columns:
        values = units[name][units[name].map(lambda value: isinstance(value, str) and value != "")]
        good = [value for value in values.unique() if value.lower() in GOOD]
        if len(good) == 1 and values.nunique() <= 6 and 2 <= (values == good[0]).sum() < len(units):
            return f"{spelled(name)} == {good[0]!r}"
    return None


def condition_column(table: pd.DataFrame) -> str | None:
    """The likeliest column of conditions by its name: of few values, each in several rows."""
    names = [
        name
        for name in table.columns
        if not NO_CONDITION.search(name.lower()) and _is_condition(table[name])
    ]
    return next(
        (name for pattern in CONDITIONS for name in names if re.search(pattern, name.lower())), None
    )


def _is_condition(column: pd.Series) -> bool:
    counts = column[column != ""].value_counts()
    single = not any(isinstance(value, tuple) for value in counts.index)
    few = 1 < len(counts) <= MOST_CONDITIONS and counts.min() >= FEWEST_TRIALS
    return bool(single and few and counts.sum() > len(column) / 2)


def windows_round_event(session: Session, name: str) -> dict:
    """Options for windows around the likeliest event of those that most rows have; {} without."""
    table = session.intervals[name]
    meant = {**{column: column for column in event_columns(table)}, **misplaced_columns(table)}
    for pattern in EVENTS:
        for column, align in meant.items():
            times = event_times(session, name, align)
            if re.search(pattern, column.lower()) and np.isfinite(times).mean() > 0.5:
                return _windows(table, times, align)
    return {}


def _windows(table: pd.DataFrame, times: np.ndarray, align: str, bin_width: float = 0.02) -> dict:
    there = np.isfinite(times)
    before, after = (times - table.start_time)[there], (table.stop_time - times)[there].dropna()
    room = float(np.quantile(after, 0.1)) if len(after) else LONGEST
    lead = min(BEFORE, max(float(np.quantile(before, 0.1)), 0.0))
    start = -int(lead / bin_width) * bin_width
    n_bins = int((min(room, LONGEST) - start) / bin_width + 1e-6) // STEP * STEP
    if n_bins < 2 * STEP:
        return {}
    return {"align": align, **({"start": round(start, 6)} if start else {}), "n_bins": n_bins}


def where_events_are(session: Session) -> tuple[str, ...]:
    """For each table, options that put events that lie outside of their rows into them.

    The options were tried.
    """
    notes = []
    for name, table in session.intervals.items():
        tried = {
            column: {**table_option(name), "align": align, "n_bins": 50}
            for column, align in misplaced_columns(table).items()
        }
        works = {
            column: options for column, options in tried.items() if _gives_windows(session, options)
        }
        if works:
            keywords = as_keywords(next(iter(works.values())))
            notes.append(
                f"{name}: times that lie outside of their rows: {', '.join(works)}; inside with "
                f"e.g. {keywords}"
            )
    return tuple(notes)


def _gives_windows(session: Session, options: dict) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return len(make_windows(session, **options)) > 0
        except MetadynError:
            return False
