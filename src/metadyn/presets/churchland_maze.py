"""DANDI:000070, maze reaching (Churchland et al.).

Command: `metadyn fit FILES… -o MODEL --preset churchland-maze`
"""

from __future__ import annotations

from metadyn.presets.preset import Preset, Trials


def data(trials: Trials) -> dict:
    """Correct trials that were not discarded, around movement onset, with the hand's velocity.

    The files hold the hand's position only; its velocity is the displacement over each bin, divided
    by the bin's width. Files differ in the columns that mark correct trials and conditions: the
    first one that a file has is taken.

    Raises
    ------
    SelectionError : trials have no column of movement onsets.
    """
    trials.require("churchland-maze", "move_begins_time")
    correct = trials.first_of("correct_reach", "task_success")
    discard = trials.first_of("discard_trial")
    terms = [correct] if correct else []
    if discard:
        terms.append(f"not {discard}")
    return {
        "bin_width": 0.02,
        "intervals": "trials",
        "where": " and ".join(terms) or None,
        "align": "move_begins_time",
        # As much preparation as in MC_Maze, and all of a reach of up to .45 s
        "start": -0.25,
        "n_bins": 35,
        "behavior": "velocity:Hand",
        "condition": trials.first_of("trial_version", "trial_type"),
    }


PRESET = Preset(data)
