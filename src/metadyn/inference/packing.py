"""Arrays of `metadyn.estimates` from what inference has of one session."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts


def coordinates(
    trained: TrainedModel, counts: TrialCounts, first_bin: int = 0, n_bins: int | None = None
) -> dict[str, np.ndarray]:
    """Coordinates of an estimate, of `n_bins` bins from `first_bin` on (None: all of the longest
    window).

    `time` is in seconds from the start of the window, at bin centres; `start_time` in seconds on
    the session clock.
    """
    n_bins = counts.counts.shape[1] if n_bins is None else n_bins
    return {
        "trial": np.arange(counts.n_trials),
        "time": (first_bin + np.arange(n_bins) + 0.5) * counts.bin_width,
        "latent": trained.latent_blocks.labels,
        "unit": counts.unit_rows,
        "embedding": np.arange(trained.config.embedding_dim),
        "start_time": counts.windows.start,
        "n_bins": counts.windows.n_bins,
        "trial_row": counts.windows.trial_row,
    }


def attributes(trained: TrainedModel, counts: TrialCounts, estimate: str) -> dict[str, Any]:
    """Attributes of an estimate, `metadyn.estimates.SMOOTHED` or FORECAST.

    `bin_width` is in seconds; `table` is empty for a continuous recording.
    """
    return {
        "session": counts.session,
        "bin_width": counts.bin_width,
        "table": counts.windows.table or "",
        "estimate": estimate,
        "embedding_scope": "window" if trained.config.pooling == "trial" else "session",
    }


def embedding_variables(
    by_trial: Gaussian, used: Gaussian, session: Gaussian
) -> dict[str, np.ndarray]:
    """Embeddings that conditioned each trial (`used`), those of each trial alone, both (1, trial,
    embedding), and the session's (1, 1, embedding)."""
    return {
        "embedding_mean": used.mean[0].numpy(force=True),
        "embedding_sd": used.sd[0].numpy(force=True),
        "trial_embedding_mean": by_trial.mean[0].numpy(force=True),
        "session_embedding_mean": session.mean[0, 0].numpy(force=True),
        "session_embedding_sd": session.sd[0, 0].numpy(force=True),
    }


def observation_variables(counts: TrialCounts) -> dict[str, np.ndarray]:
    """Where some unit was observed, and, where units differ, where each was; False behind a
    window's end."""
    variables = {"observed": counts.observed}
    if counts.unit_observed is not None:
        variables["unit_observed"] = counts.unit_observed
    return variables


def within_windows(
    counts: TrialCounts, values: Shaped[np.ndarray, "trial time column"]
) -> Float[np.ndarray, "trial time column"]:
    """The values, NaN behind a window's end."""
    inside = np.arange(counts.counts.shape[1]) < counts.windows.n_bins[:, None]
    return np.where(inside[..., None], values, np.nan).astype(np.float32)
