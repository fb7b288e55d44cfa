"""The frozen nouns that travel between the rooms. Times are in seconds on the session clock, arrays
are numpy.

Vocabulary of axes: session trial time unit latent embedding rank sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

# Indices (a sequence of Python's or numpy's integers), a mask, or a slice of an axis
Selection = np.ndarray | Sequence[Any] | slice


@dataclass(frozen=True)
class Source:
    """Where a session came from, as far as the file says (absent stays absent)."""

    uri: str | None = None
    identifier: str | None = None
    object_id: str | None = None
    units_object_id: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class BehaviorSeries:
    """One behavioural time series: `values` (sample, channel) in `unit` at `times` (sample,) [s],
    ascending.

    A value that is NaN is a channel that was not measured at that time. `between` says what holds
    between two samples: a straight line (`linear`), the value of the nearer sample (`nearest`) or
    of the one before (`held`); samples of `events` are moments, one column a kind, 1 where the
    moment is of that kind. Times are finite; the first of a `held` series may be -inf. `period`
    (channel,): the turn after which an angle comes round, inf for a channel that is no angle.
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    unit: str
    between: str = "linear"
    period: np.ndarray | float = np.inf


@dataclass(frozen=True)
class Session:
    """One recording: spike times never travel without the intervals in which they were observed.

    spike_times (spike,) holds the spikes of all units end to end, ascending within a unit; those of
    unit u are `spike_times[spike_index[u]:spike_index[u + 1]]`. `units` and each table of
    `intervals` hold a value a row, or a tuple of several, indexed by the rows' ids; interval tables
    always have start_time and stop_time. Their row order is the file's.

    observed (interval, 2): when some unit was observed, invalid time taken out; None where the file
    does not say. It reaches to ±`data.ticks.LATEST` where the file says only what is invalid.
    unit_observed: the same of each unit, (interval, 2); None where all units are observed alike.
    invalid (interval, 2): what the file calls invalid of some unit.
    """

    key: str
    source: Source
    spike_times: np.ndarray
    spike_index: np.ndarray
    units: pd.DataFrame
    observed: np.ndarray | None
    intervals: dict[str, pd.DataFrame]
    behavior: dict[str, BehaviorSeries] = field(default_factory=dict)
    behavior_names: tuple[str, ...] = ()
    unit_observed: tuple[np.ndarray, ...] | None = None
    invalid: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))

    @property
    def n_units(self) -> int:
        """Rows of the Units table."""
        return len(self.spike_index) - 1


@dataclass(frozen=True)
class Windows:
    """Windows of whole bins: window i covers [start[i], start[i] + n_bins[i] * bin_width).

    `table` names the interval table, `trial_row` (trial,) the row that each window was taken from
    (None and -1 for a continuous recording).
    """

    start: np.ndarray
    n_bins: np.ndarray
    bin_width: float
    table: str | None
    trial_row: np.ndarray

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.start)

    @property
    def stop(self) -> np.ndarray:
        """Where each window ends (trial,) [s]."""
        return self.start + self.n_bins * self.bin_width

    def share_time(self, starts: np.ndarray, stops: np.ndarray, gap: float = 0.0) -> np.ndarray:
        """Which windows (trial,) share time with any interval from `starts` to `stops` [s], or lie
        less than `gap` s from it.

        The intervals do not overlap. Half a bin is rounding: windows that touch share nothing.
        """
        if not len(starts):
            return np.zeros(len(self), bool)
        order = np.argsort(starts, kind="stable")
        starts = np.asarray(starts)[order]
        stops = np.asarray(stops)[order]
        slack = gap - self.bin_width / 2
        last = np.searchsorted(starts, self.stop + slack) - 1
        return (last >= 0) & (stops[np.maximum(last, 0)] > self.start - slack)

    def select(self, trials: Selection) -> Windows:
        """Some of the windows, by their indices or a mask (trial,), or by a slice."""
        return replace(
            self,
            start=self.start[trials],
            n_bins=self.n_bins[trials],
            trial_row=self.trial_row[trials],
        )


@dataclass(frozen=True)
class TrialCounts:
    """Binned spikes of one session, padded to its longest window.

    counts (trial, time, unit): spikes per bin (integers), or smoothed spikes per bin (float32);
    zero where not observed. observed (trial, time): False in padding and where no unit was
    observed. unit_observed (trial, time, unit): False where that unit was not observed; None where
    all units are observed alike. unit_rows (unit,): rows of the Units table, in the order of the
    last axis. behavior (trial, time, channel): values at bin centres, NaN where there are none,
    channel by channel; condition (trial,): labels, empty text where a window has none.
    behavior_period (channel,): the turn of each channel that is an angle, inf of others; None: no
    angle. unit_digests (unit,): a digest of each unit's spike times, by which the same recording is
    recognised; None of counts that came without spike times.
    """

    session: str
    source: Source
    counts: np.ndarray
    observed: np.ndarray
    windows: Windows
    unit_rows: np.ndarray
    behavior: np.ndarray | None = None
    behavior_name: str | None = None
    condition: np.ndarray | None = None
    condition_name: str | None = None
    unit_observed: np.ndarray | None = None
    behavior_period: np.ndarray | None = None
    unit_digests: np.ndarray | None = None

    @property
    def behavior_targets(self) -> np.ndarray | None:
        """The targets of a linear decoder (trial, time, target): channels that are no angle, then
        cosines, then sines."""
        if self.behavior is None or self.behavior_period is None:
            return self.behavior
        angle = np.isfinite(self.behavior_period)
        phase = self.behavior[..., angle] * (2 * np.pi / self.behavior_period[angle])
        return np.concatenate([self.behavior[..., ~angle], np.cos(phase), np.sin(phase)], axis=-1)

    @property
    def observed_entries(self) -> np.ndarray:
        """Which entries were observed: (trial, time, unit), or (trial, time, 1) where all units are
        observed alike."""
        return self.observed[..., None] if self.unit_observed is None else self.unit_observed

    @property
    def bin_width(self) -> float:
        """Width of a bin [s]."""
        return self.windows.bin_width

    @property
    def n_trials(self) -> int:
        """Length of the axis `trial`."""
        return self.counts.shape[0]

    @property
    def n_units(self) -> int:
        """Length of the axis `unit`."""
        return self.counts.shape[2]

    def stored(self, storage: Callable[[np.ndarray], np.ndarray]) -> TrialCounts:
        """The same counts, with the arrays of the shape (trial, time, unit) where `storage` puts
        them: in memory or on disk (`data.storage`)."""
        entries = None if self.unit_observed is None else storage(self.unit_observed)
        return replace(self, counts=storage(self.counts), unit_observed=entries)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of the shape (trial, time, unit)."""
        return self.counts.nbytes + (0 if self.unit_observed is None else self.unit_observed.nbytes)

    def select(
        self,
        trials: Selection = slice(None),
        units: Selection = slice(None),
        session: str | None = None,
    ) -> TrialCounts:
        """The same session restricted to some trials and units (indices, masks or slices), under
        another key if given."""

        def of_trials(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[trials]

        entries = None if self.unit_observed is None else self.unit_observed[trials][:, :, units]
        return replace(
            self,
            session=session or self.session,
            counts=self.counts[trials][:, :, units],
            observed=self.observed[trials] if entries is None else np.asarray(entries.any(-1)),
            windows=self.windows.select(trials),
            unit_rows=self.unit_rows[units],
            behavior=of_trials(self.behavior),
            condition=of_trials(self.condition),
            unit_observed=entries,
            unit_digests=None if self.unit_digests is None else self.unit_digests[units],
        )


def start_and_stop(windows: Windows) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """When windows start and stop, in the order of time [s, to the microsecond]."""
    order = np.argsort(windows.start, kind="stable")
    starts, stops = (
        tuple(np.round(times[order], 6).tolist()) for times in (windows.start, windows.stop)
    )
    return starts, stops


@dataclass(frozen=True)
class SessionEntry:
    """A session that a model has a read-in and a likelihood for, as its file records it.

    trained_starts, trained_stops: start and stop times [s] of the windows that trained it; what
    shares no time with them it has never seen, or only validated on. Models of before the stops
    were kept have none. embedding_mean, embedding_sd (embedding,): posterior of the session's
    dynamical embedding given the windows that trained it; empty where the embedding is inferred
    from each window alone. validated_starts, validated_stops: the same of the windows that chose
    the checkpoint; None in models of before they were kept. gap: what is nearer than this [s] to
    such a window is none that the model has never met (a continuous recording). noise_scale: SD of
    the process noise of its forecasts over that of the transitions (`training.calibrate`).
    unit_digests: those of `TrialCounts`, by which the same recording is known again; models of
    before they were kept have none.
    """

    key: str
    n_units: int
    unit_rows: tuple[int, ...]
    source: Source
    trained_starts: tuple[float, ...] = ()
    trained_stops: tuple[float, ...] = ()
    embedding_mean: tuple[float, ...] = ()
    embedding_sd: tuple[float, ...] = ()
    noise_scale: float = 1.0
    unit_digests: tuple[str, ...] = ()
    validated_starts: tuple[float, ...] | None = None
    validated_stops: tuple[float, ...] | None = None
    gap: float = 0.0

    @staticmethod
    def of(
        trained: TrialCounts, validated: TrialCounts | None = None, gap: float = 0.0
    ) -> SessionEntry:
        """The entry of a session that these trials trained, and others, if any, chose the
        checkpoint of."""
        rows = tuple(map(int, trained.unit_rows))
        digests = () if trained.unit_digests is None else tuple(map(str, trained.unit_digests))
        starts, stops = start_and_stop(trained.windows)
        chose = ((), ()) if validated is None else start_and_stop(validated.windows)
        known = SessionEntry(trained.session, trained.n_units, rows, trained.source, starts, stops)
        return replace(
            known,
            unit_digests=digests,
            validated_starts=chose[0],
            validated_stops=chose[1],
            gap=gap,
        )

    @staticmethod
    def from_json(entry: dict[str, Any]) -> SessionEntry:
        """The inverse of `dataclasses.asdict`, field by field by its name.

        Fields that models of earlier versions lack take their defaults. KeyError, TypeError or
        ValueError where the values are none of an entry, or lists of a pair differ in length.
        """
        read = SessionEntry(
            key=str(entry["key"]),
            n_units=int(entry["n_units"]),
            unit_rows=tuple(map(int, entry["unit_rows"])),
            source=Source(**entry["source"]),
            trained_starts=_floats(entry["trained_starts"]),
            trained_stops=_floats(entry.get("trained_stops", ())),
            embedding_mean=_floats(entry.get("embedding_mean", ())),
            embedding_sd=_floats(entry.get("embedding_sd", ())),
            noise_scale=float(entry.get("noise_scale", 1.0)),
            unit_digests=tuple(map(str, entry.get("unit_digests", ()))),
            validated_starts=_floats_or_none(entry.get("validated_starts")),
            validated_stops=_floats_or_none(entry.get("validated_stops")),
            gap=float(entry.get("gap", 0.0)),
        )
        read._check()
        return read

    def _check(self) -> None:
        """Raise ValueError where values that belong together differ in number, or the factor of
        the noise is none."""
        if not 0 < self.noise_scale < np.inf:
            raise ValueError(f"noise_scale {self.noise_scale}")
        _check_pair("trained_starts", self.trained_starts, "trained_stops", self.trained_stops)
        _check_pair("unit_rows", self.unit_rows, "unit_digests", self.unit_digests)
        if len(self.embedding_mean) != len(self.embedding_sd):
            found = f"{len(self.embedding_mean)} values in embedding_mean"
            raise ValueError(f"{found}, {len(self.embedding_sd)} in embedding_sd")
        starts, stops = self.validated_starts, self.validated_stops
        if starts is not None and stops is not None and len(starts) != len(stops):
            raise ValueError(f"{len(starts)} validated_starts, {len(stops)} validated_stops")

    def other_data(self, counts: TrialCounts) -> str | None:
        """What units or spikes of a recording differ from those that the model was fitted to, in
        words; None where, as far as is known of both, none do."""
        rows = tuple(map(int, counts.unit_rows))
        if len(rows) != self.n_units:
            return f"{len(rows)} units, not {self.n_units}"
        if rows != self.unit_rows:
            return f"rows {_first_of(rows)} of the Units table, not {_first_of(self.unit_rows)}"
        if counts.unit_digests is None or not self.unit_digests:
            return None
        then = np.array(self.unit_digests)
        now = counts.unit_digests
        other = np.flatnonzero(then != now)
        if len(other) == 0:
            return None
        if sorted(then) == sorted(now):
            return f"the same {len(rows)} units, in another order"
        changed = _first_of([rows[unit] for unit in other])
        return f"other spike times in {len(other)} of {len(rows)} units (rows {changed})"

    def trained_on(self, counts: TrialCounts, gap: float = 0.0) -> np.ndarray:
        """Which windows (trial,) share time with those that trained the model, or lie less than
        `gap` s from one."""
        starts = np.asarray(self.trained_starts)
        same = np.isin(np.round(counts.windows.start, 6), starts)
        return same | counts.windows.share_time(
            starts[: len(self.trained_stops)], np.asarray(self.trained_stops), gap
        )

    def held_out(self, counts: TrialCounts) -> np.ndarray:
        """Which windows (trial,) did not train the model: those that chose its checkpoint, and
        those it has never met."""
        return ~self.trained_on(counts, self.gap)

    def never_met(self, counts: TrialCounts) -> np.ndarray:
        """Which windows (trial,) neither trained the model nor chose its checkpoint; none where
        that is not known."""
        if self.validated_starts is None or self.validated_stops is None:
            return np.zeros(counts.n_trials, bool)
        chose = counts.windows.share_time(
            np.asarray(self.validated_starts), np.asarray(self.validated_stops), self.gap
        )
        return self.held_out(counts) & ~chose


@dataclass(frozen=True)
class ModelFile:
    """A model as bytes, ready to be embedded: `weights` is a whole safetensors file, `config` a
    JSON-able dict."""

    architecture: str
    config: dict
    weights: bytes
    digest: str
    sessions: tuple[SessionEntry, ...]


def _first_of(rows: Sequence[int], most: int = 5) -> str:
    """The first numbers of a list as text, with an ellipsis for the others.

    >>> _first_of([1, 2, 3], most=2)
    '1, 2, …'
    """
    shown = ", ".join(map(str, rows[:most]))
    return shown + (", …" if len(rows) > most else "")


def _floats(values: Iterable[Any]) -> tuple[float, ...]:
    """The values as Python floats."""
    return tuple(map(float, values))


def _floats_or_none(values: Iterable[Any] | None) -> tuple[float, ...] | None:
    """The values as Python floats; None for None, which means: not known."""
    return None if values is None else _floats(values)


def _check_pair(name: str, values: Sized, later_name: str, later: Sized) -> None:
    """Raise ValueError where a list that came with a later version is there, but not of the
    length of the list that it belongs to."""
    if len(later) and len(later) != len(values):
        raise ValueError(f"{len(values)} {name}, {len(later)} {later_name}")
