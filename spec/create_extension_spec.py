"""The schema of ndx-metadyn, stated once: every dim named, every unit given.

`python spec/create_extension_spec.py` writes the two YAML files beside it; a test regenerates and
compares them. A new type is a function here, named in `SERIES_OF_A_RUN` (a run holds any number of
its objects) or in `types`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pynwb.spec import (
    NWBAttributeSpec,
    NWBDatasetSpec,
    NWBGroupSpec,
    NWBLinkSpec,
    NWBNamespaceBuilder,
)

NAME = "ndx-metadyn"
VERSION = "0.1.0"  # equals the version of the package: a file says which reader wrote it

ESTIMATE_DOC = (
    "Which data each estimate is conditioned on: 'smoothed' (all data in the window), "
    "'filtered' (data up to and including each time), 'forecast' (only data before each time) "
    "or 'prior' (no data)."
)
HORIZON_DOC = (
    "Lead time in seconds of a rolling forecast: the estimate at time t uses data up to "
    "t - horizon. Omit when each window has a single forecast origin."
)


def attribute(
    name: str, doc: str, dtype: str = "text", required: bool = False, **more: Any
) -> NWBAttributeSpec:
    """An attribute, optional unless said otherwise; `more` as of NWBAttributeSpec."""
    return NWBAttributeSpec(name=name, doc=doc, dtype=dtype, required=required, **more)


def matrix(name: str, doc: str, dims: tuple[str, str], **more: Any) -> NWBDatasetSpec:
    """A dataset of float32 with two named dims of any length."""
    return NWBDatasetSpec(
        name=name, doc=doc, dtype="float32", dims=dims, shape=(None, None), **more
    )


def column(name: str, doc: str, quantity: int | str = 1) -> NWBDatasetSpec:
    """A column of text of a table."""
    return NWBDatasetSpec(
        name=name, doc=doc, dtype="text", neurodata_type_inc="VectorData", quantity=quantity
    )


def embedding_column(name: str, doc: str, quantity: int | str = 1) -> NWBDatasetSpec:
    """A column (window, embedding) of a table."""
    return matrix(
        name,
        doc,
        ("num_windows", "num_embedding_dims"),
        neurodata_type_inc="VectorData",
        quantity=quantity,
    )


def region(name: str, doc: str) -> NWBDatasetSpec:
    """Optional references to rows of a table."""
    return NWBDatasetSpec(name=name, doc=doc, neurodata_type_inc="DynamicTableRegion", quantity="?")


def estimate_attributes() -> list[NWBAttributeSpec]:
    """Which data an estimate rests on; every series of estimates has these."""
    return [
        attribute("estimate", ESTIMATE_DOC, default_value="smoothed"),
        attribute("horizon", HORIZON_DOC, "float64"),
    ]


def software_attributes(verb: str) -> list[NWBAttributeSpec]:
    """Name and version of the software that, e.g., 'ran' the model."""
    return [
        attribute("source_software", f"Name of the software that {verb} the model."),
        attribute("source_software_version", "Version of the software."),
    ]


def latent_series() -> NWBGroupSpec:
    """Latents of a run (time, latent)."""
    dims = ("num_times", "num_latents")
    unit = attribute("unit", "Unit of the latent state.", default_value="a.u.")
    return NWBGroupSpec(
        neurodata_type_def="LatentSeries",
        neurodata_type_inc="TimeSeries",
        default_name="LatentSeries",
        doc=(
            "Latent states per time bin. Times are bin centers. "
            "Windows (e.g. trials) are concatenated along time."
        ),
        attributes=estimate_attributes(),
        datasets=[
            matrix("data", "Posterior mean of the latent state.", dims, attributes=[unit]),
            matrix(
                "data_sd",
                "Posterior standard deviation of the latent state, in the unit of 'data'.",
                dims,
                quantity="?",
            ),
        ],
    )


def firing_rate_series() -> NWBGroupSpec:
    """Rates of a run (time, unit) [Hz]."""
    dims = ("num_times", "num_units")
    unit = NWBAttributeSpec(
        name="unit", doc="Unit of the firing rate, fixed to 'Hz'.", dtype="text", value="Hz"
    )
    return NWBGroupSpec(
        neurodata_type_def="FiringRateSeries",
        neurodata_type_inc="TimeSeries",
        default_name="FiringRateSeries",
        doc=(
            "Inferred firing rates per time bin. Times are bin centers. "
            "Windows are concatenated along time."
        ),
        attributes=estimate_attributes(),
        datasets=[
            matrix(
                "data",
                "Posterior mean of the firing rate, in spikes per second.",
                dims,
                attributes=[unit],
            ),
            matrix(
                "data_sd",
                "Posterior standard deviation of the firing rate, in spikes per second.",
                dims,
                quantity="?",
            ),
            region("units", "Rows of the Units table that the columns of 'data' describe."),
        ],
    )


def embeddings_table() -> NWBGroupSpec:
    """Windows of a run and their embeddings."""
    scope = (
        "What each embedding was inferred from: 'window' (the data of its row) or 'session' "
        "(all rows; then all rows hold the same embedding)."
    )
    return NWBGroupSpec(
        neurodata_type_def="DynamicalEmbeddingsTable",
        neurodata_type_inc="TimeIntervals",
        default_name="embeddings",
        doc=(
            "Windows of data that a model was run on, one per row, with the dynamical embedding "
            "that parametrises the latent dynamics in that window. The inherited column "
            "'timeseries' refers to the samples of the LatentSeries and FiringRateSeries that "
            "belong to the window."
        ),
        attributes=[attribute("scope", scope, default_value="window")],
        datasets=[
            embedding_column("embedding_mean", "Posterior mean of the dynamical embedding."),
            embedding_column(
                "embedding_sd",
                "Posterior standard deviation of the dynamical embedding.",
                quantity="?",
            ),
            region(
                "trial",
                "Row of the trials (or other intervals) table that the window was taken from.",
            ),
        ],
    )


def training_assets_table() -> NWBGroupSpec:
    """Files that a model was trained on."""
    return NWBGroupSpec(
        neurodata_type_def="TrainingAssetsTable",
        neurodata_type_inc="DynamicTable",
        default_name="training_assets",
        doc="Data files that a model was trained on, one per row.",
        datasets=[
            column(
                "uri",
                "URI of the file, e.g. https://api.dandiarchive.org/api/assets/<asset_id>/ or "
                "dandi://dandi/<dandiset>@<version>/<path>.",
            ),
            column(
                "digest",
                "Digest of the file, '<algorithm>:<hex>', e.g. the 'dandi:sha2-256' digest as "
                "'sha256:<hex>'.",
                quantity="?",
            ),
            column(
                "input_key",
                "Key of the dataset-specific read-in and likelihood of the model that was fit to "
                "this file.",
                quantity="?",
            ),
        ],
    )


def latent_dynamics_model() -> NWBGroupSpec:
    """A model, with or without its weights."""
    digest = (
        "Digest of the checkpoint bytes, '<algorithm>:<hex>', e.g. 'sha256:<hex>'. Equals the "
        "digest of 'weights' when these are stored."
    )
    weights_format = NWBAttributeSpec(
        name="format", doc="Format of the bytes.", dtype="text", value="safetensors"
    )
    return NWBGroupSpec(
        neurodata_type_def="LatentDynamicsModel",
        neurodata_type_inc="NWBDataInterface",
        default_name="LatentDynamicsModel",
        doc=(
            "A trained latent dynamics model: what it is, where its checkpoint is, what it was "
            "trained on, and, optionally, its weights."
        ),
        attributes=[
            attribute("description", "Description of the model.", required=True),
            attribute(
                "architecture",
                "Name of the model architecture, e.g. 'MetaSSM'. Readers look it up in a registry.",
            ),
            *software_attributes("defines"),
            attribute("digest", digest),
        ],
        datasets=[
            NWBDatasetSpec(
                name="config",
                doc="Model configuration, as a JSON object.",
                dtype="text",
                quantity="?",
            ),
            NWBDatasetSpec(
                name="checkpoint_uris",
                doc="URIs or DOIs of the checkpoint, in order of preference.",
                dtype="text",
                dims=("num_uris",),
                shape=(None,),
                quantity="?",
            ),
            NWBDatasetSpec(
                name="weights",
                doc="Model weights, as the exact bytes of a safetensors file.",
                dtype="uint8",
                dims=("num_bytes",),
                shape=(None,),
                quantity="?",
                attributes=[weights_format],
            ),
        ],
        groups=[
            NWBGroupSpec(
                name="training_assets",
                neurodata_type_inc="TrainingAssetsTable",
                doc="Data files that the model was trained on.",
                quantity="?",
            )
        ],
    )


def latent_dynamics() -> NWBGroupSpec:
    """One run; it holds the types of `SERIES_OF_A_RUN`, each any number of times."""
    return NWBGroupSpec(
        neurodata_type_def="LatentDynamics",
        neurodata_type_inc="NWBDataInterface",
        default_name="LatentDynamics",
        doc="Output of one run of a latent dynamics model on one session.",
        attributes=[
            attribute("description", "Description of the run.", required=True),
            attribute(
                "bin_width",
                "Width of the time bins of the model input, in seconds.",
                "float64",
                required=True,
            ),
            attribute(
                "input_key",
                "Key of the dataset-specific read-in and likelihood of the model that was used.",
            ),
            attribute(
                "source_uri",
                "URI of the NWB file that the model input was read from, if not this file.",
            ),
            *software_attributes("ran"),
        ],
        datasets=[
            NWBDatasetSpec(
                name="parameters",
                doc="Parameters of preprocessing and inference, as a JSON object.",
                dtype="text",
                quantity="?",
            ),
            region(
                "units", "Rows of the Units table that were the input of the model, in input order."
            ),
        ],
        groups=[
            NWBGroupSpec(
                name="embeddings",
                neurodata_type_inc="DynamicalEmbeddingsTable",
                doc="Windows and their dynamical embeddings.",
                quantity="?",
            ),
            *(held(series(), doc) for series, doc in SERIES_OF_A_RUN.items()),
        ],
        links=[
            NWBLinkSpec(
                name="model",
                doc="The model that was run.",
                target_type="LatentDynamicsModel",
                quantity="?",
            )
        ],
    )


def held(series: NWBGroupSpec, doc: str) -> NWBGroupSpec:
    """Any number of objects of a type of series, as a run holds them."""
    name = series["neurodata_type_def"]
    return NWBGroupSpec(neurodata_type_inc=name, doc=doc, quantity="*")


SERIES_OF_A_RUN = {
    latent_series: "Latent states, incl. forecasts.",
    firing_rate_series: "Firing rates, incl. forecasts.",
}


def types() -> list[NWBGroupSpec]:
    """All types of the schema, each after those that it holds."""
    return [
        training_assets_table(),
        latent_dynamics_model(),
        *(series() for series in SERIES_OF_A_RUN),
        embeddings_table(),
        latent_dynamics(),
    ]


def export(folder: Path) -> None:
    """Write ndx-metadyn.namespace.yaml and ndx-metadyn.extensions.yaml into `folder`."""
    builder = NWBNamespaceBuilder(
        name=NAME,
        version=VERSION,
        full_name="Latent neural dynamics across recordings",
        doc=(
            "Latent dynamics inferred from neural activity, dynamical embeddings, and the model "
            "that inferred them."
        ),
        author=["ndx-metadyn developers"],
        contact=[],  # the schema language asks for the list; who releases it adds an address
    )
    for name in ("DynamicTable", "DynamicTableRegion", "VectorData"):
        builder.include_type(name, namespace="hdmf-common")
    for name in ("NWBDataInterface", "TimeIntervals", "TimeSeries"):
        builder.include_type(name, namespace="core")
    for spec in types():
        builder.add_spec(f"{NAME}.extensions.yaml", spec)
    builder.export(f"{NAME}.namespace.yaml", outdir=str(folder))


if __name__ == "__main__":
    export(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
