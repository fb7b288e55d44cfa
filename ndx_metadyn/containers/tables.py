"""Windows with their dynamical embeddings, and the files that a model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hdmf.utils import AllowPositional, docval, get_docval
from pynwb.core import DynamicTable
from pynwb.epoch import TimeIntervals

from ndx_metadyn import views
from ndx_metadyn.containers.registry import neurodata_type

if TYPE_CHECKING:
    import xarray as xr

SCOPES = ("window", "session")


@neurodata_type("DynamicalEmbeddingsTable")
class DynamicalEmbeddingsTable(TimeIntervals):
    """Windows that a model was run on, one a row, with their dynamical embeddings.

    Parameters
    ----------
    description : of the windows, and how they were chosen.
    scope : data that an embedding was inferred from: "window" (its row's), or "session" (all rows;
        every row then holds the session's one embedding). ValueError for another word.

    Columns
    -------
    start_time, stop_time : (window,) [s].
    embedding_mean, embedding_sd : (window, embedding), a.u.; the SD is optional.
    timeseries : samples of each series that belong to the window
        (`add_row(timeseries=[TimeSeriesReference(...)])`); optional.
    trial : row of the trials, or another intervals, table that the window was taken from; optional.

    >>> table = DynamicalEmbeddingsTable(description="Windows.", scope="session")
    >>> table.add_row(start_time=0.0, stop_time=0.5, embedding_mean=[0.1, -0.2])
    >>> table.session_embedding
    (array([ 0.1, -0.2]), None)
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
    def __init__(self, **kwargs: Any) -> None:
        scope = kwargs.pop("scope")
        super().__init__(**kwargs)
        self.scope = scope
        if scope not in SCOPES:
            self._error_on_new_warn_on_construct(
                f"table '{self.name}': scope must be window or session; found {scope!r}"
            )

    @property
    def session_embedding(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Mean and SD of the session's one embedding, each (embedding,); the SD None where unknown.

        Raises
        ------
        ValueError : each window has an embedding of its own, or there is no window.
        """
        if self.scope != "session" or len(self) == 0:
            raise ValueError(
                f"table '{self.name}' holds no session embedding: scope is '{self.scope}', "
                f"{len(self)} windows; read embedding_mean and embedding_sd, one row a window"
            )
        mean = np.asarray(self["embedding_mean"][0])
        if "embedding_sd" not in self.colnames:
            return mean, None
        return mean, np.asarray(self["embedding_sd"][0])

    def to_xarray(self) -> xr.Dataset:
        """The columns under their names.

        Returns
        -------
        xarray.Dataset of embedding_mean and embedding_sd (trial, embedding), with start_time and
        stop_time [s] and trial_row by trial; `trial` numbers the rows of this table.
        """
        return views.table_to_xarray(self)

    def to_pynapple(self) -> Any:
        """pynapple.IntervalSet of the windows, with the embeddings as metadata.

        Raises
        ------
        ValueError : windows overlap, which pynapple would join.
        """
        return views.table_to_pynapple(self)


@neurodata_type("TrainingAssetsTable")
class TrainingAssetsTable(DynamicTable):
    """Files that a model was trained on, one a row.

    Columns
    -------
    uri : where the file is.
    digest : digest of its bytes, "sha256:<hex>"; optional.
    input_key : key of the read-in and likelihood that was fit to it; optional.

    >>> table = TrainingAssetsTable(description="Recordings.")
    >>> table.add_row(uri="dandi://dandi/000140@draft/sub-Jenkins.nwb", input_key="jenkins")
    >>> len(table)
    1
    """

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
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
