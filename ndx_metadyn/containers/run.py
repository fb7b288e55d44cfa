"""One run of a model on one session."""

from __future__ import annotations

from hdmf.common import DynamicTableRegion
from hdmf.utils import AllowPositional, docval
from pynwb import register_class
from pynwb.core import MultiContainerInterface

from ndx_metadyn import NAMESPACE, views
from ndx_metadyn.containers.arguments import optional
from ndx_metadyn.containers.model import LatentDynamicsModel
from ndx_metadyn.containers.series import FiringRateSeries, LatentSeries
from ndx_metadyn.containers.tables import DynamicalEmbeddingsTable


@register_class("LatentDynamics", NAMESPACE)
class LatentDynamics(MultiContainerInterface):
    """One run of a model on one session: windows with embeddings, latents and rates, and how they
    came about.

    bin_width in seconds; `units` the input's rows of the Units table, in input order; `parameters`
    a JSON object. Add the run to its processing module before its children.
    """

    __nwbfields__ = (
        *(
            "description",
            "bin_width",
            "input_key",
            "source_uri",
            "source_software",
            "source_software_version",
            "parameters",
        ),
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
        *optional(
            input_key=(str, "key of the read-in and likelihood that was used"),
            source_uri=(str, "file that the input was read from, if not this one"),
            source_software=(str, "software that ran the model"),
            source_software_version=(str, "version of that software"),
            parameters=(str, "parameters of preprocessing and inference, a JSON object"),
            units=(
                DynamicTableRegion,
                "rows of the Units table that were the input, in input order",
            ),
            embeddings=(DynamicalEmbeddingsTable, "windows and their embeddings"),
            model=(LatentDynamicsModel, "the model that was run"),
            latent_series=((LatentSeries, list, tuple, dict), "latent states, incl. forecasts"),
            firing_rate_series=(
                (FiringRateSeries, list, tuple, dict),
                "firing rates, incl. forecasts",
            ),
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
        """dict of name -> xarray.Dataset: the table and every series; each bin labelled with the
        row of its window."""
        return views.run_to_xarray(self)

    def to_pynapple(self):
        """dict of name -> pynapple object: the table and every series."""
        return views.run_to_pynapple(self)
