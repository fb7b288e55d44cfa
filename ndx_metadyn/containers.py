"""The six types, hand-written because the generated classes accept what the schema cannot forbid.

A generated class takes 1-D latents, an SD of another length, a negative SD and any word for `estimate`; these raise at
construction (and only warn on reading, so that a faulty file still opens). Axes: time latent unit embedding.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import DynamicTableRegion
from hdmf.data_utils import DataIO
from hdmf.utils import AllowPositional, docval, get_data_shape, get_docval, popargs
from pynwb import register_class
from pynwb.base import TimeSeries
from pynwb.core import DynamicTable, MultiContainerInterface, NWBDataInterface
from pynwb.epoch import TimeIntervals

from ndx_metadyn import weights as stored

NAMESPACE = "ndx-metadyn"
ESTIMATES = ("smoothed", "filtered", "forecast", "prior")
SCOPES = ("window", "session")

_ESTIMATE_DOC = "which data each estimate is conditioned on: smoothed, filtered, forecast or prior"
_ESTIMATE_ARGS = (
    {"name": "data_sd", "type": ("array_data", "data"), "doc": "posterior standard deviation, like data", "default": None},
    {"name": "estimate", "type": str, "doc": _ESTIMATE_DOC, "default": "smoothed"},
    {"name": "horizon", "type": float, "doc": "lead time of a rolling forecast [s]", "default": None},
)
_TIME_ARGS = get_docval(
    TimeSeries.__init__,
    *("timestamps", "starting_time", "rate", "comments", "description", "resolution", "conversion", "offset"),
    *("control", "control_description", "continuity"),
)


def _docs(**columns):
    return tuple({"name": name, "type": kind, "doc": doc, "default": None} for name, (kind, doc) in columns.items())


class EstimateSeries(TimeSeries):
    """What latents and rates share: a mean (time, ...) at bin centres and, beside it, an SD of the same shape."""

    __nwbfields__ = ("data_sd", "estimate", "horizon")

    def _set_estimate(self, data_sd, estimate, horizon):
        self.data_sd, self.estimate, self.horizon = data_sd, estimate, horizon
        self._check_shapes()
        if estimate not in ESTIMATES:
            self._refuse(f"estimate must be one of {', '.join(ESTIMATES)}", repr(estimate))
        if not self._in_construct_mode:
            self._check_sd()

    def _check_shapes(self):
        shape, sd_shape = _shape(self.data), _shape(self.data_sd)
        if shape is not None and len(shape) != 2:
            self._refuse(f"data must have 2 axes, (time, {self._column_axis})", shape)
        if None not in (shape, sd_shape) and tuple(shape) != tuple(sd_shape):
            self._refuse(f"data_sd must have the shape of data, {tuple(shape)}", sd_shape)

    def _check_sd(self):
        sd = _in_memory(self.data_sd)
        if sd is not None and not np.all(np.isfinite(sd) & (sd >= 0)):
            self._refuse(
                "data_sd must be finite and >= 0", f"{np.count_nonzero(~(np.isfinite(sd) & (sd >= 0)))} values that are not"
            )

    def _refuse(self, rule, found):
        self._error_on_new_warn_on_construct(f"{type(self).__name__} '{self.name}': {rule}; found {found}")


@register_class("LatentSeries", NAMESPACE)
class LatentSeries(EstimateSeries):
    """Latent states: data (time, latent) in `unit`, data_sd (time, latent); times are bin centres, session clock [s].

    Raises ValueError where data is not 2-D, data_sd has another shape or is negative or not finite, or `estimate` is
    none of smoothed, filtered, forecast, prior.
    """

    _column_axis = "latent"

    @docval(
        *get_docval(TimeSeries.__init__, "name", "data"),
        {"name": "unit", "type": str, "doc": "unit of the latent state", "default": "a.u."},
        *_ESTIMATE_ARGS,
        *_TIME_ARGS,
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        estimate = popargs("data_sd", "estimate", "horizon", kwargs)
        super().__init__(**kwargs)
        self._set_estimate(*estimate)

    def to_xarray(self):
        """xarray.Dataset: latents and latents_sd (time, latent), time in seconds."""
        from ndx_metadyn import views

        return views.series_to_xarray(self, "latents", "latent", range(_shape(self.data)[1]))

    def to_pynapple(self):
        """pynapple.TsdFrame of the mean, one column a latent."""
        from ndx_metadyn import views

        return views.series_to_pynapple(self, range(_shape(self.data)[1]))


@register_class("FiringRateSeries", NAMESPACE)
class FiringRateSeries(EstimateSeries):
    """Firing rates: data (time, unit) [Hz], data_sd (time, unit) [Hz], `units` the rows of the Units table, in column order.

    Raises ValueError as LatentSeries does, and where `units` has another length than the columns of data.
    """

    __nwbfields__ = ({"name": "units", "child": True},)
    _column_axis = "unit"

    @docval(
        *get_docval(TimeSeries.__init__, "name", "data"),
        *_ESTIMATE_ARGS,
        *_docs(units=(DynamicTableRegion, "rows of the Units table that the columns of data describe")),
        *_TIME_ARGS,
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        estimate = popargs("data_sd", "estimate", "horizon", kwargs)
        units = kwargs.pop("units")
        super().__init__(unit="Hz", **kwargs)
        self.units = units
        self._set_estimate(*estimate)
        shape = _shape(self.data)
        if units is not None and shape is not None and len(shape) == 2 and len(units.data) != shape[1]:
            self._refuse(f"units must name one row a column of data, {shape[1]}", len(units.data))

    def to_xarray(self):
        """xarray.Dataset: rates and rates_sd (time, unit) [Hz], unit labelled by its id in the Units table."""
        from ndx_metadyn import views

        return views.series_to_xarray(self, "rates", "unit", views.unit_labels(self))

    def to_pynapple(self):
        """pynapple.TsdFrame of the mean [Hz], one column a unit."""
        from ndx_metadyn import views

        return views.series_to_pynapple(self, views.unit_labels(self))


@register_class("DynamicalEmbeddingsTable", NAMESPACE)
class DynamicalEmbeddingsTable(TimeIntervals):
    """One row a window that a model was run on: start_time, stop_time [s], embedding_mean and embedding_sd (window, embedding).

    `timeseries` refers to the samples of the window (`add_row(timeseries=[TimeSeriesReference(...)])`), `trial` to the row of
    the trials, or another interval, table. `scope` is window, or session where every row holds the session's one embedding.
    """

    __defaultname__ = "embeddings"
    __fields__ = ("scope",)
    __columns__ = (
        {"name": "embedding_mean", "description": "Posterior mean of the dynamical embedding.", "required": True},
        {"name": "embedding_sd", "description": "Posterior standard deviation of the dynamical embedding."},
        {"name": "trial", "description": "Row of the intervals table that the window was taken from.", "table": True},
    )

    @docval(
        {"name": "description", "type": str, "doc": "what the windows are, and how they were chosen"},
        {"name": "name", "type": str, "doc": "name of this table", "default": "embeddings"},
        {"name": "scope", "type": str, "doc": "what an embedding was inferred from", "default": "window"},
        *get_docval(TimeIntervals.__init__, "id", "columns", "colnames", "target_tables", "meanings_tables"),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        scope = kwargs.pop("scope")
        super().__init__(**kwargs)
        self.scope = scope
        if scope not in SCOPES:
            self._error_on_new_warn_on_construct(f"table '{self.name}': scope must be window or session; found {scope!r}")

    @property
    def session_embedding(self):
        """(mean, sd) of the session's one embedding, each (embedding,), sd None where there is none.

        Raises ValueError where each window has an embedding of its own, or there is no window.
        """
        if self.scope != "session" or len(self) == 0:
            raise ValueError(
                f"table '{self.name}' holds no session embedding: scope is '{self.scope}', {len(self)} windows; "
                "read embedding_mean and embedding_sd, one row a window"
            )
        sd = np.asarray(self["embedding_sd"][0]) if "embedding_sd" in self.colnames else None
        return np.asarray(self["embedding_mean"][0]), sd

    def to_xarray(self):
        """xarray.Dataset: embedding_mean and embedding_sd (trial, embedding), with start_time and stop_time [s] by trial."""
        from ndx_metadyn import views

        return views.table_to_xarray(self)

    def to_pynapple(self):
        """pynapple.IntervalSet of the windows, the embeddings as metadata; raises ValueError where windows overlap."""
        from ndx_metadyn import views

        return views.table_to_pynapple(self)


@register_class("TrainingAssetsTable", NAMESPACE)
class TrainingAssetsTable(DynamicTable):
    """One row a file that the model was trained on: uri, and where known digest ('sha256:<hex>') and input_key."""

    __defaultname__ = "training_assets"
    __columns__ = (
        {"name": "uri", "description": "URI of the file.", "required": True},
        {"name": "digest", "description": "Digest of the file, '<algorithm>:<hex>'."},
        {"name": "input_key", "description": "Key of the read-in and likelihood that was fit to this file."},
    )

    @docval(
        {"name": "description", "type": str, "doc": "what the files are"},
        {"name": "name", "type": str, "doc": "name of this table", "default": "training_assets"},
        *get_docval(DynamicTable.__init__, "id", "columns", "colnames", "target_tables", "meanings_tables"),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


@register_class("LatentDynamicsModel", NAMESPACE)
class LatentDynamicsModel(NWBDataInterface):
    """A trained model: what it is, where its checkpoint is, what it was trained on and, optionally, its weights."""

    __nwbfields__ = (
        *("description", "architecture", "source_software", "source_software_version", "digest"),
        *("config", "checkpoint_uris", "weights"),
        {"name": "training_assets", "child": True, "required_name": "training_assets"},
    )

    @docval(
        {"name": "name", "type": str, "doc": "name of this model", "default": "LatentDynamicsModel"},
        {"name": "description", "type": str, "doc": "description of the model"},
        *_docs(
            architecture=(str, "name of the architecture, looked up in a registry by readers"),
            source_software=(str, "software that defines the model"),
            source_software_version=(str, "version of that software"),
            digest=(str, "'sha256:<hex>' of the checkpoint's bytes"),
            config=(str, "configuration, a JSON object"),
            checkpoint_uris=(("array_data", "data"), "where the checkpoint is, in order of preference"),
            weights=(("array_data", "data"), "bytes of a safetensors file, uint8 (byte,)"),
            training_assets=(TrainingAssetsTable, "files the model was trained on"),
        ),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        super().__init__(name=kwargs.pop("name"))
        for field, value in kwargs.items():
            setattr(self, field, value)

    @classmethod
    def from_safetensors(
        cls, source, config: dict, description: str, architecture: str, *, max_bytes=stored.MAX_BYTES, **fields
    ) -> LatentDynamicsModel:
        """A model that carries the weights `source`: the bytes of a safetensors file, or its path.

        `config` is stored as JSON, the digest is taken of the bytes, further `fields` are those of the class. Raises
        WeightsError for bytes that are no safetensors, a config that names code, or more than `max_bytes`; warns above 50 MB.
        """
        data = bytes(source) if isinstance(source, (bytes, bytearray, memoryview)) else Path(source).read_bytes()
        stored.check_size(len(data), max_bytes)
        stored.read_header(data)
        text = json.dumps(config, allow_nan=False)
        stored.parse_config(text)
        if len(data) > stored.WARN_BYTES:
            warnings.warn(
                f"the weights add {len(data):,} bytes to every file that holds them; consider checkpoint_uris", stacklevel=2
            )
        return cls(
            description=description,
            architecture=architecture,
            config=text,
            weights=H5DataIO(np.frombuffer(data, np.uint8), chunks=True, compression="gzip"),
            digest=stored.digest_of(data),
            **fields,
        )

    def weights_bytes(self, max_bytes: int = stored.MAX_BYTES) -> bytes:
        """The stored safetensors file; raises WeightsError where there is none or it exceeds `max_bytes` (before reading)."""
        if self.weights is None:
            raise stored.WeightsError(
                f"model '{self.name}' is stored without weights",
                found=f"checkpoint_uris {None if self.checkpoint_uris is None else list(self.checkpoint_uris)}",
                remedy="fetch the checkpoint yourself; nothing is fetched unasked",
            )
        values = self.weights.data if isinstance(self.weights, DataIO) else self.weights
        stored.check_size(len(values), max_bytes)
        return np.asarray(values[:], dtype=np.uint8).tobytes()

    def verify(self, max_bytes: int = stored.MAX_BYTES) -> None:
        """Raise WeightsError unless the digest is that of the stored weights."""
        if self.digest is None:
            raise stored.WeightsError(f"model '{self.name}' has no digest to verify", found=None, expected="sha256:<hex>")
        stored.check_digest(self.weights_bytes(max_bytes), self.digest)

    def tensors(self, max_bytes: int = stored.MAX_BYTES) -> dict[str, np.ndarray]:
        """The weights by name, as numpy arrays; the digest, where there is one, is checked first. Raises WeightsError."""
        data = self.weights_bytes(max_bytes)
        if self.digest is not None:
            stored.check_digest(data, self.digest)
        return stored.parse_tensors(data, max_bytes)

    def settings(self) -> dict:
        """The configuration, bounded and free of import strings. Raises WeightsError."""
        if self.config is None:
            raise stored.WeightsError(f"model '{self.name}' is stored without a config")
        return stored.parse_config(self.config)


@register_class("LatentDynamics", NAMESPACE)
class LatentDynamics(MultiContainerInterface):
    """One run of a model on one session: windows with embeddings, latents and rates, and how they came about.

    bin_width in seconds; `units` the input's rows of the Units table, in input order; `parameters` a JSON object. Add the run
    to its processing module before its children.
    """

    __nwbfields__ = (
        *("description", "bin_width", "input_key", "source_uri", "source_software", "source_software_version", "parameters"),
        {"name": "units", "child": True},
        {"name": "embeddings", "child": True, "required_name": "embeddings"},
        "model",
    )
    __clsconf__ = [  # noqa: RUF012  hdmf takes a list only
        {
            "attr": "latent_series",
            "type": LatentSeries,
            "add": "add_latent_series",
            "get": "get_latent_series",
            "create": "create_latent_series",
        },
        {
            "attr": "firing_rate_series",
            "type": FiringRateSeries,
            "add": "add_firing_rate_series",
            "get": "get_firing_rate_series",
            "create": "create_firing_rate_series",
        },
    ]

    @docval(
        {"name": "name", "type": str, "doc": "name of this run", "default": "LatentDynamics"},
        {"name": "description", "type": str, "doc": "description of the run"},
        {"name": "bin_width", "type": float, "doc": "width of the bins of the model's input [s]"},
        *_docs(
            input_key=(str, "key of the read-in and likelihood that was used"),
            source_uri=(str, "file that the input was read from, if not this one"),
            source_software=(str, "software that ran the model"),
            source_software_version=(str, "version of that software"),
            parameters=(str, "parameters of preprocessing and inference, a JSON object"),
            units=(DynamicTableRegion, "rows of the Units table that were the input, in input order"),
            embeddings=(DynamicalEmbeddingsTable, "windows and their embeddings"),
            model=(LatentDynamicsModel, "the model that was run"),
            latent_series=((LatentSeries, list, tuple, dict), "latent states, incl. forecasts"),
            firing_rate_series=((FiringRateSeries, list, tuple, dict), "firing rates, incl. forecasts"),
        ),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        super().__init__(name=kwargs.pop("name"))
        for field in ("latent_series", "firing_rate_series"):
            getattr(self, f"add_{field}")(kwargs.pop(field) or [])
        for field, value in kwargs.items():
            setattr(self, field, value)
        if not self.bin_width > 0:
            self._error_on_new_warn_on_construct(
                f"LatentDynamics '{self.name}': bin_width must be > 0 s; found {self.bin_width}"
            )

    def to_xarray(self):
        """dict of name -> xarray.Dataset: the table and every series; each bin labelled with the row of its window."""
        from ndx_metadyn import views

        return views.run_to_xarray(self)

    def to_pynapple(self):
        """dict of name -> pynapple object: the table and every series."""
        from ndx_metadyn import views

        return views.run_to_pynapple(self)


def _shape(values):
    """Shape of an array, dataset, wrapped array or linked series; None where only writing will tell."""
    while isinstance(values, (TimeSeries, DataIO)):
        values = values.data
    return None if values is None else get_data_shape(values, strict_no_data_load=True)


def _in_memory(values):
    """The values as an array where that needs no file, else None."""
    values = values.data if isinstance(values, DataIO) else values
    return np.asarray(values) if isinstance(values, (np.ndarray, list, tuple)) else None
