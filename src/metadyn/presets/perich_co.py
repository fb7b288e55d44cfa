"""DANDI:000688, centre-out reaching (Perich et al.).

Command: `metadyn fit FILES… -o MODEL --preset perich-co`
"""

from __future__ import annotations

from metadyn.presets.preset import Preset, Trials


def data(trials: Trials) -> dict:
    """Rewarded trials around movement onset, with the velocity of the cursor.

    Raises
    ------
    SelectionError : trials have no column of results or of movement onsets.
    """
    trials.require("perich-co", "result", "move_onset_time")
    return {
        "bin_width": 0.02,
        "intervals": "trials",
        "where": "result == 'R'",
        "align": "move_onset_time",
        "start": -0.26,  # 13 bins before movement onset, 23 after: preparation and the reach
        "n_bins": 36,
        "behavior": "cursor_vel",
        "condition": trials.first_of("target_id", "target_dir"),
    }


PRESET = Preset(data)
