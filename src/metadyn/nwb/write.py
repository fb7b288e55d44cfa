"""Results into NWB: a run (`LatentDynamics`) with latents, rates, embeddings and, if wanted, the
model itself.

Everything is computed before the file is touched; the file is replaced whole, validated, or left as
it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from hdmf.backends.hdf5 import H5DataIO
from hdmf.backends.warnings import BrokenLinkWarning
from pynwb import NWBHDF5IO, NWBFile, ProcessingModule

from metadyn.errors import WriteError
from metadyn.estimates import FORECAST, SMOOTHED, check_estimates
from metadyn.nwb.addresses import Asset
from metadyn.nwb.concatenate import (
    ConcatenatedWindows,
    lay_out,
    match_windows,
    n_without,
    sort_windows,
)
from metadyn.nwb.constructing import read_objects
from metadyn.nwb.derive import derived_copy, describe_origin, record_source
from metadyn.nwb.embeddings import embeddings_table, interval_table, region
from metadyn.nwb.links import check_movable
from metadyn.nwb.opening import open_hdf5
from metadyn.nwb.provenance import (
    SOFTWARE,
    file_digest,
    public_uri,
    run_parameters,
    software_version,
    to_json,
)
from metadyn.nwb.replace import real_path, replacement
from metadyn.nwb.stored_model import add_model
from metadyn.nwb.tables import units_table
from metadyn.nwb.validity import assert_no_worse
from metadyn.records import ModelFile, Source
from ndx_metadyn import (
    FiringRateSeries,
    LatentDynamics,
    LatentSeries,
)  # before a file is opened: types are looked up then

CHUNK_BYTES = (
    2**20
)  # a megabyte: some seconds of a few hundred units, little enough for reading one window over the net
RUN_DESCRIPTION = "Latent dynamics inferred from the spike counts of the units."
MODULE_DESCRIPTION = "Results of processing the extracellular recordings."


def check_target(
    source: str | Path | Asset,
    target: str | Path,
    *,
    name: str = "LatentDynamics",
    module: str = "ecephys",
    derived: bool = False,
    overwrite: bool = False,
) -> tuple[Path | Asset, Path]:
    """The real paths behind `source` and `target`; cheap, so that nothing is computed in vain.

    Raises
    ------
    WriteError : `target` is another file that exists already, or `source` holds an object `name` in
    that module; or it needs
        other files in a way that no copy elsewhere can (see `metadyn.nwb.links`).
    DataError : `source` is no HDF5 file, or a damaged one.
    """
    given, source, target = (
        source,
        source if isinstance(source, Asset) else real_path(source),
        real_path(target),
    )
    if target != source and target.exists() and not overwrite:
        raise WriteError(
            "the target exists already",
            file=target,
            remedy="another folder (-o DIR), or --overwrite",
        )
    with open_hdf5(source) as file:
        taken = list(file.get(f"processing/{module}", ()))
        if not derived and isinstance(source, Path) and target.parent != source.parent:
            check_movable(file, Path(given))
    if name in taken:
        raise WriteError(
            f"the file holds an object of the name {name!r} already",
            file=source,
            item=f"processing/{module}",
            found=", ".join(taken),
            remedy=f"another name, e.g. --name {name}2",
        )
    return source, target


def write_run(
    source: str | Path,
    target: str | Path,
    posterior: xr.Dataset,
    *,
    name: str = "LatentDynamics",
    module: str = "ecephys",
    provenance: Source | None = None,
    derived: bool = False,
    overwrite: bool = False,
    **run,
) -> Path:
    """Write a copy of `source` with one run added to `target`; both may be the same file, which is
    then replaced whole.

    Parameters
    ----------
    source, target : NWB (HDF5) files; links are followed. `source` is never opened for writing.
    posterior, name, module, run : as of `prepare_run`; the sha256 of `provenance` is taken here
    where it is not known. derived : leave the raw data out; see `metadyn.nwb.derive`.

    Returns
    -------
    The real path of the written file.

    Raises
    ------
    WriteError, WindowError, DataError : nothing was written, `target` is as it was.
    """
    source = Path(
        source
    )  # by the name that was given: relative links of a file begin where that lies, if it is a link
    _, target = check_target(
        source, target, name=name, module=module, derived=derived, overwrite=overwrite
    )
    origin = provenance or Source()
    origin = replace(origin, digest=origin.digest or file_digest(source))
    add = prepare_run(posterior, name=name, module=module, provenance=origin, **run)
    with (derived_copy if derived else replacement)(source, target) as work:
        _append(work, add)
        if derived:
            record_source(work, describe_origin(source, origin.uri, origin.digest))
        assert_no_worse(work, source)
    return target


def prepare_run(
    posterior: xr.Dataset,
    *,
    unit_rows: np.ndarray | None = None,
    forecast: xr.Dataset | None = None,
    model: ModelFile | None = None,
    name: str = "LatentDynamics",
    description: str = RUN_DESCRIPTION,
    parameters: dict | None = None,
    provenance: Source | None = None,
    input_key: str | None = None,
    module: str = "ecephys",
) -> Callable[[NWBFile], None]:
    """Lay one run out; what is returned adds it to an open NWBFile, and leaves writing to the
    caller.

    Parameters
    ----------
    posterior : as `metadyn.infer` returns it: latent_mean (trial, time, latent), rate_mean (trial,
    time, unit) [Hz], their
        SDs, embedding_mean (trial, embedding); coordinates start_time [s], n_bins and trial_row by
        trial,
        time [s] from the start.
    unit_rows : rows of the Units table that were the input, in input order; by default the
    posterior's `unit`. forecast : as `metadyn.forecast` returns it, for the same windows or some of
    them. model : embedded, unless the file holds a model of the same digest already, which is then
    shared. parameters : settings of preprocessing and inference; `provenance` says what they were
    applied to. Series say of which
        spikes they speak where `parameters["data"]["spike_lag"]` [s] is not zero.
    input_key : the model's key of this session's read-in and likelihood; default: the posterior's
    session.

    Raises
    ------
    DataError : `posterior` or `forecast` is not as `metadyn.estimates` describes it. WindowError :
    windows overlap or there is none. WriteError : values that cannot be stored; and, when added,
    the file has
        not the units or trials that the result speaks of.
    """
    check_estimates(posterior, SMOOTHED)
    if forecast is not None:
        check_estimates(forecast, FORECAST)
    posterior = sort_windows(posterior)
    estimates, notes = [lay_out(posterior)], {SMOOTHED: describe_unobserved(posterior)}
    if forecast is not None:
        forecast = match_windows(sort_windows(forecast), posterior)
        estimates.append(lay_out(forecast))
        description += _too_short(forecast)
    rows = posterior.unit.values if unit_rows is None else np.asarray(unit_rows)
    times = describe_times((parameters or {}).get("data", {}).get("spike_lag", 0.0))

    def add(nwbfile: NWBFile) -> None:
        _check_tables(nwbfile, rows, posterior)
        home = _module(nwbfile, module)
        run = _new_run(
            nwbfile,
            posterior,
            name,
            description,
            parameters or {},
            provenance or Source(),
            input_key,
        )
        run.model = None if model is None else add_model(nwbfile, home, model)
        home.add(run)
        run.units = region(
            units_table(nwbfile),
            "units",
            rows,
            "Units that were the input of the model, in input order.",
        )
        series = [
            _add_series(
                run,
                windows,
                nwbfile,
                posterior.unit.values,
                times,
                *notes.get(windows.estimate, ("", "")),
            )
            for windows in estimates
        ]
        run.embeddings = embeddings_table(nwbfile, posterior, forecast, estimates, series)

    return add


def _append(path: Path, add) -> None:
    """Open a private copy, add, write and close it."""
    with NWBHDF5IO(str(path), "r+") as io, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", BrokenLinkWarning
        )  # of what links lead to `metadyn.nwb.links` has told
        nwbfile = read_objects(io)
        add(nwbfile)
        io.write(nwbfile)


def _too_short(forecast: xr.Dataset) -> str:
    """What the description says of windows without forecast."""
    missing = n_without(forecast)
    if not missing:
        return ""
    return (
        f" {missing} of {forecast.sizes['trial']} windows have no forecast, so no columns say "
        "where forecasts start."
    )


def _check_tables(nwbfile: NWBFile, rows: np.ndarray, posterior: xr.Dataset) -> None:
    """The rows that the result speaks of exist in the file."""
    file = nwbfile.identifier
    units = units_table(nwbfile, file)
    n_units = 0 if units is None else len(units)
    if len(rows) == 0 or rows.min() < 0 or rows.max() >= n_units:
        raise WriteError(
            "the result is of other units",
            file=file,
            item="units",
            found=f"{n_units} units, rows {rows}",
        )
    table = interval_table(nwbfile, posterior.attrs.get("table"))
    if table is not None and posterior.trial_row.values.max() >= len(table):
        raise WriteError(
            "the result is of other trials", file=file, item=table.name, found=f"{len(table)} rows"
        )


def _module(nwbfile: NWBFile, name: str) -> ProcessingModule:
    if name in nwbfile.processing:
        return nwbfile.processing[name]
    return nwbfile.create_processing_module(name=name, description=MODULE_DESCRIPTION)


def _new_run(
    nwbfile, posterior: xr.Dataset, name, description, parameters, provenance: Source, input_key
):
    return LatentDynamics(
        name=name,
        description=description,
        bin_width=float(posterior.attrs["bin_width"]),
        input_key=input_key or posterior.attrs.get("session"),
        source_uri=public_uri(provenance.uri),
        source_software=SOFTWARE,
        source_software_version=software_version(),
        parameters=to_json(run_parameters(provenance, parameters, units_table(nwbfile).object_id)),
    )


def describe_times(spike_lag: float) -> str:
    """What the times of a series mean; with a lag L [s] the sample at time T describes the spikes
    at T - L."""
    if not spike_lag:
        return "times are bin centres"
    return (
        f"times are bin centres; spikes counted {abs(spike_lag):g} s "
        f"{'earlier' if spike_lag > 0 else 'later'}"
    )


def describe_unobserved(posterior: xr.Dataset) -> tuple[str, str]:
    """What the descriptions of latents and rates say of samples that rest on no observation; empty
    where there are none."""
    if "observed" not in posterior:
        return "", ""
    inside = np.arange(posterior.sizes["time"]) < posterior.n_bins.values[:, None]
    missing, of_latents, of_rates = inside & ~posterior.observed.values, "", ""
    if missing.any():
        of_latents = (
            f" In {missing.sum()} of {inside.sum()} samples no unit was observed (obs_intervals "
            "of the units and"
        )
        of_latents += " invalid_times say when): values there are interpolated by the model."
    if "unit_observed" in posterior:
        lost = (
            (posterior.observed.values[..., None] & ~posterior.unit_observed.values)
            .any((0, 1))
            .sum()
        )
        of_rates = (
            f" {lost} of {posterior.sizes['unit']} units were not observed in some samples in "
            "which others were; there,"
        )
        of_rates += " their rates are inferred from the others."
    return of_latents, of_latents + of_rates


def _add_series(
    run,
    windows: ConcatenatedWindows,
    nwbfile: NWBFile,
    unit_rows: np.ndarray,
    times: str,
    of_latents: str,
    of_rates: str,
) -> list:
    """The latents and, where there are any, the rates of one estimate; rates share the latents'
    timestamps.

    of_latents, of_rates: what their descriptions say beside what they are.
    """
    smoothed = windows.estimate == SMOOTHED
    suffix = "" if smoothed else "Forecast"
    words = (
        "given all counts of a window"
        if smoothed
        else "given the counts before each window's first sample here"
    )
    timing = _timing(windows)
    latents = LatentSeries(
        name=f"LatentSeries{suffix}",
        description=f"Latent state {words}, windows end to end; {times}.{of_latents}",
        estimate=windows.estimate,
        **_mean_and_sd(windows.latent_mean, windows.latent_sd),
        **timing,
    )
    run.add_latent_series(latents)
    if windows.rate_mean is None:
        return [latents]
    rates = FiringRateSeries(
        name=f"FiringRateSeries{suffix}",
        description=f"Firing rates {words}, windows end to end; {times}.{of_rates}",
        estimate=windows.estimate,
        units=region(
            units_table(nwbfile), "units", unit_rows, "Units that the columns of data describe."
        ),
        **_mean_and_sd(windows.rate_mean, windows.rate_sd),
        **({"timestamps": latents} if "timestamps" in timing else timing),
    )
    run.add_firing_rate_series(rates)
    return [latents, rates]


def _timing(windows: ConcatenatedWindows) -> dict:
    rate = windows.rate
    if rate is None:
        return {"timestamps": _packed(windows.times)}
    return {"starting_time": float(windows.times[0]), "rate": float(rate)}


def _mean_and_sd(mean: np.ndarray, sd: np.ndarray | None) -> dict:
    return {"data": _packed(mean)} | ({} if sd is None else {"data_sd": _packed(sd)})


def _packed(values: np.ndarray):
    """Chunked along time in whole rows, shuffled and compressed."""
    row_bytes = max(1, values.itemsize * int(np.prod(values.shape[1:])))
    rows = int(np.clip(CHUNK_BYTES // row_bytes, 1, max(1, len(values))))
    return H5DataIO(
        values,
        chunks=(rows, *values.shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
