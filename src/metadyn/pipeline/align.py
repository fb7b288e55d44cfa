"""`metadyn.align`: a recording that a model has not met gets a read-in and a readout of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from metadyn.config import Config
from metadyn.data.splits import evenly_spaced
from metadyn.pipeline import verdict
from metadyn.pipeline.fit import model_folder
from metadyn.pipeline.inputs import single
from metadyn.pipeline.models import counts_to_align, load_model, on_device

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel
    from metadyn.training.execution.loop import StepReport


def align(
    model: TrainedModel | str | Path,
    file: object,
    output: str | Path | None = None,
    config: Config | None = None,
    *,
    data: dict | None = None,
    trials: int | None = None,
    device: str = "auto",
    report: Callable[[StepReport], None] = lambda _: None,
) -> TrainedModel:
    """Give a new recording a read-in and a likelihood; the dynamics stay as they are.

    Parameters
    ----------
    model : folder of `fit` or `align`, annotated NWB file or its address, or a TrainedModel.
    file : the new recording.
    output : folder that keeps the model of all sessions, the new one too; None keeps none.
    config : whose section `align` counts.
    data : options for other windows or units than the model's, e.g. {"condition": "side"}.
    trials : take only that many windows, evenly spread; all others are then for tests.
    device : auto, cpu or cuda.
    report : called with the progress.

    Raises
    ------
    WriteError : `output` cannot be written, which is found before anything is trained.
    SelectionError : `data` name a column of condition labels, and these do not place the recording.
        (Labels of the model's own column that do not are warned of.)
    """
    from metadyn.training.alignment import align as alignment
    from metadyn.training.execution.checkpoint import save_model
    from metadyn.training.execution.loop import StepReport

    trained = on_device(load_model(model), device)
    folder = model_folder(output, resume=False)
    counts = counts_to_align(trained, single(file), data or {})
    settings = (config or Config()).align
    if trials is not None:
        counts = counts.select(trials=evenly_spaced(counts.n_trials, trials))
        # the other windows are for tests
        settings = settings.model_copy(update={"test_fraction": 0.0})
    aligned = alignment.align(trained, counts, settings, device=device, report=report)
    if folder is not None:
        save_model(aligned, folder)
    said = verdict.of_align(aligned, counts, model, file, output, data or {}, trials)
    report(StepReport(1, 1, "verdict", message=said))
    return aligned
