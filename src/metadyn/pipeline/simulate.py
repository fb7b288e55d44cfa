"""`metadyn.simulate`: NWB files of spikes whose latent dynamics are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def simulate(family: str, output: str | Path, **options: Any) -> list[Path]:
    """Simulate sessions and write them below `output`, laid out as in a dandiset.

    Parameters
    ----------
    family : of dynamical systems: limit-cycle, hopf, duffing.
    output : folder for the files.
    options : of `metadyn.data.synthetic.simulate`: parameters, n_sessions, n_trials, n_bins, units,
        rate_range [Hz], seed, … Gaussian observations have no files: call that function for them.

    Returns
    -------
    The paths of the files.
    """
    from metadyn.data import synthetic
    from metadyn.nwb.simulate import write_simulated

    return [write_simulated(session, output) for session in synthetic.simulate(family, **options)]
