"""Simulated sessions as NWB files that validate, with the truth inside.

Where the truth is: every parameter of the dynamics is a column of the trials table; the true latent
states and firing rates are the TimeSeries `SimulatedLatents` and `SimulatedRates` of the processing
module `ecephys`, at bin centres, trials end to end.
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

NO_DATE = datetime(
    2000, 1, 1, tzinfo=UTC
)  # a simulation has no date; a fixed one keeps the files alike
RESOLUTION = 1e-6  # spike times are rounded to microseconds, far finer than a bin
SYNTHETIC = "http://purl.obolibrary.org/obo/NCBITaxon_32630"  # NCBI taxonomy: synthetic construct


def simulated_path(folder: str | Path, key: str) -> Path:
    """Where a simulated session lies in a dandiset: sub-<key>/sub-<key>_ses-<key>_ecephys.nwb."""
    label = re.sub(r"[^A-Za-z0-9]", "", key)
    return Path(folder).expanduser() / f"sub-{label}" / f"sub-{label}_ses-{label}_ecephys.nwb"


def write_simulated(session: SimulatedSession, folder: str | Path) -> Path:
    """Write one simulated session below `folder`; returns the path. An older file of that path is
    replaced.

    Raises WriteError for a session without spikes: a units table could not hold it.
    """
    if not isinstance(session, SimulatedSpikes):
        problem, remedy = (
            "a simulated session without spikes has no file",
            "observations='spikes', or as_counts for arrays",
        )
        raise WriteError(problem, item=session.key, found="Gaussian observations", remedy=remedy)
    path = simulated_path(folder, session.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(_nwbfile(session))
    return path


def _nwbfile(session: SimulatedSpikes) -> NWBFile:
    label = re.sub(r"[^A-Za-z0-9]", "", session.key)
    nwbfile = NWBFile(
        session_description=f"Simulated spikes of {_n_units(session)} Poisson units driven by "
        "latent dynamics.",
        identifier=str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"{SOFTWARE}/{session.key}/{_fingerprint(session)}")
        ),
        session_start_time=NO_DATE,
        session_id=label,
        experimenter=["Simulation, Numerical"],
        institution="None (simulated)",
        lab="None (simulated)",
        experiment_description="Simulated recordings with known latent dynamics, for tests and "
        "demonstrations.",
        keywords=["simulation", "latent dynamics"],
        was_generated_by=[[SOFTWARE, software_version()]],
        subject=Subject(
            subject_id=label,
            species=SYNTHETIC,
            sex="U",
            age="P0D",
            description="No animal: these spikes are simulated.",
        ),
    )
    start, stop = _trial_bounds(session)
    _add_trials(nwbfile, session, start, stop)
    _add_units(nwbfile, session, np.stack([start, stop], axis=1))
    _add_truth(nwbfile, session, start)
    return nwbfile


def _n_units(session: SimulatedSpikes) -> int:
    return session.counts.shape[2]


def _fingerprint(session: SimulatedSpikes) -> str:
    """The same spikes have the same identifier, others another."""
    return hashlib.sha256(np.ascontiguousarray(session.spike_times)).hexdigest()


def _trial_bounds(session: SimulatedSpikes) -> tuple[np.ndarray, np.ndarray]:
    start = np.asarray(session.trial_start, dtype=np.float64)
    return start, start + session.counts.shape[1] * session.bin_width


def _add_trials(nwbfile, session: SimulatedSpikes, start: np.ndarray, stop: np.ndarray) -> None:
    columns = [
        VectorData(name="start_time", description="Start of the trial, in seconds.", data=start),
        VectorData(name="stop_time", description="End of the trial, in seconds.", data=stop),
    ]
    for name, value in session.parameters.items():
        values = np.full(len(start), value, dtype=np.float64)
        columns.append(
            VectorData(
                name=name,
                description=f"True parameter of the simulated dynamics: {name}.",
                data=values,
            )
        )
    names = np.full(len(start), session.family, dtype=object)
    columns.append(
        VectorData(
            name="family", description="Family of dynamical systems that was simulated.", data=names
        )
    )
    nwbfile.trials = TimeIntervals(name="trials", description="Simulated trials.", columns=columns)


def _add_units(nwbfile, session: SimulatedSpikes, observed: np.ndarray) -> None:
    """The Units table column by column: spikes of all units end to end, and for each unit the
    trials as observed intervals."""
    n_units = _n_units(session)
    spikes = VectorData(
        name="spike_times",
        description="Spike times, in seconds.",
        data=np.round(session.spike_times, 6),
    )
    seen = VectorData(
        name="obs_intervals",
        description="Intervals in which spikes were simulated.",
        data=np.tile(observed, (n_units, 1)),
    )
    ends = len(observed) * np.arange(1, n_units + 1)
    nwbfile.units = Units(
        name="units",
        description="Simulated units.",
        resolution=RESOLUTION,
        columns=[
            spikes,
            VectorIndex(
                name="spike_times_index", data=np.asarray(session.spike_index[1:]), target=spikes
            ),
            seen,
            VectorIndex(name="obs_intervals_index", data=ends, target=seen),
        ],
        colnames=["spike_times", "obs_intervals"],
    )


def _add_truth(nwbfile, session: SimulatedSpikes, start: np.ndarray) -> None:
    n_bins = session.counts.shape[1]
    times = (start[:, None] + (np.arange(n_bins) + 0.5) * session.bin_width).ravel()
    module = nwbfile.create_processing_module(
        name="ecephys", description="What the spikes were simulated from, and results."
    )
    latents = TimeSeries(
        name="SimulatedLatents",
        description="True latent states.",
        unit="a.u.",
        data=_end_to_end(session.latents),
        timestamps=times,
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
    return np.asarray(values, dtype=np.float32).reshape(-1, values.shape[-1])
