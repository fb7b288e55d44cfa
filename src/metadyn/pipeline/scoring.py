"""Scores of a recording: which windows are scored, which teach the decoders, and how scores are
kept."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from metadyn.errors import ConfigError, WindowError
from metadyn.pipeline import verdict
from metadyn.pipeline.inputs import single
from metadyn.pipeline.models import counts_for, load_model, on_device
from metadyn.records import TrialCounts


def score(
    model,
    file,
    *,
    context: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    held_out: bool = True,
    data: dict | None = None,
    device: str = "auto",
) -> xr.Dataset:
    """Reconstruction, forecasts and, where there is behaviour, decoding; see
    `metadyn.inference.scores.score`.

    Scored are the windows that the model has never met (the attribute `windows` is then "test"),
    else those that only chose its checkpoint ("validation"; "held-out" for models that do not tell
    the two apart), or, unless `held_out`, "all". Decoders learn on those that trained it. The
    attribute `verdict` says in a line where it is behind and what to try next.

    Raises WindowError where every window trained the model.
    """
    from metadyn.inference.scores import score

    trained = on_device(load_model(model), device)
    counts = counts_for(trained, single(file), data)
    training = counts.select(
        trials=trained.sessions[trained.index(counts.session)].trained_on(counts)
    )
    part, scored = _to_score(trained, counts) if held_out else ("all", counts)
    told = {"windows": part, "n_windows": scored.n_trials, "n_training_windows": training.n_trials}
    scores = score(trained, scored, training, context=context, steps=steps, seed=seed).assign_attrs(
        told
    )
    return scores.assign_attrs(verdict=verdict.of_score(trained, scored, scores, model, file))


def _to_score(trained, counts: TrialCounts) -> tuple[str, TrialCounts]:
    """Windows that did not train the model, those that it has never met where there are any; and
    what to call them."""
    entry = trained.sessions[trained.index(counts.session)]
    unseen, part = entry.never_met(counts), "test"
    if not unseen.any():
        unseen, part = (
            entry.held_out(counts),
            "held-out" if entry.validated_starts is None else "validation",
        )
    if not unseen.any():
        problem = "every window of the recording trained the model"
        raise WindowError(
            problem,
            item=counts.session,
            found=f"{counts.n_trials} windows",
            remedy="--all-windows (then the scores are of trials that the model has seen)",
        )
    return part, counts.select(trials=unseen)


def save_scores(scores: list[xr.Dataset], path: str | Path) -> Path:
    """Scores of one or several recordings as NetCDF (.nc) or JSON (.json), with a dimension
    `session`; returns the path.

    Opened by `xarray.open_dataset`, or `xarray.Dataset.from_dict(json.load(…))`; in JSON what is
    not measured is null.
    """
    path = check_scores_path(path)
    whole = xr.concat(
        [_with_session(each) for each in scores], "session", join="outer", combine_attrs="drop"
    )
    if path.suffix == ".nc":
        whole.to_netcdf(path, engine="scipy")
    else:
        plain = _without_nan(whole.to_dict())
        path.write_text(
            json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )
    return path


def check_scores_path(path: str | Path) -> Path:
    """The path, if its ending is one that scores can be kept under; else a ConfigError."""
    if Path(path).suffix not in (".nc", ".json"):
        raise ConfigError(
            "scores are kept as NetCDF or JSON",
            found=Path(path).name,
            remedy="-o scores.nc or -o scores.json",
        )
    return Path(path)


def _with_session(scores: xr.Dataset) -> xr.Dataset:
    """Attributes that differ between recordings as variables (session,)."""
    told = {name: ("session", [value]) for name, value in scores.attrs.items() if name != "session"}
    return scores.drop_attrs(deep=False).expand_dims(session=[scores.attrs["session"]]).assign(told)


def _without_nan(values):
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and values != values else values
