"""`metadyn score`: a model beside baselines, recording by recording.

A table for each recording as soon as it is scored, a line for each predictor: the model, and the
baselines that know no dynamics. Columns are scores; their definitions stand under the table, and a
verdict follows that names those on which the model is behind. By default only windows kept aside
for tests are scored.

In Python: `metadyn.score("model", "day1.nwb")`, an xarray Dataset with the scores of each unit and
step too, which is what --output keeps.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

import metadyn
from metadyn.cli.console import out, say
from metadyn.cli.options import Device, Files, Model, SkipBad, chosen, config_flags
from metadyn.cli.progress import working

if TYPE_CHECKING:
    import xarray as xr

SCORED_WINDOWS = {
    "test": "test windows, which the model has never met",
    "validation": "validation windows, which chose the checkpoint but trained nothing",
    "held-out": "windows that trained nothing; some may have chosen the checkpoint",
    "all": "windows, those that trained the model too",
}
SCORE_COLUMNS = {  # heading of each column, and its score
    "hidden\nr²": "reconstruction_r2",
    "hidden\nbits": "bits_per_spike",
    "forecast\nr²": "forecast_r2",
    "forecast\nbits": "forecast_bits_per_spike",
    "behaviour\nr²": "behavior_r2",
}


@config_flags("data")
def score(
    model: Model,
    files: Files,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="bins seen before a forecast; default: a third of the median window"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="bins to forecast; default: 20, or what is left of it")
    ] = None,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out/--all-windows",
            help="only the windows kept aside for tests (where there are none, "
            "those that chose the checkpoint), or all",
        ),
    ] = True,
    skip_bad: SkipBad = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="also keep the scores, of each unit and step too, here: NetCDF (.nc) or .json",
        ),
    ] = None,
    device: Device = "auto",
    *,
    flags: dict,
) -> None:
    """Score reconstruction, forecasts and decoding of behaviour beside baselines, and say where the
    model is behind.

    Baselines are the mean rate and the last value; of behaviour smoothed spikes and their principal
    components. Decoders learn on the windows that trained the model.

    Example: [bold]metadyn score model day1.nwb --behavior cursor_vel -o scores.json[/bold]
    """
    from metadyn.pipeline.inputs import recordings
    from metadyn.pipeline.scoring import check_scores_path
    from metadyn.pipeline.skipping import skipping

    if output is not None:
        check_scores_path(output)  # before anything is computed
    asked = {
        "context": context,
        "steps": steps,
        "held_out": held_out,
        "data": chosen(flags),
        "device": device,
    }
    every, found = recordings(files, absent_too=skip_bad), []
    with skipping(skip_bad) as skipped, working("scoring"):
        for recording in every:
            scores = skipped.attempt(recording, partial(metadyn.score, model, recording, **asked))
            if scores is not None:
                found.append(scores)
                show_score(scores)
        skipped.kept(every)
        if output is not None:
            say(metadyn.save_scores(found, output))


def show_score(scores: xr.Dataset) -> None:
    """Print a line a predictor, the definitions of the scores and the verdict.

    A predictor without any score has no line; `-` stands where it lacks one.

    Parameters
    ----------
    scores : (predictor,) each, of `metadyn.score`.
    """
    about = scores.attrs
    columns = {heading: name for heading, name in SCORE_COLUMNS.items() if name in scores}
    title = f"{about['session']}: {about['n_windows']} {SCORED_WINDOWS[about['windows']]}"
    definitions = _definitions(scores)
    table = Table("predictor", *columns, title=title, caption=definitions, caption_justify="left")
    for i, predictor in enumerate(scores.predictor.values):
        values = [float(scores[name][i]) for name in columns.values()]
        if not np.isnan(values).all():
            shown = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
            table.add_row(str(predictor), *shown)
    console = out()
    console.print(table, soft_wrap=False)
    if about["behavior_note"]:
        say(f"behaviour has no r²: {about['behavior_note']}")
    say(about["verdict"])


def _definitions(scores: xr.Dataset) -> str:
    """The definitions under a table of scores, with the numbers of bins and windows.

    Parameters
    ----------
    scores : of `metadyn.score`; the line on behaviour is left out where they have none.
    """
    about = scores.attrs
    seconds = float(scores.step[-1])
    text = (
        "r²: 1 - Σ(y - ŷ)² / Σ(y - ȳ)², ȳ the mean over the windows that trained the model, "
        "which scores 0. bits: per spike, above the mean rate. "
        "hidden: a fifth of the entries, not shown to the model. "
        f"forecast: the {scores.sizes['step']} bins ({seconds:.2f} s) after "
        f"{about['context_bins']}, of {about['n_forecast_windows']} windows."
    )
    if "behavior_r2" in scores:
        windows = f"{about['n_training_windows']} windows that trained the model"
        text += f" behaviour: decoders learn on {windows}."
    return text
