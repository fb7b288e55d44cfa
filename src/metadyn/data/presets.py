"""Choices that suit a known dandiset's layout, as fields of DataConfig; they look at the session,
for columns vary by file."""

from __future__ import annotations

import difflib

from metadyn.errors import ConfigError, SelectionError
from metadyn.records import Session


def perich_co(session: Session) -> dict:
    """DANDI:000688, centre-out reaching (Perich et al.): rewarded trials round movement onset,
    cursor velocity."""
    _check_columns(session, "perich-co", ("result", "move_onset_time"))
    return {
        "bin_width": 0.02,
        "intervals": "trials",
        "where": "result == 'R'",
        "align": "move_onset_time",
        "start": -0.26,  # 13 bins before movement onset, 23 after: preparation and the reach
        "n_bins": 36,
        "behavior": "cursor_vel",
        "condition": _first(session, ("target_id", "target_dir")),
    }


def churchland_maze(session: Session) -> dict:
    """DANDI:000070, Maze reaching (Churchland et al.): correct, undiscarded trials round movement
    onset, hand velocity.

    The files hold the hand's position only; its velocity is the displacement over each bin, divided
    by the bin's width.
    """
    _check_columns(session, "churchland-maze", ("move_begins_time",))
    correct = _first(session, ("correct_reach", "task_success"))
    discard = _first(session, ("discard_trial",))
    return {
        "bin_width": 0.02,
        "intervals": "trials",
        "where": " and ".join([correct] * bool(correct) + [f"not {discard}"] * bool(discard))
        or None,
        "align": "move_begins_time",
        # As much preparation as in MC_Maze, and the whole of a reach of up to .45 s
        "start": -0.25,
        "n_bins": 35,
        "behavior": "velocity:Hand",
        "condition": _first(session, ("trial_version", "trial_type")),
    }


def paper_synthetic(session: Session) -> dict:
    """The paper's simulations: whole trials as they are, no unit dropped (D.1)."""
    return {"min_rate": 0.0}


def paper_motor(session: Session) -> dict:
    """The paper's motor recordings, of either layout: 20 ms bins under a 25 ms Gaussian, 36 bins
    round movement onset (D.1)."""
    there = session.intervals["trials"].columns if "trials" in session.intervals else ()
    layout = churchland_maze if "move_begins_time" in there else perich_co
    onset = {
        "start": -0.26,
        "n_bins": 36,
    }  # 13 bins before movement onset, from which forecasts start (D.2)
    return layout(session) | onset | {"smoothing": 0.025, "min_rate": 0.1}


PRESETS = {
    "perich-co": perich_co,
    "churchland-maze": churchland_maze,
    "paper-synthetic": paper_synthetic,
    "paper-motor": paper_motor,
}


def preset(name: str, session: Session) -> dict:
    """The DataConfig fields that preset `name` gives for this session.

    Raises ConfigError for an unknown preset, SelectionError when the session's trials lack a column
    that it needs.
    """
    if name not in PRESETS:
        nearest = difflib.get_close_matches(name, PRESETS, n=1)
        remedy = f"--preset {nearest[0] if nearest else next(iter(PRESETS))}"
        raise ConfigError(
            f"no preset {name!r}", item=name, found=f"presets: {', '.join(PRESETS)}", remedy=remedy
        )
    return PRESETS[name](session)


def _first(session: Session, columns) -> str | None:
    there = session.intervals["trials"].columns
    return next((column for column in columns if column in there), None)


def _check_columns(session: Session, name: str, needed) -> None:
    there = list(session.intervals["trials"].columns) if "trials" in session.intervals else []
    missing = [column for column in needed if column not in there]
    if missing:
        found = f"columns of trials: {', '.join(there) or 'no trials table'}"
        problem = f"the preset {name} does not fit: trials lack {', '.join(missing)}"
        remedy = "leave --preset out and say --align, --n-bins and --where"
        raise SelectionError(
            problem, file=session.source.uri, item="trials", found=found, remedy=remedy
        )
