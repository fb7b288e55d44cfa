"""Windows with their dynamical embeddings, and the files that a model was trained on."""

from __future__ import annotations

import numpy as np
from hdmf.utils import AllowPositional, docval, get_docval
from pynwb import register_class
from pynwb.core import DynamicTable
from pynwb.epoch import TimeIntervals

from ndx_metadyn import NAMESPACE, views

SCOPES = ("window", "session")


@register_class("DynamicalEmbeddingsTable", NAMESPACE)
class DynamicalEmbeddingsTable(TimeIntervals):
    """One row a window that a model was run on: start_time, stop_time [s], embedding_mean and
    embedding_sd (window, embedding).

    `timeseries` refers to the samples of the window
    (`add_row(timeseries=[TimeSeriesReference(...)])`), `trial` to the row of the trials, or another
    interval, table. `scope` is window, or session where every row holds the session's one
    embedding.
    """

    __defaultname__ = "embeddings"
    __fields__ = ("scope",)
    __columns__ = (
        {
            "name": "embedding_mean",
            "description": "Posterior mean of the dynamical embedding.",
            "required": True,
        },
        {
            "name": "embedding_sd",
            "description": "Posterior standard deviation of the dynamical embedding.",
        },
        {
            "name": "trial",
            "description": "Row of the intervals table that the window was taken from.",
            "table": True,
        },
    )

    @docval(
        {
            "name": "description",
            "type": str,
            "doc": "what the windows are, and how they were chosen",
        },
        {"name": "name", "type": str, "doc": "name of this table", "default": "embeddings"},
        {
            "name": "scope",
            "type": str,
            "doc": "what an embedding was inferred from",
            "default": "window",
        },
        *get_docval(
            TimeIntervals.__init__, "id", "columns", "colnames", "target_tables", "meanings_tables"
        ),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        scope = kwargs.pop("scope")
        super().__init__(**kwargs)
        self.scope = scope
        if scope not in SCOPES:
            self._error_on_new_warn_on_construct(
                f"table '{self.name}': scope must be window or session; found {scope!r}"
            )

    @property
    def session_embedding(self):
        """(mean, sd) of the session's one embedding, each (embedding,), sd None where there is
        none.

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
        """xarray.Dataset: embedding_mean and embedding_sd (trial, embedding), with start_time and
        stop_time [s] by trial."""
        return views.table_to_xarray(self)

    def to_pynapple(self):
        """pynapple.IntervalSet of the windows, the embeddings as metadata; raises ValueError where
        windows overlap."""
        return views.table_to_pynapple(self)


@register_class("TrainingAssetsTable", NAMESPACE)
class TrainingAssetsTable(DynamicTable):
    """One row a file that the model was trained on: uri, and where known digest ('sha256:<hex>')
    and input_key."""

    __defaultname__ = "training_assets"
    __columns__ = (
        {"name": "uri", "description": "URI of the file.", "required": True},
        {"name": "digest", "description": "Digest of the file, '<algorithm>:<hex>'."},
        {
            "name": "input_key",
            "description": "Key of the read-in and likelihood that was fit to this file.",
        },
    )

    @docval(
        {"name": "description", "type": str, "doc": "what the files are"},
        {"name": "name", "type": str, "doc": "name of this table", "default": "training_assets"},
        *get_docval(
            DynamicTable.__init__, "id", "columns", "colnames", "target_tables", "meanings_tables"
        ),
        allow_positional=AllowPositional.WARNING,
    )
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
