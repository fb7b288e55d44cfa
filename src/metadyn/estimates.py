"""Estimates of one session as they travel from inference to NWB files: names, dimensions, units and
attributes, stated once.

An estimate is an `xarray.Dataset` as `metadyn.infer` and `metadyn.forecast` return it. Inference
packs its arrays by `pack_estimates`; whoever writes them to a file calls `check_estimates` first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from metadyn.errors import DataError

SMOOTHED = "smoothed"  # given all counts of a window
FORECAST = "forecast"  # given the counts of its first bins
EMBEDDING_SCOPES = (
    "session",
    "window",
)  # one embedding for all windows of a session, or one for each


@dataclass(frozen=True)
class Quantity:
    """One variable or coordinate: the names of its dimensions, its unit and its meaning, if it
    needs one."""

    dims: tuple[str, ...]
    units: str | None = None
    long_name: str | None = None

    @property
    def attrs(self) -> dict[str, str]:
        """The attributes that xarray shows in plots, those that are known."""
        known = {"units": self.units, "long_name": self.long_name}
        return {name: text for name, text in known.items() if text is not None}


LATENT_DIMS = ("trial", "time", "latent")
RATE_DIMS = ("trial", "time", "unit")

VARIABLES: Mapping[str, Quantity] = MappingProxyType(
    {
        "latent_mean": Quantity(LATENT_DIMS, "a.u."),
        "latent_sd": Quantity(LATENT_DIMS, "a.u."),
        "latent_samples": Quantity(("sample", *LATENT_DIMS), "a.u."),
        "context_latent": Quantity(("trial", "latent"), "a.u."),
        "rate_mean": Quantity(RATE_DIMS, "Hz"),
        "rate_sd": Quantity(RATE_DIMS, "Hz"),
        "rate_samples": Quantity(("sample", *RATE_DIMS), "Hz"),
        "embedding_mean": Quantity(("trial", "embedding")),
        "embedding_sd": Quantity(("trial", "embedding")),
        "trial_embedding_mean": Quantity(("trial", "embedding")),
        "session_embedding_mean": Quantity(("embedding",)),
        "session_embedding_sd": Quantity(("embedding",)),
        "observed": Quantity(
            ("trial", "time"),
            long_name="whether some unit was observed; "
            "elsewhere all values are what the model interpolates",
        ),
        "unit_observed": Quantity(
            RATE_DIMS,
            long_name="whether the unit was observed; "
            "elsewhere its rate is inferred from other units and times",
        ),
    }
)

COORDINATES: Mapping[str, Quantity] = MappingProxyType(
    {
        "trial": Quantity(("trial",)),
        "time": Quantity(("time",), "s"),  # bin centres, from the start of the window
        "latent": Quantity(("latent",)),
        "unit": Quantity(("unit",)),  # rows of the Units table
        "embedding": Quantity(("embedding",)),
        "start_time": Quantity(("trial",), "s"),  # on the session clock
        "n_bins": Quantity(("trial",)),  # of the window; samples behind them are NaN
        "trial_row": Quantity(("trial",)),  # row of the interval table, -1 where there is none
    }
)

# Nothing can be written without these; all else may be absent
REQUIRED_VARIABLES = {SMOOTHED: ("latent_mean", "embedding_mean"), FORECAST: ("latent_mean",)}
REQUIRED_COORDINATES = ("time", "unit", "start_time", "n_bins", "trial_row")
REQUIRED_ATTRIBUTES = ("bin_width", "estimate")


def pack_estimates(
    variables: Mapping[str, np.ndarray],
    coordinates: Mapping[str, np.ndarray],
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """Arrays by name as a Dataset, with the dimensions and units that each name stands for.

    Every name is one of VARIABLES or COORDINATES (KeyError for any other). Raises ValueError where
    arrays do not agree in the size of a dimension.

    >>> packed = pack_estimates({"rate_mean": np.ones((2, 3, 4))}, {"time": np.arange(3)}, {})
    >>> packed.rate_mean.dims, packed.rate_mean.units, packed.time.units
    (('trial', 'time', 'unit'), 'Hz', 's')
    """
    return xr.Dataset(
        _described(variables, VARIABLES), _described(coordinates, COORDINATES), dict(attributes)
    )


def _described(
    values: Mapping[str, np.ndarray], known: Mapping[str, Quantity]
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]:
    """Name → (dims, values, attrs), as xarray takes a variable."""
    return {name: (known[name].dims, each, known[name].attrs) for name, each in values.items()}


def check_estimates(estimates: xr.Dataset, kind: str) -> None:
    """Refuse a Dataset that is not an estimate of this kind, SMOOTHED or FORECAST.

    Variables and coordinates that are known by name must have their dimensions in order, and, where
    they name a unit, the one stated here; those of no known name are nobody's concern.

    Raises
    ------
    DataError : something required is missing, has other dimensions, another unit or another value;
        all that is wrong is listed.
    """
    wrong = [
        *_absent(estimates, kind),
        *_of_other_form(estimates),
        *_odd_attributes(estimates, kind),
    ]
    if not wrong:
        return
    maker = {SMOOTHED: "metadyn.infer", FORECAST: "metadyn.forecast"}[kind]
    raise DataError(
        f"this Dataset is not one that {maker} returns",
        item=", ".join(dict.fromkeys(name for name, _ in wrong)),
        found="; ".join(problem for _, problem in wrong),
        remedy=f"the Dataset as {maker} returned it, or some of its trials: .isel(trial=[…])",
    )


def _absent(estimates: xr.Dataset, kind: str) -> Iterator[tuple[str, str]]:
    """Name and problem of each variable, coordinate and attribute that is required and absent."""
    for name in (*REQUIRED_VARIABLES[kind], *REQUIRED_COORDINATES):
        if name not in estimates.variables:
            yield name, f"no {name}"
    for name in REQUIRED_ATTRIBUTES:
        if name not in estimates.attrs:
            yield name, f"no attribute {name}"


def _of_other_form(estimates: xr.Dataset) -> Iterator[tuple[str, str]]:
    """Name and problem of each variable of a known name with other dimensions or another unit."""
    for name, quantity in {**VARIABLES, **COORDINATES}.items():
        if name not in estimates.variables:
            continue
        variable = estimates[name]
        if variable.dims != quantity.dims:
            yield name, f"{name} {_in_brackets(variable.dims)}, not {_in_brackets(quantity.dims)}"
        units = variable.attrs.get("units", quantity.units)
        if units != quantity.units:
            yield name, f"{name} in {units}, not in {quantity.units or 'no unit'}"


def _odd_attributes(estimates: xr.Dataset, kind: str) -> Iterator[tuple[str, str]]:
    """Name and problem of each attribute of a value that this kind cannot have."""
    allowed = {"estimate": (kind,), "embedding_scope": EMBEDDING_SCOPES}
    for name, values in allowed.items():
        value = estimates.attrs.get(name, values[0])
        if value not in values:
            yield name, f"{name} {value!r}, not {' or '.join(map(repr, values))}"


def _in_brackets(dims: tuple) -> str:
    return f"({', '.join(map(str, dims))})"
