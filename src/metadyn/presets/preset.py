"""The parts of a preset, and the trials that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from metadyn.errors import SelectionError


@dataclass(frozen=True)
class Trials:
    """The trials of a session, as far as a preset chooses by them.

    Parameters
    ----------
    columns : names of the table's columns; empty without trials.
    file : where the session comes from, for messages.
    """

    columns: Sequence[str]
    file: str | None = None

    def first_of(self, *wanted: str) -> str | None:
        """The first of the wanted columns that there is; None without one.

        >>> Trials(["stop_time", "target_dir"]).first_of("target_id", "target_dir")
        'target_dir'
        """
        return next((column for column in wanted if column in self.columns), None)

    def require(self, preset: str, *needed: str) -> None:
        """Check that no column is missing.

        Parameters
        ----------
        preset : its name, for the message.
        needed : columns that it cannot do without.

        Raises
        ------
        SelectionError : one is missing.
        """
        missing = [column for column in needed if column not in self.columns]
        if missing:
            raise SelectionError(
                f"the preset {preset} does not fit: trials lack {', '.join(missing)}",
                file=self.file,
                item="trials",
                found=f"columns of trials: {', '.join(self.columns) or 'no trials table'}",
                remedy="leave `preset` out and give `align`, `n_bins` and `where`",
            )


@dataclass(frozen=True)
class Preset:
    """Settings that go together.

    Parameters
    ----------
    data : gives fields of `DataConfig` by the trials of a session.
    sections : values for [model] and [training] that lie under a configuration.
    """

    data: Callable[[Trials], dict]
    sections: Mapping[str, dict] = field(default_factory=dict)
