"""`metadyn.infer` and `metadyn.forecast`: latents and rates of a recording that a model knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from metadyn.pipeline.inputs import single
from metadyn.pipeline.models import counts_for, load_model, on_device

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel


def infer(
    model: TrainedModel | str | Path,
    file: object,
    *,
    data: dict | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Smoothed latents, rates [Hz] and embeddings of a recording.

    Parameters
    ----------
    model : folder of `fit` or `align`, annotated NWB file or its address, or a TrainedModel.
    file : a recording that the model knows.
    data : options for other windows than those trained on, e.g. {"where": None}.
    device : auto, cpu or cuda.

    Returns
    -------
    Variables and dimensions of `metadyn.inference.infer.infer`.
    """
    from metadyn.inference import infer as inference

    trained = on_device(load_model(model), device)
    return inference.infer(trained, counts_for(trained, single(file), data))


def forecast(
    model: TrainedModel | str | Path,
    file: object,
    *,
    context: int,
    steps: int,
    samples: int = 0,
    seed: int = 0,
    data: dict | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Latents and rates [Hz] of the bins after the first bins of each window.

    Windows shorter than the context are left out, with a warning.

    Parameters
    ----------
    model, file, data, device : as of `infer`.
    context : bins from a window's start, which alone are seen.
    steps : bins to forecast.
    samples : sampled paths, for a forecast with an SD; 0 gives the mean alone.
    seed : of the samples.

    Raises
    ------
    WindowError : no window is longer than the context.
    """
    from metadyn.inference import forecast as inference

    trained = on_device(load_model(model), device)
    counts = counts_for(trained, single(file), data)
    return inference.forecast(
        trained, counts, context=context, steps=steps, samples=samples, seed=seed
    )
