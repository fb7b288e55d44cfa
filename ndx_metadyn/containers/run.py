"""One run of a model on one session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hdmf.common import DynamicTableRegion
from hdmf.utils import AllowPositional, docval
from pynwb.core import MultiContainerInterface

from ndx_metadyn import views
from ndx_metadyn.containers.arguments import optional
from ndx_metadyn.containers.model import LatentDynamicsModel
from ndx_metadyn.containers.registry import neurodata_type, types_by_run_field
from ndx_metadyn.containers.tables import DynamicalEmbeddingsTable

if TYPE_CHECKING:
    import xarray as xr

# The series that a run holds by name: one field for each type that registered with a `run_field`
SERIES = types_by_run_field()
SERIES_FIELDS = [
    {
        "attr": field,
        "type": series.container,
        "add": f"add_{field}",
        "get": f"get_{field}",
        "create": f"create_{field}",
    }
    for field, series in SERIES.items()
]
SERIES_ARGUMENTS = {
    field: (
        (series.container, list, tuple, dict),
        f"the {series.variable} of the run, incl. forecasts",
    )
    for field, series in SERIES.items()
}


@neurodata_type("LatentDynamics", standalone=True)
class LatentDynamics(MultiContainerInterface):
    """One run of a model on one session: windows with embeddings, latents, rates, and their origin.

    Add the run to its processing module before its children.

    Parameters
    ----------
    name, description : text.
    bin_width : width of the bins of the model's input [s]; ValueError unless it is > 0.
    input_key : key of the read-in and likelihood of the model that was used.
    source_uri : the file that the input was read from, if not this one.
    source_software, source_software_version : the software that ran the model.
    parameters : parameters of preprocessing and inference, a JSON object.
    units : rows of the Units table that were the input, in input order.
    embeddings : DynamicalEmbeddingsTable of the windows.
    model : the LatentDynamicsModel that was run.
    latent_series, firing_rate_series : series, in a list or by name; so for each further type that
        registers with a `run_field`.

    >>> run = LatentDynamics(description="A run.", bin_width=0.05)
    >>> run.name, run.bin_width, len(run.latent_series)
    ('LatentDynamics', 0.05, 0)
    """

    __nwbfields__ = (
        "description",
        "bin_width",
        "input_key",
        "source_uri",
        "source_software",
        "source_software_version",
        "parameters",
        {"name": "units", "child": True},
        {"name": "embeddings", "child": True, "required_name": "embeddings"},
        "model",
    )
    __clsconf__ = SERIES_FIELDS

    @docval(
        {"name": "name", "type": str, "doc": "name of this run", "default": "LatentDynamics"},
        {"name": "description", "type": str, "doc": "description of the run"},
        {"name": "bin_width", "type": float, "doc": "width of the bins of the model's input [s]"},
        *optional(
            input_key=(str, "key of the read-in and likelihood that was used"),
            source_uri=(str, "file that the input was read from, if not this one"),
            source_software=(str, "software that ran the model"),
            source_software_version=(str, "version of that software"),
            parameters=(str, "parameters of preprocessing and inference, a JSON object"),
            units=(DynamicTableRegion, "rows of the Units table of the input, in input order"),
            embeddings=(DynamicalEmbeddingsTable, "windows and their embeddings"),
            model=(LatentDynamicsModel, "the model that was run"),
            **SERIES_ARGUMENTS,
        ),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(name=kwargs.pop("name"))
        for field in SERIES:
            add = getattr(self, f"add_{field}")
            add(kwargs.pop(field) or [])
        for field, value in kwargs.items():
            setattr(self, field, value)
        if not self.bin_width > 0:
            self._error_on_new_warn_on_construct(
                f"LatentDynamics '{self.name}': bin_width must be > 0 s; found {self.bin_width}"
            )

    def to_xarray(self) -> dict[str, xr.Dataset]:
        """The table and every series, by name.

        Returns
        -------
        dict of xarray.Dataset; `trial` of each bin is the row of its window in "embeddings".
        """
        return views.run_to_xarray(self)

    def to_pynapple(self) -> dict[str, Any]:
        """The table (IntervalSet) and every series (TsdFrame) as pynapple objects, by name."""
        return views.run_to_pynapple(self)
