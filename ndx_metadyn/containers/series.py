"""Latents and firing rates per bin, each with its posterior SD beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hdmf.common import DynamicTableRegion
from hdmf.data_utils import DataIO
from hdmf.utils import AllowPositional, docval, get_data_shape, get_docval, popargs
from pynwb.base import TimeSeries

from ndx_metadyn import views
from ndx_metadyn.containers.arguments import optional
from ndx_metadyn.containers.registry import neurodata_type, type_of

if TYPE_CHECKING:
    import xarray as xr

ESTIMATES = ("smoothed", "filtered", "forecast", "prior")

NAME_AND_DATA = get_docval(TimeSeries.__init__, "name", "data")
ESTIMATE_ARGUMENTS = (
    {
        "name": "data_sd",
        "type": ("array_data", "data"),
        "doc": "posterior standard deviation, like data",
        "default": None,
    },
    {
        "name": "estimate",
        "type": str,
        "doc": f"which data each estimate is conditioned on: {', '.join(ESTIMATES)}",
        "default": "smoothed",
    },
    {
        "name": "horizon",
        "type": float,
        "doc": "lead time of a rolling forecast [s]",
        "default": None,
    },
)
TIME_ARGUMENTS = get_docval(
    TimeSeries.__init__,
    "timestamps",
    "starting_time",
    "rate",
    "comments",
    "description",
    "resolution",
    "conversion",
    "offset",
    "control",
    "control_description",
    "continuity",
)


class EstimateSeries(TimeSeries):
    """A mean (time, axis) at bin centres and, beside it, an SD of the same shape.

    The base class of latents and rates; the name of the second axis is the one that the class
    registered with. A wrong argument raises ValueError at construction, and warns on reading.

    Parameters
    ----------
    data_sd : (time, axis), posterior SD in the unit of data, finite and >= 0; None where unknown.
    estimate : which data each estimate is conditioned on, one of `ESTIMATES`.
    horizon : lead time of a rolling forecast [s]; None where a window has one forecast origin.
    """

    __nwbfields__: tuple[Any, ...] = ("data_sd", "estimate", "horizon")

    def _set_estimate(self, data_sd: Any, estimate: str, horizon: float | None) -> None:
        """Set the three fields above, and check them once data and times are there."""
        self.data_sd = data_sd
        self.estimate = estimate
        self.horizon = horizon
        self._check_shapes()
        if estimate not in ESTIMATES:
            self._refuse(f"estimate must be one of {', '.join(ESTIMATES)}", repr(estimate))
        if not self._in_construct_mode:
            self._check_sd()

    def _check_shapes(self) -> None:
        """Data has two axes, a time a row and an SD a value; shapes that are not known yet pass."""
        shape = shape_of(self.data)
        if shape is None:
            return
        if len(shape) != 2:
            self._refuse(f"data must have 2 axes, (time, {type_of(self).axis})", shape)
        # pynwb checks times of its own, not those linked from another series
        times = shape_of(self.timestamps)
        if times is not None and shape[0] != times[0]:
            self._refuse(f"there must be one time a row of data, {shape[0]}", times[0])
        sd_shape = shape_of(self.data_sd)
        if sd_shape is not None and shape != sd_shape:
            self._refuse(f"data_sd must have the shape of data, {shape}", sd_shape)

    def _check_sd(self) -> None:
        """An SD in memory is finite and >= 0; one in a file is left to `ndx_metadyn.checks`."""
        sd = _in_memory(self.data_sd)
        if sd is None:
            return
        n_bad = np.count_nonzero(~(np.isfinite(sd) & (sd >= 0)))
        if n_bad:
            self._refuse("data_sd must be finite and >= 0", f"{n_bad} values that are not")

    def _refuse(self, rule: str, found: object) -> None:
        """Raise ValueError at construction, warn on reading."""
        message = f"{type(self).__name__} '{self.name}': {rule}; found {found}"
        self._error_on_new_warn_on_construct(message)

    def _column_labels(self) -> Any:
        """Labels of the columns in views: their numbers."""
        shape = shape_of(self.data)
        assert shape is not None, "a series in a file has data"
        return range(shape[1])

    def to_xarray(self) -> xr.Dataset:
        """The values under their names.

        Returns
        -------
        xarray.Dataset of the mean and, where stored, the SD, (time, axis), time in seconds on the
        session clock: `latents` and `latents_sd` (time, latent), or `rates` and `rates_sd`
        (time, unit) [Hz] with `unit` labelled by its id in the Units table.
        """
        known = type_of(self)
        labels = self._column_labels()
        return views.series_to_xarray(self, known.variable, known.axis, labels)

    def to_pynapple(self) -> Any:
        """pynapple.TsdFrame of the mean (time, axis), labelled as in `to_xarray`."""
        return views.series_to_pynapple(self, self._column_labels())


@neurodata_type("LatentSeries", run_field="latent_series", variable="latents", axis="latent")
class LatentSeries(EstimateSeries):
    """Latent states at bin centres.

    Parameters
    ----------
    data : (time, latent) posterior mean, in `unit`.
    unit : unit of the latent state.
    data_sd, estimate, horizon : as of `EstimateSeries`; the other arguments as of pynwb.TimeSeries,
        times being bin centres on the session clock [s].

    Raises
    ------
    ValueError : data is not 2-D, data_sd has another shape or is negative or not finite, or
        `estimate` is none of smoothed, filtered, forecast, prior.

    >>> import numpy as np
    >>> latents = LatentSeries(name="z", data=np.zeros((4, 2)), starting_time=0.025, rate=20.0)
    >>> latents.estimate, latents.unit
    ('smoothed', 'a.u.')
    """

    @docval(
        *NAME_AND_DATA,
        {"name": "unit", "type": str, "doc": "unit of the latent state", "default": "a.u."},
        *ESTIMATE_ARGUMENTS,
        *TIME_ARGUMENTS,
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs: Any) -> None:
        estimate = popargs("data_sd", "estimate", "horizon", kwargs)
        super().__init__(**kwargs)
        self._set_estimate(*estimate)


@neurodata_type("FiringRateSeries", run_field="firing_rate_series", variable="rates", axis="unit")
class FiringRateSeries(EstimateSeries):
    """Firing rates at bin centres.

    Parameters
    ----------
    data : (time, unit) posterior mean [Hz].
    units : rows of the Units table that the columns of data describe, in column order.
    data_sd, estimate, horizon : as of `EstimateSeries`; the other arguments as of pynwb.TimeSeries.

    Raises
    ------
    ValueError : as LatentSeries does, and where `units` has another length than data has columns.

    >>> import numpy as np
    >>> rates = FiringRateSeries(name="rates", data=np.ones((4, 3)), starting_time=0.0, rate=20.0)
    >>> rates.unit, rates.units
    ('Hz', None)
    """

    __nwbfields__ = ({"name": "units", "child": True},)

    @docval(
        *NAME_AND_DATA,
        *ESTIMATE_ARGUMENTS,
        *optional(
            units=(DynamicTableRegion, "rows of the Units table that the columns of data describe")
        ),
        *TIME_ARGUMENTS,
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs: Any) -> None:
        estimate = popargs("data_sd", "estimate", "horizon", kwargs)
        units = kwargs.pop("units")
        super().__init__(unit="Hz", **kwargs)
        self.units = units
        self._set_estimate(*estimate)
        self._check_units()

    def _check_units(self) -> None:
        """There is one row of the Units table a column."""
        shape = shape_of(self.data)
        if self.units is None or shape is None or len(shape) != 2:
            return
        n_named = len(self.units.data)
        if n_named != shape[1]:
            self._refuse(f"units must name one row a column of data, {shape[1]}", n_named)

    def _column_labels(self) -> np.ndarray:
        """Ids of the units in the Units table, which are not its row numbers."""
        return views.unit_labels(self)


def shape_of(values: Any) -> tuple[int, ...] | None:
    """Shape of an array, a dataset, a wrapped array or the data of a linked series.

    None where there are no values, or where only writing will tell (a data iterator).
    """
    while isinstance(values, (TimeSeries, DataIO)):
        values = values.data
    if values is None:
        return None
    shape = get_data_shape(values, strict_no_data_load=True)
    return None if shape is None else tuple(shape)


def _in_memory(values: Any) -> np.ndarray | None:
    """The values as an array where that needs no file, else None."""
    plain = values.data if isinstance(values, DataIO) else values
    return np.asarray(plain) if isinstance(plain, (np.ndarray, list, tuple)) else None
