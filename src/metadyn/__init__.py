"""Shared latent dynamics from many recordings: NWB units in, latents, embeddings and the model back
into NWB.

The verbs are imported when first asked for, so that reading a file needs no torch.
"""

import os
from importlib import import_module

# Threads that spin long while they wait for each other hold up whoever else wants the core; some
# microseconds are worth it (docs/decisions/threads.md). Read once, when torch is loaded; who sets
# it themselves is heard.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

VERBS = (
    *(
        "read_session",
        "bin_spikes",
        "simulate",
        "fit",
        "align",
        "infer",
        "forecast",
        "score",
        "annotate",
    ),
    *("fetch", "derive", "package", "findings", "upload"),
    *("load_model", "save_model", "save_scores", "load_config"),
)
__all__ = ["VERBS", "__version__", *VERBS]


def __getattr__(name: str):
    if name == "__version__":
        from importlib.metadata import version

        return version("ndx-metadyn")
    if name in VERBS:
        return getattr(import_module("metadyn.pipeline.steps"), name)
    raise AttributeError(
        f"module 'metadyn' has no attribute {name!r}; its verbs are {', '.join(VERBS)}"
    )


def __dir__() -> list[str]:
    return sorted(__all__)
