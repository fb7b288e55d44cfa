"""Small valid objects of each type, for tests here and in packages that read these types.

`mock_LatentDynamics(nwbfile)` puts a whole run, with a model whose weights run, into a file;
everything is random but seeded.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
from pynwb import NWBFile
from pynwb.base import TimeSeriesReference
from pynwb.file import Subject

from ndx_metadyn.containers import (
    DynamicalEmbeddingsTable,
    FiringRateSeries,
    LatentDynamics,
    LatentDynamicsModel,
    LatentSeries,
    TrainingAssetsTable,
)

BIN_WIDTH = 0.05  # seconds
N_WINDOWS, N_BINS, N_UNITS, N_LATENTS, N_EMBEDDING = 4, 10, 5, 2, 2
PERIOD = 1.0  # seconds from a window's start to the next
ROWS = list(range(N_UNITS + 2))[::-1]  # last first, so that rows, ids and columns all differ


def mock_settings(
    conditioning="low_rank", likelihood="poisson", n_units=(N_UNITS, N_UNITS + 2), rank=2
) -> dict:
    """Config of a model of two sessions, 'mock-0' and 'mock-1'; their units are the last rows, last
    first."""
    model = {
        "latent_dim": N_LATENTS,
        "embedding_dim": N_EMBEDDING,
        "conditioning": conditioning,
        "rank": rank,
    }
    model |= {"likelihood": likelihood, "hidden": [6, 4], "hyper_hidden": 3}
    sessions = [
        {"key": f"mock-{i}", "n_units": n, "unit_rows": ROWS[:n]} for i, n in enumerate(n_units)
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


def mock_LatentDynamicsModel(name="LatentDynamicsModel", seed=0, **settings) -> LatentDynamicsModel:
    """A model of two sessions whose stored weights can be rolled out."""
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
    return np.arange(N_WINDOWS) * PERIOD


def bin_centers() -> np.ndarray:
    return (window_starts()[:, None] + (np.arange(N_BINS) + 0.5) * BIN_WIDTH).ravel()


def mock_LatentSeries(name="LatentSeries", estimate="smoothed", seed=0) -> LatentSeries:
    """Latents of N_WINDOWS windows with gaps between them."""
    data, sd = _mean_and_sd(N_LATENTS, seed)
    return LatentSeries(
        name=name,
        description="Random latents.",
        data=data,
        data_sd=sd,
        timestamps=bin_centers(),
        estimate=estimate,
    )


def mock_FiringRateSeries(
    name="FiringRateSeries", timestamps=None, units=None, seed=1
) -> FiringRateSeries:
    """Rates at the times of `timestamps` (an array or a LatentSeries), else of
    mock_LatentSeries."""
    data, sd = _mean_and_sd(N_UNITS, seed)
    timestamps = bin_centers() if timestamps is None else timestamps
    description = "Random rates."
    return FiringRateSeries(
        name=name,
        description=description,
        data=np.exp(data),
        data_sd=sd,
        timestamps=timestamps,
        units=units,
    )


def _mean_and_sd(n_columns, seed):
    rng = np.random.default_rng(seed)
    shape = (N_WINDOWS * N_BINS, n_columns)
    return rng.normal(size=shape).astype(np.float32), rng.uniform(0.1, 1, size=shape).astype(
        np.float32
    )


def mock_DynamicalEmbeddingsTable(
    series=(), trials=None, scope="window", seed=2
) -> DynamicalEmbeddingsTable:
    """One row a window, with references to its bins of each of `series` and to its row of
    `trials`."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(N_WINDOWS, N_EMBEDDING)).astype(np.float32)
    mean = np.broadcast_to(mean[:1], mean.shape) if scope == "session" else mean
    target_tables = None if trials is None else {"trial": trials}
    table = DynamicalEmbeddingsTable(
        description="Windows from trial start.", scope=scope, target_tables=target_tables
    )
    for row, start in enumerate(window_starts()):
        optional = {} if trials is None else {"trial": row}
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
    nwbfile: NWBFile, name="LatentDynamics", model_name="LatentDynamicsModel", scope="window"
) -> LatentDynamics:
    """A run and its model (made if the file holds none of that name), added to processing module
    `ecephys` of `nwbfile`.

    Units and trials of the file are referred to where it has at least as many as the mock needs
    (`mock_NWBFile`).
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
    _fill(run, nwbfile, scope)
    return run


def _fill(run, nwbfile, scope):
    latents = mock_LatentSeries()
    run.add_latent_series(latents)
    rates = mock_FiringRateSeries(timestamps=latents, units=_region(nwbfile))
    run.add_firing_rate_series(rates)
    trials = (
        nwbfile.trials if nwbfile.trials is not None and len(nwbfile.trials) >= N_WINDOWS else None
    )
    run.embeddings = mock_DynamicalEmbeddingsTable([latents, rates], trials, scope)


def _region(nwbfile):
    """The model's rows of the Units table, where that has as many."""
    if nwbfile.units is None or len(nwbfile.units) < len(ROWS):
        return None
    return nwbfile.units.create_region(
        "units", ROWS[:N_UNITS], "Units whose spikes were the input, in input order."
    )


def mock_NWBFile(seed=0) -> NWBFile:
    """Units with ids unlike their rows, and trials, with the metadata that nwbinspector asks
    for."""
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
    nwbfile.add_trial_column(
        "condition", "Label of the trial."
    )  # nwbinspector fails on a region of a table of floats alone
    for start in window_starts():
        nwbfile.add_trial(
            start_time=float(start), stop_time=float(start + N_BINS * BIN_WIDTH), condition="mock"
        )
    return nwbfile
