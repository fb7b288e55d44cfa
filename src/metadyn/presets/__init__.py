"""Presets: settings that suit a known dandiset, or the paper's; a file and a line of a table each.

A preset gives fields of `DataConfig` by the columns that a session's trials have, and may give
values for the sections [model] and [training], which lie under those of a configuration.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from metadyn.errors import ConfigError
from metadyn.presets import churchland_maze, paper_motor, paper_synthetic, perich_co
from metadyn.presets.preset import Preset, Trials

PRESETS: dict[str, Preset] = {
    "perich-co": perich_co.PRESET,
    "churchland-maze": churchland_maze.PRESET,
    "paper-synthetic": paper_synthetic.PRESET,
    "paper-motor": paper_motor.PRESET,
}


def preset_data(name: str, columns: Sequence[str], file: str | None = None) -> dict:
    """The fields of `DataConfig` that a preset gives for trials of these columns.

    Parameters
    ----------
    name : of the preset.
    columns : of the session's trials; empty where it has none.
    file : where the session comes from, for messages.

    Raises
    ------
    ConfigError : there is no such preset; the nearest one is named.
    SelectionError : the trials lack a column that the preset needs.

    >>> preset_data("paper-synthetic", ["start_time", "stop_time"])
    {'min_rate': 0.0}
    """
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name, PRESETS, n=1)
        options = {"preset": nearest[0] if nearest else next(iter(PRESETS))}
        found = f"presets: {', '.join(PRESETS)}"
        raise ConfigError(f"no preset {name!r}", item=name, found=found, options=options)
    return PRESETS[name].data(Trials(columns, file))
