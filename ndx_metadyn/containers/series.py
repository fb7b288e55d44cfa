"""Latents and firing rates per bin, each with its posterior SD beside it."""

from __future__ import annotations

import numpy as np
from hdmf.common import DynamicTableRegion
from hdmf.data_utils import DataIO
from hdmf.utils import AllowPositional, docval, get_data_shape, get_docval, popargs
from pynwb import register_class
from pynwb.base import TimeSeries

from ndx_metadyn import NAMESPACE, views
from ndx_metadyn.containers.arguments import optional

ESTIMATES = ("smoothed", "filtered", "forecast", "prior")

_ESTIMATE_DOC = "which data each estimate is conditioned on: smoothed, filtered, forecast or prior"
_ESTIMATE_ARGS = (
    {
        "name": "data_sd",
        "type": ("array_data", "data"),
        "doc": "posterior standard deviation, like data",
        "default": None,
    },
    {"name": "estimate", "type": str, "doc": _ESTIMATE_DOC, "default": "smoothed"},
    {
        "name": "horizon",
        "type": float,
        "doc": "lead time of a rolling forecast [s]",
        "default": None,
    },
)
_TIME_ARGS = get_docval(
    TimeSeries.__init__,
    *(
        "timestamps",
        "starting_time",
        "rate",
        "comments",
        "description",
        "resolution",
        "conversion",
        "offset",
    ),
    *("control", "control_description", "continuity"),
)


class EstimateSeries(TimeSeries):
    """What latents and rates share: a mean (time, ...) at bin centres and, beside it, an SD of the
    same shape."""

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
        times = _shape(
            self.timestamps
        )  # pynwb checks times of its own, not those linked from another series
        if None not in (shape, times) and shape[0] != times[0]:
            self._refuse(f"there must be one time a row of data, {shape[0]}", times[0])
        if None not in (shape, sd_shape) and tuple(shape) != tuple(sd_shape):
            self._refuse(f"data_sd must have the shape of data, {tuple(shape)}", sd_shape)

    def _check_sd(self):
        sd = _in_memory(self.data_sd)
        if sd is not None and not np.all(np.isfinite(sd) & (sd >= 0)):
            self._refuse(
                "data_sd must be finite and >= 0",
                f"{np.count_nonzero(~(np.isfinite(sd) & (sd >= 0)))} values that are not",
            )

    def _refuse(self, rule, found):
        self._error_on_new_warn_on_construct(
            f"{type(self).__name__} '{self.name}': {rule}; found {found}"
        )


@register_class("LatentSeries", NAMESPACE)
class LatentSeries(EstimateSeries):
    """Latent states: data (time, latent) in `unit`, data_sd (time, latent); times are bin centres,
    session clock [s].

    Raises ValueError where data is not 2-D, data_sd has another shape or is negative or not finite,
    or `estimate` is none of smoothed, filtered, forecast, prior.
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
        return views.series_to_xarray(self, "latents", "latent", range(_shape(self.data)[1]))

    def to_pynapple(self):
        """pynapple.TsdFrame of the mean, one column a latent."""
        return views.series_to_pynapple(self, range(_shape(self.data)[1]))


@register_class("FiringRateSeries", NAMESPACE)
class FiringRateSeries(EstimateSeries):
    """Firing rates: data (time, unit) [Hz], data_sd (time, unit) [Hz], `units` the rows of the
    Units table, in column order.

    Raises ValueError as LatentSeries does, and where `units` has another length than the columns of
    data.
    """

    __nwbfields__ = ({"name": "units", "child": True},)
    _column_axis = "unit"

    @docval(
        *get_docval(TimeSeries.__init__, "name", "data"),
        *_ESTIMATE_ARGS,
        *optional(
            units=(DynamicTableRegion, "rows of the Units table that the columns of data describe")
        ),
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
        if (
            units is not None
            and shape is not None
            and len(shape) == 2
            and len(units.data) != shape[1]
        ):
            self._refuse(f"units must name one row a column of data, {shape[1]}", len(units.data))

    def to_xarray(self):
        """xarray.Dataset: rates and rates_sd (time, unit) [Hz], unit labelled by its id in the
        Units table."""
        return views.series_to_xarray(self, "rates", "unit", views.unit_labels(self))

    def to_pynapple(self):
        """pynapple.TsdFrame of the mean [Hz], one column a unit."""
        return views.series_to_pynapple(self, views.unit_labels(self))


def _shape(values):
    """Shape of an array, dataset, wrapped array or linked series; None where only writing will
    tell."""
    while isinstance(values, (TimeSeries, DataIO)):
        values = values.data
    return None if values is None else get_data_shape(values, strict_no_data_load=True)


def _in_memory(values):
    """The values as an array where that needs no file, else None."""
    values = values.data if isinstance(values, DataIO) else values
    return np.asarray(values) if isinstance(values, (np.ndarray, list, tuple)) else None
