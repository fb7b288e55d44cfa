"""Shared latent dynamics from many recordings: NWB units in, latents, embeddings and the model back
into NWB.

>>> import metadyn
>>> "fit" in metadyn.VERBS
True
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# The public functions and where each is written; it is imported when it is first asked for, so that
# reading a file needs no torch. Commands, tests and the documentation follow this table.
VERBS = {
    "inspect": "metadyn.pipeline.describe:describe",
    "fetch": "metadyn.pipeline.sharing:fetch",
    "simulate": "metadyn.pipeline.simulate:simulate",
    "read_session": "metadyn.nwb.read:read_session",
    "bin_spikes": "metadyn.pipeline.binning:bin_spikes",
    "load_config": "metadyn.config:load_config",
    "fit": "metadyn.pipeline.fit:fit",
    "align": "metadyn.pipeline.align:align",
    "infer": "metadyn.pipeline.infer:infer",
    "annotate": "metadyn.pipeline.annotation:annotate",
    "forecast": "metadyn.pipeline.infer:forecast",
    "score": "metadyn.pipeline.scoring:score",
    "save_scores": "metadyn.pipeline.scoring:save_scores",
    "load_model": "metadyn.pipeline.models:load_model",
    "save_model": "metadyn.training.execution.checkpoint:save_model",
    "derive": "metadyn.pipeline.sharing:derive",
    "package": "metadyn.pipeline.sharing:package",
    "findings": "metadyn.pipeline.sharing:findings",
    "upload": "metadyn.pipeline.sharing:upload",
    "read_model": "metadyn.nwb.stored_model:read_model",
    "export_model": "metadyn.pipeline.sharing:export_model",
    "demo": "metadyn.pipeline.demo:demo",
}
__all__ = ["VERBS", "__version__", *VERBS]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ndx-metadyn")
    if name not in VERBS:
        verbs = ", ".join(VERBS)
        raise AttributeError(f"module 'metadyn' has no attribute {name!r}; its verbs are {verbs}")
    module, _, function = VERBS[name].partition(":")
    return getattr(import_module(module), function)


def __dir__() -> list[str]:
    return sorted(__all__)
