"""Simulated sessions as NWB files that validate, with the true states and parameters inside.

Every parameter of the dynamics is a column of the trials table. The true latent states and firing
rates are the TimeSeries `SimulatedLatents` and `SimulatedRates` of the processing module `ecephys`,
at bin centres, trials end to end.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hdmf.common import VectorData, VectorIndex
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units

from metadyn.data.synthetic import SimulatedSession, SimulatedSpikes
from metadyn.errors import WriteError
from metadyn.nwb.provenance import SOFTWARE, software_version

# A simulation has no date; a fixed one keeps the files alike
NO_DATE = datetime(2000, 1, 1, tzinfo=UTC)
RESOLUTION = 1e-6  # spike times are rounded to microseconds, far finer than a bin
EXPERIMENT = "Simulated recordings with known latent dynamics, for tests and demonstrations."
SYNTHETIC = "http://purl.obolibrary.org/obo/NCBITaxon_32630"  # NCBI taxonomy: synthetic construct


def simulated_path(folder: str | Path, key: str) -> Path:
    """Where a simulated session lies in a dandiset.

    >>> simulated_path("data", "limit-cycle 3").as_posix()
    'data/sub-limitcycle3/sub-limitcycle3_ses-limitcycle3_ecephys.nwb'
    """
    label = _bids_label(key)
    return Path(folder).expanduser() / f"sub-{label}" / f"sub-{label}_ses-{label}_ecephys.nwb"


def write_simulated(session: SimulatedSession, folder: str | Path) -> Path:
    """Write one simulated session below `folder`; an older file of that path is replaced.

    Returns
    -------
    The path, of `simulated_path`.

    Raises
    ------
    WriteError : the session has no spikes: a units table could not hold it.
    """
    if not isinstance(session, SimulatedSpikes):
        raise WriteError(
            "a simulated session without spikes has no file",
            item=session.key,
            found="Gaussian observations",
            remedy="observations='spikes', or as_counts for arrays",
        )
    path = simulated_path(folder, session.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(_nwbfile(session))
    return path


def _nwbfile(session: SimulatedSpikes) -> NWBFile:
    """The file of a session in memory."""
    label = _bids_label(session.key)
    n_units = _n_units(session)
    content = f"{SOFTWARE}/{session.key}/{_fingerprint(session)}"
    nwbfile = NWBFile(
        session_description=f"Simulated spikes of {n_units} Poisson units "
        "driven by latent dynamics.",
        identifier=str(uuid.uuid5(uuid.NAMESPACE_URL, content)),
        session_start_time=NO_DATE,
        session_id=label,
        experimenter=["Simulation, Numerical"],
        institution="None (simulated)",
        lab="None (simulated)",
        experiment_description=EXPERIMENT,
        keywords=["simulation", "latent dynamics"],
        was_generated_by=[[SOFTWARE, software_version()]],
        subject=_subject(label),
    )
    start, stop = _trial_bounds(session)
    _add_trials(nwbfile, session, start, stop)
    _add_units(nwbfile, session, np.stack([start, stop], axis=1))
    _add_truth(nwbfile, session, start)
    return nwbfile


def _subject(label: str) -> Subject:
    """The subject that NWB and DANDI ask for."""
    return Subject(
        subject_id=label,
        species=SYNTHETIC,
        sex="U",
        age="P0D",
        description="No animal: these spikes are simulated.",
    )


def _bids_label(key: str) -> str:
    """A session's key without what BIDS-like file names do not allow."""
    return re.sub(r"[^A-Za-z0-9]", "", key)


def _n_units(session: SimulatedSpikes) -> int:
    """Units of a session."""
    return session.counts.shape[2]


def _fingerprint(session: SimulatedSpikes) -> str:
    """The same text for the same spikes, another for others."""
    return hashlib.sha256(np.ascontiguousarray(session.spike_times).tobytes()).hexdigest()


def _trial_bounds(session: SimulatedSpikes) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of each trial, each (trial,) [s]."""
    start = np.asarray(session.trial_start, dtype=np.float64)
    return start, start + session.counts.shape[1] * session.bin_width


def _add_trials(
    nwbfile: NWBFile, session: SimulatedSpikes, start: np.ndarray, stop: np.ndarray
) -> None:
    """Trials (trial,) [s], with the parameters of the dynamics, the same in each row."""
    columns = [
        VectorData(name="start_time", description="Start of the trial, in seconds.", data=start),
        VectorData(name="stop_time", description="End of the trial, in seconds.", data=stop),
    ]
    for name, value in session.parameters.items():
        values = np.full(len(start), value, dtype=np.float64)
        description = f"True parameter of the simulated dynamics: {name}."
        columns.append(VectorData(name=name, description=description, data=values))
    families = np.full(len(start), session.family, dtype=object)
    description = "Family of dynamical systems that was simulated."
    columns.append(VectorData(name="family", description=description, data=families))
    nwbfile.trials = TimeIntervals(name="trials", description="Simulated trials.", columns=columns)


def _add_units(nwbfile: NWBFile, session: SimulatedSpikes, observed: np.ndarray) -> None:
    """The Units table, made column by column, spikes of all units end to end.

    Each unit was observed in all trials, `observed` (trial, 2) [s].
    """
    n_units = _n_units(session)
    spikes = VectorData(
        name="spike_times",
        description="Spike times, in seconds.",
        data=np.round(session.spike_times, 6),
    )
    intervals = VectorData(
        name="obs_intervals",
        description="Intervals in which spikes were simulated.",
        data=np.tile(observed, (n_units, 1)),
    )
    spike_ends = np.asarray(session.spike_index[1:])
    interval_ends = len(observed) * np.arange(1, n_units + 1)
    nwbfile.units = Units(
        name="units",
        description="Simulated units.",
        resolution=RESOLUTION,
        columns=[
            spikes,
            VectorIndex(name="spike_times_index", data=spike_ends, target=spikes),
            intervals,
            VectorIndex(name="obs_intervals_index", data=interval_ends, target=intervals),
        ],
        colnames=["spike_times", "obs_intervals"],
    )


def _add_truth(nwbfile: NWBFile, session: SimulatedSpikes, start: np.ndarray) -> None:
    """The true latents and rates at bin centres, trials, which begin at `start` [s], end to end."""
    n_bins = session.counts.shape[1]
    from_start = (np.arange(n_bins) + 0.5) * session.bin_width
    module = nwbfile.create_processing_module(
        name="ecephys", description="What the spikes were simulated from, and results."
    )
    latents = TimeSeries(
        name="SimulatedLatents",
        description="True latent states.",
        unit="a.u.",
        data=_end_to_end(session.latents),
        timestamps=(start[:, None] + from_start).ravel(),
    )
    rates = TimeSeries(
        name="SimulatedRates",
        description="True firing rates, one column a unit.",
        unit="Hz",
        data=_end_to_end(session.rates),
        timestamps=latents,
    )
    module.add([latents, rates])


def _end_to_end(values: np.ndarray) -> np.ndarray:
    """(trial, time, column) as (sample, column) float32."""
    return np.asarray(values, dtype=np.float32).reshape(-1, values.shape[-1])
