"""A model and its baselines, in words: in which measure one of them is ahead, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

MARGINS = {"bits per spike": 0.005, "r²": 0.01}  # a baseline that leads by less is not ahead
# Variable of each measure by its unit: bits where there are bits
MEASURES = {
    "forecasts": {"bits per spike": "forecast_bits_per_spike", "r²": "forecast_r2"},
    "hidden entries": {"bits per spike": "bits_per_spike", "r²": "reconstruction_r2"},
    "decoded behaviour": {"r²": "behavior_r2"},
}


@dataclass(frozen=True)
class Standing:
    """Scores of a model and of its best baseline (of the mean where the model is below that) in one
    measure of one session."""

    baseline: str
    model: float
    best: float
    unit: str
    session: str

    @property
    def lead(self) -> float:
        """By how many margins the baseline is ahead; below 1 it is not."""
        return (self.best - self.model) / MARGINS[self.unit]

    @property
    def level(self) -> bool:
        """Whether neither is ahead by a margin."""
        return abs(self.lead) < 1

    def __str__(self) -> str:
        verb = "behind" if self.model >= 0 else "below"
        return f"{verb} {self.baseline} ({self.model:.3f} against {self.best:.3f} {self.unit}"


def standing(scores: xr.Dataset, measure: str) -> Standing | None:
    """Of one session in one of MEASURES; None where nothing was measured.

    scores : as `metadyn.score` returns it, with the session's name as an attribute.
    """
    for unit, name in MEASURES[measure].items():
        values = scores[name].to_series().dropna().to_dict() if name in scores else {}
        if "model" not in values:
            continue
        model = values.pop("model")
        best = max(values, key=lambda predictor: values[predictor])
        if model <= -MARGINS[unit]:
            best = "mean_rate"
        baseline = _in_words(best, measure)
        return Standing(baseline, model, values[best], unit, scores.attrs["session"])
    return None


def _in_words(baseline: str, measure: str) -> str:
    """The name of a baseline within a sentence."""
    if (baseline, measure) == ("mean_rate", "decoded behaviour"):
        return "the mean"
    words = baseline.replace("_", " ")
    return f"the {words}" if baseline in ("mean_rate", "last_value") else words


def _standings(scores: Iterable[xr.Dataset], measure: str) -> list[Standing]:
    """Of the sessions in which something was measured."""
    found = (standing(each, measure) for each in scores)
    return [each for each in found if each is not None]


def baselines_ahead(scores: list[xr.Dataset]) -> dict[str, str]:
    """In words, by measure in which a baseline is ahead: by how much, and of several sessions in
    how many and where it is worst.

    scores : of each session, as `metadyn.score` returns it. Empty where no baseline is ahead.
    """
    found = {}
    for measure in MEASURES:
        measured = _standings(scores, measure)
        behind = [each for each in measured if each.lead >= 1]
        if not behind:
            continue
        worst = max(behind, key=lambda each: each.lead)
        text = f"{measure} {worst}"
        if len(measured) > 1:
            text += f", worst of {len(behind)} in {len(measured)} sessions: {worst.session}"
        found[measure] = text + ")"
    return found


def summary(scores: list[xr.Dataset]) -> str:
    """In words, of a model that is behind in no measure: its mean score in each, and where it is
    level with a baseline.

    scores : of each session, as `metadyn.score` returns it.
    """
    texts = []
    leads = "ahead of every baseline"
    for measure in MEASURES:
        measured = _standings(scores, measure)
        if not measured:
            continue
        mean = np.mean([each.model for each in measured])
        text = f"{measure} {mean:.3f} {measured[0].unit}"
        closest = max(measured, key=lambda each: each.lead)
        if closest.level:
            leads = "behind no baseline"
            where = f": {closest.session}" if len(measured) > 1 else ""
            text += f" (level with {closest.baseline}{where})"
        texts.append(text)
    if not texts:
        return "no window is long enough for a context and a forecast"
    return f"{leads}: {', '.join(texts)}"
