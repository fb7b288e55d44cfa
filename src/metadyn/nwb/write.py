"""Results into NWB: a run (`LatentDynamics`) with latents, rates, embeddings, and the model.

Everything is computed before the file is touched; the file is replaced whole, after validation, or
left as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from hdmf.backends.hdf5 import H5DataIO
from hdmf.backends.warnings import BrokenLinkWarning
from pynwb import NWBHDF5IO, NWBFile, ProcessingModule, TimeSeries
from pynwb.misc import Units

from metadyn.errors import WriteError, as_keywords
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

# Imported before a file is opened, when types are looked up
from ndx_metadyn import FiringRateSeries, LatentDynamics, LatentSeries

# A megabyte: some seconds of a few hundred units, and little enough for reading one window over the
# net
CHUNK_BYTES = 2**20
RUN_DESCRIPTION = "Latent dynamics inferred from the spike counts of the units."
MODULE_DESCRIPTION = "Results of processing the extracellular recordings."
INPUT_DESCRIPTION = "Units that were the input of the model, in input order."
COLUMNS_DESCRIPTION = "Units that the columns of data describe."
GIVEN_ALL = "given all counts of a window"
GIVEN_CONTEXT = "given the counts before each window's first sample here"


def check_target(
    source: str | Path | Asset,
    target: str | Path,
    *,
    name: str = "LatentDynamics",
    module: str = "ecephys",
    derived: bool = False,
    overwrite: bool = False,
) -> tuple[Path | Asset, Path]:
    """The real paths behind `source` and `target`.

    Cheap, so that nothing is computed in vain.

    Parameters
    ----------
    source, target : the file that is read and the one that is written; may be the same.
    name, module : of the run and of the processing module that it will be added to.
    derived : whether the raw data will be left out.
    overwrite : whether another file at `target` may be replaced.

    Raises
    ------
    WriteError : `target` is another file that exists already, `source` holds an object `name` in
        that module, or it needs other files in a way that no copy elsewhere can (see
        `metadyn.nwb.links`).
    DataError : `source` is no HDF5 file, or a damaged one.
    """
    named = source
    source = source if isinstance(source, Asset) else real_path(source)
    target = real_path(target)
    if target != source and target.exists() and not overwrite:
        raise WriteError(
            "the target exists already",
            file=target,
            remedy="another folder (`output`), or `overwrite=True`",
        )
    with open_hdf5(source) as file:
        taken = list(file.get(f"processing/{module}", ()))
        is_moved = isinstance(source, Path) and target.parent != source.parent
        if is_moved and not derived and not isinstance(named, Asset):
            check_movable(file, Path(named))  # relative links begin where that name lies
    if name in taken:
        raise WriteError(
            f"the file holds an object of the name {name!r} already",
            file=source,
            item=f"processing/{module}",
            found=", ".join(taken),
            remedy=f"another name, e.g. {as_keywords({'name': name + '2'})}",
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
    **run: Any,
) -> Path:
    """Write a copy of `source` with one run added to `target`.

    Parameters
    ----------
    source, target : NWB (HDF5) files; links are followed. `source` is never opened for writing; if
        both are the same file, it is replaced whole.
    posterior, name, module, run : as of `prepare_run`.
    provenance : as of `prepare_run`; its sha256 is taken here where it is not known.
    derived : leave the raw data out; see `metadyn.nwb.derive`.
    overwrite : as of `check_target`.

    Returns
    -------
    The real path of the written file.

    Raises
    ------
    WriteError, WindowError, DataError : nothing was written, `target` is as it was.
    """
    # By the name that the user typed: relative links of a file begin where that lies
    source = Path(source)
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
    parameters: dict[str, Any] | None = None,
    provenance: Source | None = None,
    input_key: str | None = None,
    module: str = "ecephys",
) -> Callable[[NWBFile], None]:
    """Lay one run out; the result adds it to an open NWBFile, and leaves writing to the caller.

    Parameters
    ----------
    posterior : Dataset of `metadyn.infer`, as `metadyn.estimates` describes it.
    unit_rows : rows of the Units table that were the input, in input order; by default the
        posterior's `unit`.
    forecast : Dataset of `metadyn.forecast`, for the same windows or some of them.
    model : embedded, unless the file holds a model of the same digest already, which is then
        shared.
    name, description, module : of the run, and the processing module that it is added to.
    parameters : settings of preprocessing and inference. Where `parameters["data"]["spike_lag"]`
        [s] is not zero, the series say to which spikes their times belong.
    provenance : the file that the settings were applied to.
    input_key : the model's key of this session's read-in and likelihood; by default the posterior's
        session.

    Raises
    ------
    DataError : `posterior` or `forecast` is not as `metadyn.estimates` describes it.
    WindowError : windows overlap or there is none.
    WriteError : values that cannot be stored; and, when added, the file does not have the units or
        trials that the result refers to.
    """
    check_estimates(posterior, SMOOTHED)
    if forecast is not None:
        check_estimates(forecast, FORECAST)
    posterior = sort_windows(posterior)
    estimates = [lay_out(posterior)]
    if forecast is not None:
        forecast = match_windows(sort_windows(forecast), posterior)
        estimates.append(lay_out(forecast))
        description += _too_short(forecast)
    parameters = parameters or {}
    source = provenance or Source()
    input_rows = posterior.unit.values if unit_rows is None else np.asarray(unit_rows)
    words = SeriesWords(
        describe_times(parameters.get("data", {}).get("spike_lag", 0.0)),
        *describe_unobserved(posterior),
        describe_latents(posterior),
    )

    def add(nwbfile: NWBFile) -> None:
        units = _units_of_result(nwbfile, input_rows, posterior)
        home = _module(nwbfile, module)
        run = LatentDynamics(
            name=name,
            description=description,
            bin_width=float(posterior.attrs["bin_width"]),
            input_key=input_key or posterior.attrs.get("session"),
            source_uri=public_uri(source.uri),
            source_software=SOFTWARE,
            source_software_version=software_version(),
            parameters=to_json(run_parameters(source, parameters, units.object_id)),
        )
        run.model = None if model is None else add_model(nwbfile, home, model)
        home.add(run)
        run.units = region(units, "units", input_rows, INPUT_DESCRIPTION)
        columns = posterior.unit.values
        series = [_add_series(run, windows, units, columns, words) for windows in estimates]
        run.embeddings = embeddings_table(nwbfile, posterior, forecast, estimates, series)

    return add


def _append(path: Path, add: Callable[[NWBFile], None]) -> None:
    """Open a private copy, add, write and close it."""
    with NWBHDF5IO(str(path), "r+") as io, warnings.catch_warnings():
        # `metadyn.nwb.links` has warned of links that lead nowhere
        warnings.simplefilter("ignore", BrokenLinkWarning)
        nwbfile = read_objects(io)
        add(nwbfile)
        io.write(nwbfile)


def _too_short(forecast: xr.Dataset) -> str:
    """A sentence for the run's description on windows without forecast; empty without any."""
    missing = n_without(forecast)
    if not missing:
        return ""
    return (
        f" {missing} of {forecast.sizes['trial']} windows have no forecast, so no columns say "
        "where forecasts start."
    )


def _units_of_result(nwbfile: NWBFile, rows: np.ndarray, posterior: xr.Dataset) -> Units:
    """The Units table; WriteError unless it has `rows` (unit,) and the file has the trials."""
    file = nwbfile.identifier
    units = units_table(nwbfile, file)
    n_units = 0 if units is None else len(units)
    if units is None or len(rows) == 0 or rows.min() < 0 or rows.max() >= n_units:
        raise WriteError(
            "the result is of other units",
            file=file,
            item="units",
            found=f"{n_units} units, rows {rows}",
        )
    _check_trials(nwbfile, posterior)
    return units


def _check_trials(nwbfile: NWBFile, posterior: xr.Dataset) -> None:
    """Raise WriteError unless the file has the rows of the interval table that windows are of."""
    file = nwbfile.identifier
    table = interval_table(nwbfile, posterior.attrs.get("table"))
    if table is not None and posterior.trial_row.values.max() >= len(table):
        raise WriteError(
            "the result is of other trials", file=file, item=table.name, found=f"{len(table)} rows"
        )


def _module(nwbfile: NWBFile, name: str) -> ProcessingModule:
    """The processing module of that name, which is made if there is none."""
    if name in nwbfile.processing:
        return nwbfile.processing[name]
    return nwbfile.create_processing_module(name=name, description=MODULE_DESCRIPTION)


def describe_times(spike_lag: float) -> str:
    """The meaning of the times of a series, in words.

    With a lag L [s] the sample at time T describes the spikes at T - L.

    >>> describe_times(0.1)
    'times are bin centres; spikes counted 0.1 s earlier'
    """
    if not spike_lag:
        return "times are bin centres"
    when = "earlier" if spike_lag > 0 else "later"
    return f"times are bin centres; spikes counted {abs(spike_lag):g} s {when}"


def describe_unobserved(posterior: xr.Dataset) -> tuple[str, str]:
    """Sentences on samples that rest on no observation.

    Returns
    -------
    For the description of the latents and of the rates; empty where there are no such samples.
    """
    if "observed" not in posterior:
        return "", ""
    inside = np.arange(posterior.sizes["time"]) < posterior.n_bins.values[:, None]
    seen = posterior.observed.values  # (trial, time)
    missing = inside & ~seen
    of_latents = of_rates = ""
    if missing.any():
        of_latents = (
            f" In {missing.sum()} of {inside.sum()} samples no unit was observed (obs_intervals of "
            "the units and invalid_times say when): values there are interpolated by the model."
        )
    if "unit_observed" in posterior:
        of_unit = seen[..., None] & ~posterior.unit_observed.values  # (trial, time, unit)
        n_lost = of_unit.any((0, 1)).sum()
        of_rates = (
            f" {n_lost} of {posterior.sizes['unit']} units were not observed in some samples in "
            "which others were; there, their rates are inferred from the others."
        )
    return of_latents, of_latents + of_rates


def describe_latents(posterior: xr.Dataset) -> str:
    """A sentence on the columns of the latents, where they are labelled by blocks; else empty."""
    if "latent" not in posterior.coords or posterior.latent.dtype.kind != "U":
        return ""
    return f" Columns: {', '.join(posterior.latent.values)}."


class SeriesWords(NamedTuple):
    """Sentences of the descriptions of series.

    Parameters
    ----------
    times : the meaning of their times, of `describe_times`.
    latents, rates : on unobserved samples of the posterior, of `describe_unobserved`.
    columns : labels of the latents, of `describe_latents`.
    """

    times: str
    latents: str
    rates: str
    columns: str


def _add_series(
    run: LatentDynamics,
    windows: ConcatenatedWindows,
    units: Units,
    unit_rows: np.ndarray,
    words: SeriesWords,
) -> list[TimeSeries]:
    """Add the series of one estimate to a run; rates share the latents' timestamps.

    Parameters
    ----------
    unit_rows : rows of `units` that the columns of the rates describe.

    Returns
    -------
    The latents and, where there are any, the rates.
    """
    is_smoothed = windows.estimate == SMOOTHED
    suffix = "" if is_smoothed else "Forecast"
    given = GIVEN_ALL if is_smoothed else GIVEN_CONTEXT
    timing = _timing(windows)
    note = words.latents if is_smoothed else ""
    latents = LatentSeries(
        name=f"LatentSeries{suffix}",
        description=f"Latent state {given}, windows end to end; "
        f"{words.times}.{note}{words.columns}",
        estimate=windows.estimate,
        **_mean_and_sd(windows.latent_mean, windows.latent_sd),
        **timing,
    )
    run.add_latent_series(latents)
    if windows.rate_mean is None:
        return [latents]
    note = words.rates if is_smoothed else ""
    rates = FiringRateSeries(
        name=f"FiringRateSeries{suffix}",
        description=f"Firing rates {given}, windows end to end; {words.times}.{note}",
        estimate=windows.estimate,
        units=region(units, "units", unit_rows, COLUMNS_DESCRIPTION),
        **_mean_and_sd(windows.rate_mean, windows.rate_sd),
        **({"timestamps": latents} if "timestamps" in timing else timing),
    )
    run.add_firing_rate_series(rates)
    return [latents, rates]


def _timing(windows: ConcatenatedWindows) -> dict[str, Any]:
    """Arguments of a TimeSeries that say when its samples are: a rate where they are regular."""
    rate = windows.rate
    if rate is None:
        return {"timestamps": _packed(windows.times)}
    return {"starting_time": float(windows.times[0]), "rate": float(rate)}


def _mean_and_sd(mean: np.ndarray | None, sd: np.ndarray | None) -> dict[str, Any]:
    """Arguments `data` and, where there is an SD, `data_sd`, each (sample, column)."""
    values = {"data": mean, "data_sd": sd}
    return {name: _packed(each) for name, each in values.items() if each is not None}


def _packed(values: np.ndarray) -> H5DataIO:
    """An array (sample, …), chunked along samples in whole rows, shuffled and compressed."""
    row_bytes = max(1, values.itemsize * int(np.prod(values.shape[1:])))
    rows = int(np.clip(CHUNK_BYTES // row_bytes, 1, max(1, len(values))))
    return H5DataIO(
        values,
        chunks=(rows, *values.shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
