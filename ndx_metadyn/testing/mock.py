"""Small valid objects of each type, for tests here and in packages that read these types.

`mock_LatentDynamics(nwbfile)` puts a whole run, with a model whose weights run, into a file;
everything is random but seeded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion
from pynwb import NWBFile
from pynwb.base import TimeSeriesReference
from pynwb.file import Subject

from ndx_metadyn import (
    DynamicalEmbeddingsTable,
    FiringRateSeries,
    LatentDynamics,
    LatentDynamicsModel,
    LatentSeries,
    TrainingAssetsTable,
)

BIN_WIDTH = 0.05  # seconds
N_WINDOWS = 4
N_BINS = 10  # of a window
N_UNITS = 5  # of the model's first session; the file has two more
N_LATENTS = 2
N_EMBEDDING = 2
PERIOD = 1.0  # seconds from a window's start to the next
# Last first, so that rows, ids and columns all differ
UNIT_ROWS = list(range(N_UNITS + 2))[::-1]


def mock_settings(
    conditioning: str = "low_rank",
    likelihood: str = "poisson",
    n_units: Sequence[int] = (N_UNITS, N_UNITS + 2),
    rank: int = 2,
) -> dict[str, Any]:
    """Config of a model of the sessions 'mock-0', 'mock-1', …

    Parameters
    ----------
    conditioning, likelihood, rank : of the model.
    n_units : of each session; its units are the last rows of the Units table, last first.
    """
    model: dict[str, Any] = {
        "latent_dim": N_LATENTS,
        "embedding_dim": N_EMBEDDING,
        "conditioning": conditioning,
        "rank": rank,
    }
    model |= {"likelihood": likelihood, "hidden": [6, 4], "hyper_hidden": 3}
    sessions = [
        {"key": f"mock-{i}", "n_units": n, "unit_rows": UNIT_ROWS[:n]}
        for i, n in enumerate(n_units)
    ]
    return {
        "format": 1,
        "architecture": "MetaSSM",
        "bin_width": BIN_WIDTH,
        "model": model,
        "sessions": sessions,
    }


def mock_tensors(settings: dict, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 weights of the generative part that fit `settings`."""
    from ndx_metadyn.rollout import expected_shapes

    rng = np.random.default_rng(seed)
    sessions = settings["sessions"]
    shapes = expected_shapes(
        settings["model"], len(sessions), max(session["n_units"] for session in sessions)
    )
    return {
        name: rng.normal(size=shape, scale=0.5).astype(np.float32) for name, shape in shapes.items()
    }


def mock_LatentDynamicsModel(
    name: str = "LatentDynamicsModel", seed: int = 0, **settings: Any
) -> LatentDynamicsModel:
    """A model of two sessions whose stored weights can be rolled out.

    Parameters
    ----------
    seed : of the weights; `settings` are those of `mock_settings`.

    >>> model = mock_LatentDynamicsModel(rank=1)
    >>> model.settings()["model"]["rank"]
    1
    """
    from safetensors.numpy import save

    config = mock_settings(**settings)
    assets = mock_TrainingAssetsTable()
    return LatentDynamicsModel.from_safetensors(
        save(mock_tensors(config, seed)),
        config,
        "Random weights.",
        "MetaSSM",
        name=name,
        training_assets=assets,
    )


def mock_TrainingAssetsTable() -> TrainingAssetsTable:
    """Two files."""
    table = TrainingAssetsTable(description="Files that do not exist.")
    for i in range(2):
        table.add_row(
            uri=f"dandi://dandi/000000@draft/sub-{i}.nwb",
            digest=f"sha256:{i:064d}",
            input_key=f"mock-{i}",
        )
    return table


def window_starts() -> np.ndarray:
    """Start of each window (window,) [s]."""
    return np.arange(N_WINDOWS) * PERIOD


def bin_centers() -> np.ndarray:
    """Centre of each bin (window × bin,) [s]."""
    from_start = (np.arange(N_BINS) + 0.5) * BIN_WIDTH
    return (window_starts()[:, None] + from_start).ravel()


def mock_LatentSeries(
    name: str = "LatentSeries", estimate: str = "smoothed", seed: int = 0
) -> LatentSeries:
    """Latents (window × bin, latent) and SD of N_WINDOWS windows with gaps between them.

    >>> mock_LatentSeries().data.shape
    (40, 2)
    """
    data, sd = _random_mean_and_sd(N_LATENTS, seed)
    return LatentSeries(
        name=name,
        description="Random latents.",
        data=data,
        data_sd=sd,
        timestamps=bin_centers(),
        estimate=estimate,
    )


def mock_FiringRateSeries(
    name: str = "FiringRateSeries",
    timestamps: np.ndarray | LatentSeries | None = None,
    units: DynamicTableRegion | None = None,
    seed: int = 1,
) -> FiringRateSeries:
    """Rates (window × bin, unit) [Hz] and SD.

    Parameters
    ----------
    timestamps : times [s], or the LatentSeries that has them; by default those of
        `mock_LatentSeries`.
    units : rows of the Units table, one a column.
    """
    data, sd = _random_mean_and_sd(N_UNITS, seed)
    timestamps = bin_centers() if timestamps is None else timestamps
    return FiringRateSeries(
        name=name,
        description="Random rates.",
        data=np.exp(data),
        data_sd=sd,
        timestamps=timestamps,
        units=units,
    )


def _random_mean_and_sd(n_columns: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A normal mean and an SD between 0.1 and 1, each (window × bin, column) float32."""
    rng = np.random.default_rng(seed)
    shape = (N_WINDOWS * N_BINS, n_columns)
    mean = rng.normal(size=shape)
    sd = rng.uniform(0.1, 1, size=shape)
    return mean.astype(np.float32), sd.astype(np.float32)


def mock_DynamicalEmbeddingsTable(
    series: Sequence[Any] = (),
    trials: DynamicTable | None = None,
    scope: str = "window",
    seed: int = 2,
) -> DynamicalEmbeddingsTable:
    """N_WINDOWS windows with random embeddings of SD 0.1.

    Parameters
    ----------
    series : each row refers to its bins of each of these.
    trials : row i refers to row i of this table.
    scope : with "session" every row holds the same embedding.
    """
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(N_WINDOWS, N_EMBEDDING)).astype(np.float32)
    mean = np.broadcast_to(mean[:1], mean.shape) if scope == "session" else mean
    target_tables = None if trials is None else {"trial": trials}
    table = DynamicalEmbeddingsTable(
        description="Windows from trial start.", scope=scope, target_tables=target_tables
    )
    for row, start in enumerate(window_starts()):
        optional: dict[str, Any] = {} if trials is None else {"trial": row}
        if series:
            optional["timeseries"] = [
                TimeSeriesReference(row * N_BINS, N_BINS, item) for item in series
            ]
        sd = np.full(N_EMBEDDING, 0.1, np.float32)
        table.add_row(
            start_time=start,
            stop_time=start + N_BINS * BIN_WIDTH,
            embedding_mean=mean[row],
            embedding_sd=sd,
            **optional,
        )
    return table


def mock_LatentDynamics(
    nwbfile: NWBFile,
    name: str = "LatentDynamics",
    model_name: str = "LatentDynamicsModel",
    scope: str = "window",
) -> LatentDynamics:
    """A run and its model, added to the processing module `ecephys` of a file.

    Units and trials of the file are referred to where it has as many as the mock needs (as those of
    `mock_NWBFile`).

    Parameters
    ----------
    nwbfile : the open file, which is changed.
    model_name : of the model, which is made if the module holds none of that name.
    scope : of the embeddings.

    >>> run = mock_LatentDynamics(mock_NWBFile())
    >>> sorted(run.to_xarray())
    ['FiringRateSeries', 'LatentSeries', 'embeddings']
    """
    module = nwbfile.processing.get("ecephys") or nwbfile.create_processing_module(
        "ecephys", "Latent dynamics of spiking units."
    )
    if model_name not in module.data_interfaces:
        module.add(mock_LatentDynamicsModel(name=model_name))
    run = LatentDynamics(
        name=name,
        description="A random run.",
        bin_width=BIN_WIDTH,
        input_key="mock-0",
        parameters=json.dumps({"bin_width": BIN_WIDTH}),
        model=module[model_name],
        units=_region(nwbfile),
    )
    module.add(run)
    _add_results(run, nwbfile, scope)
    return run


def _add_results(run: LatentDynamics, nwbfile: NWBFile, scope: str) -> None:
    """Add latents, rates and windows to a run that lies in the file already."""
    latents = mock_LatentSeries()
    run.add_latent_series(latents)
    rates = mock_FiringRateSeries(timestamps=latents, units=_region(nwbfile))
    run.add_firing_rate_series(rates)
    has_trials = nwbfile.trials is not None and len(nwbfile.trials) >= N_WINDOWS
    trials = nwbfile.trials if has_trials else None
    run.embeddings = mock_DynamicalEmbeddingsTable([latents, rates], trials, scope)


def _region(nwbfile: NWBFile) -> DynamicTableRegion | None:
    """The model's rows of the Units table, where that has as many."""
    if nwbfile.units is None or len(nwbfile.units) < len(UNIT_ROWS):
        return None
    return nwbfile.units.create_region(
        "units", UNIT_ROWS[:N_UNITS], "Units whose spikes were the input, in input order."
    )


def mock_NWBFile(seed: int = 0) -> NWBFile:
    """A file in memory with units whose ids are unlike their rows, trials, and a subject.

    It has the metadata that nwbinspector asks for; `seed` is that of the spike times.

    >>> len(mock_NWBFile().units)
    7
    """
    nwbfile = NWBFile(
        session_description="Simulated spiking.",
        identifier="ndx-metadyn-mock",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        experimenter=["Doe, Jane"],
        institution="Institute of Mocks",
        lab="Mock Lab",
        experiment_description="No experiment.",
        keywords=["simulation"],
        subject=Subject(
            subject_id="mock",
            species="Macaca mulatta",
            sex="F",
            age="P5Y",
            description="No animal.",
        ),
    )
    rng = np.random.default_rng(seed)
    for row in range(N_UNITS + 2):
        nwbfile.add_unit(
            spike_times=np.sort(rng.uniform(0, N_WINDOWS * PERIOD, size=60)), id=100 + row
        )
    nwbfile.units.resolution = 1 / 30000
    # nwbinspector fails on a region of a table of floats alone
    nwbfile.add_trial_column("condition", "Label of the trial.")
    for start in window_starts():
        nwbfile.add_trial(
            start_time=float(start), stop_time=float(start + N_BINS * BIN_WIDTH), condition="mock"
        )
    return nwbfile
