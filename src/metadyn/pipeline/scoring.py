"""Scores of a recording: which windows are scored, to which the decoders are fitted, and how scores
are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from metadyn.errors import ConfigError, WindowError
from metadyn.pipeline import verdict
from metadyn.pipeline.inputs import single
from metadyn.pipeline.models import counts_for, load_model, on_device
from metadyn.records import TrialCounts

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel


def score(
    model: TrainedModel | str | Path,
    file: object,
    *,
    context: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    held_out: bool = True,
    data: dict[str, Any] | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Reconstruction, forecasts and, where there is behaviour, decoding of a recording; see
    `metadyn.inference.scores.score`.

    Scored are the windows that the model has never met (the attribute `windows` is then "test"),
    else those that only chose its checkpoint ("validation"; "held-out" for models that do not know
    the two apart), or, unless `held_out`, "all". Decoders are fitted to those that trained it.

    Parameters
    ----------
    model : folder of `fit` or `align`, annotated NWB file or its address, or a TrainedModel.
    file : a recording that the model knows.
    context, steps : of the forecasts, in bins; default: a third of the median window, and 20 or
        what is left of it.
    seed : of the entries that are hidden.
    data : options for other windows than those trained on, e.g. {"behavior": "cursor_vel"}.

    Returns
    -------
    A Dataset with dims (predictor, step, unit, channel). The attribute `verdict` says in a line
    where the model is behind and what to try next.

    Raises
    ------
    WindowError : every window trained the model, or none is long enough for a forecast.
    ModelFileError, DataError : the model does not know the recording, or other units of it.
    """
    from metadyn.inference.scores import score

    trained = on_device(load_model(model), device)
    counts = counts_for(trained, single(file), data)
    entry = trained.sessions[trained.index(counts.session)]
    training = counts.select(trials=entry.trained_on(counts))
    part, scored = _windows_to_score(trained, counts) if held_out else ("all", counts)
    scores = score(trained, scored, training, context=context, steps=steps, seed=seed)
    scores = scores.assign_attrs(
        windows=part, n_windows=scored.n_trials, n_training_windows=training.n_trials
    )
    return scores.assign_attrs(verdict=verdict.of_score(trained, scored, scores, model, file))


def _windows_to_score(trained: TrainedModel, counts: TrialCounts) -> tuple[str, TrialCounts]:
    """Windows that did not train the model, those that it has never met where there are any; and
    the name of this part."""
    entry = trained.sessions[trained.index(counts.session)]
    unseen = entry.never_met(counts)
    part = "test"
    if not unseen.any():
        unseen = entry.held_out(counts)
        part = "held-out" if entry.validated_starts is None else "validation"
    if not unseen.any():
        raise WindowError(
            "every window of the recording trained the model",
            item=counts.session,
            found=f"{counts.n_trials} windows",
            remedy="`held_out=False` (then the scores are of trials that the model has seen)",
        )
    return part, counts.select(trials=unseen)


def save_scores(scores: list[xr.Dataset], path: str | Path) -> Path:
    """Scores of one or several recordings as NetCDF (.nc) or JSON (.json), with a dimension
    `session`; returns the path.

    Opened by `xarray.open_dataset`, or `xarray.Dataset.from_dict(json.load(…))`; in JSON what is
    not measured is null.

    Raises
    ------
    ConfigError : the path has another ending.
    """
    path = check_scores_path(path)
    each = [_with_session(one) for one in scores]
    combined = xr.concat(each, "session", join="outer", combine_attrs="drop")
    if path.suffix == ".nc":
        combined.to_netcdf(path, engine="scipy")
        return path
    plain = _without_nan(combined.to_dict())
    text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def check_scores_path(path: str | Path) -> Path:
    """The path, if scores can be kept under its ending; else a ConfigError.

    >>> check_scores_path("scores.json").name
    'scores.json'
    """
    if Path(path).suffix not in (".nc", ".json"):
        raise ConfigError(
            "scores are kept as NetCDF or JSON",
            found=Path(path).name,
            remedy="scores.nc or scores.json as `output`",
        )
    return Path(path)


def _with_session(scores: xr.Dataset) -> xr.Dataset:
    """With a dimension `session`; attributes that differ between recordings are variables of it."""
    attributes = dict(scores.attrs)
    session = attributes.pop("session")
    variables = {name: ("session", [value]) for name, value in attributes.items()}
    return scores.drop_attrs(deep=False).expand_dims(session=[session]).assign(variables)


def _without_nan(values: Any) -> Any:
    """The same lists and dicts of JSON with null in place of NaN."""
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and values != values else values
