"""What fit, align and score end in: one line that says how the model fares beside its baselines,
and what to run next."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from metadyn.config import DataConfig, ModelConfig, TrainingConfig
from metadyn.data.splits import evenly
from metadyn.errors import WindowError, as_flags
from metadyn.pipeline.inputs import recordings
from metadyn.records import TrialCounts

MARGINS = {"bits per spike": 0.005, "r²": 0.01}  # by less no baseline is ahead
MEASURES = {  # bits where there are bits
    "forecasts": {"bits per spike": "forecast_bits_per_spike", "r²": "forecast_r2"},
    "hidden entries": {"bits per spike": "bits_per_spike", "r²": "reconstruction_r2"},
    "decoded behaviour": {"r²": "behavior_r2"},
}
COLLAPSED = "the embedding tells no session from another (no fault if sessions do not differ)"
MOST_WINDOWS, MOST_SESSIONS = 16, 20  # that are scored after a fit: it shall cost little


@dataclass(frozen=True)
class Standing:
    """A model beside its best baseline, or beside the mean where it is below that: both scores, in
    which unit and session."""

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
    """Of one session in one measure; None where nothing was measured."""
    for unit, name in MEASURES[measure].items():
        values = {} if name not in scores else scores[name].to_series().dropna().to_dict()
        if "model" in values:
            model = values.pop("model")
            best = "mean_rate" if model <= -MARGINS[unit] else max(values, key=values.get)
            said = (
                "the mean"
                if (best, measure) == ("mean_rate", "decoded behaviour")
                else best.replace("_", " ")
            )
            said = f"the {said}" if said in ("mean rate", "last value") else said
            return Standing(said, model, values[best], unit, scores.attrs["session"])
    return None


def findings(scores: list[xr.Dataset]) -> dict[str, str]:
    """Of each measure in which a baseline is ahead: by how much, and of several sessions in how
    many and where it is worst."""
    found = {}
    for measure in MEASURES:
        measured = [each for one in scores if (each := standing(one, measure)) is not None]
        behind = sorted((each for each in measured if each.lead >= 1), key=lambda each: -each.lead)
        if behind:
            many = f", worst of {len(behind)} in {len(measured)} sessions: {behind[0].session})"
            found[measure] = f"{measure} {behind[0]}" + (many if len(measured) > 1 else ")")
    return found


def summary(scores: list[xr.Dataset]) -> str:
    """The model's mean score in each measure, where it is behind in none, and of each whether it is
    level with a baseline."""
    told, leads = [], "ahead of every baseline"
    for measure in MEASURES:
        measured = [each for one in scores if (each := standing(one, measure)) is not None]
        if not measured:
            continue
        said = f"{measure} {np.mean([each.model for each in measured]):.3f} {measured[0].unit}"
        closest = max(measured, key=lambda each: each.lead)
        if closest.level:
            leads = "behind no baseline"
            said += f" (level with {closest.baseline}" + (
                f": {closest.session})" if len(measured) > 1 else ")"
            )
        told.append(said)
    return (
        f"{leads}: {', '.join(told)}"
        if told
        else "no window is long enough for a context and a forecast"
    )


def collapsed(trained, sessions: list[TrialCounts]) -> bool:
    """Whether the embeddings of sessions differ no more than those of trials within one (as
    `training.health` has it)."""
    from metadyn.inference.encoding import trial_embeddings
    from metadyn.training.health import is_collapsed

    known = [entry.embedding_mean for entry in trained.sessions if entry.embedding_mean]
    if len(known) < 2 or not trained.module.dynamics.embedded:
        return False
    means = [
        trial_embeddings(trained, counts).mean[0].numpy(force=True) for counts in sessions
    ]  # (trial, embedding) each
    within = np.sqrt(np.mean([each.var(0) for each in means], 0))
    return is_collapsed(np.std(known, axis=0, ddof=1), within)


def changes(found: Iterable[str], trained) -> dict:
    """Settings that are worth a try, by the worst finding."""
    model, training = trained.config, trained.training
    longer = {"steps": max(2 * training.steps, 600)}
    fewest = min(entry.n_units for entry in trained.sessions)
    worst = next(iter(found), None)
    if worst is None:
        return {}
    if worst == COLLAPSED:
        return {"process_noise": training.process_noise / 4, **longer}
    if worst == "forecasts" and training.multi_step < 0.1:
        return {**longer, "multi_step": 0.1}
    if model.latent_dim < min(20, fewest):
        return {**longer, "latent_dim": min(2 * model.latent_dim, fewest)}
    return {**longer, "learning_rate": training.learning_rate / 2}


def fit_command(trained, files: list[str], output: list[str], changed: dict) -> str:
    """The fit again with other settings, all else as it was: a command that can be pasted."""
    given = {"bin_width": trained.bin_width, **trained.data}
    options = differing(given, DataConfig()) if "preset" not in given else given
    options |= differing(trained.config.model_dump(), ModelConfig())
    options |= differing(trained.training.model_dump(), TrainingConfig())
    return f"metadyn fit {shown(files)} -o {beside(*output)} {as_flags({**options, **changed})}"


def differing(values: dict, defaults) -> dict:
    """The settings that are not those of the section's defaults."""
    usual = defaults.model_dump()
    return {
        name: value
        for name, value in values.items()
        if value is not None and value != usual.get(name)
    }


def shown(files: list[str]) -> str:
    """Files as arguments of a command."""
    return " ".join(shlex.quote(file) for file in files) or "FILES"


def shown_model(model: str = "MODEL") -> str:
    """A model's folder or file as an argument of a command."""
    return shlex.quote(model)


def beside(output: str = "model") -> str:
    """A folder that does not exist yet, named after another one."""
    name = Path(output)
    free = (name.with_name(f"{name.name}-{number}") for number in range(2, 1000))
    return shlex.quote(str(next(path for path in free if not path.exists())))


def as_arguments(given: object) -> list[str]:
    """Paths, addresses and NAME=FILE as a person gave them; none where objects were given."""
    items = given if isinstance(given, list | tuple) else [given]
    plain = all(
        isinstance(getattr(item, "source", item), str | os.PathLike) for item in items
    )  # of a Recording its source
    return [str(item) for item in items] if plain else []


def recordings_of(trained, given: object) -> list[str]:
    """Where the recordings of all sessions are: those given, or beside them (in a dandiset each
    lies in a folder of its own); none where one cannot be found."""
    known = {entry.source.uri: entry for entry in trained.sessions if entry.source.uri}
    here = [
        Path(each.source)
        for each in recordings(given)
        if isinstance(each.source, str | os.PathLike)
    ]
    near = [
        file
        for path in here
        for file in (*path.parent.parent.glob("*/*.nwb"), *path.parent.iterdir())
    ]  # the nearest last
    found = {path.name: path for path in (*near, *here) if path.name in known}
    if len(known) < len(trained.sessions) or not known.keys() <= found.keys():
        return []
    named = {
        uri: f"{entry.key}=" if entry.key != entry.source.identifier else ""
        for uri, entry in known.items()
    }
    return [f"{named[uri]}{found[uri]}" for uri in known]


def few_windows(trained, counts: TrialCounts, of: str) -> TrialCounts:
    """Up to MOST_WINDOWS of a session's `validation` or `training` windows, evenly spread."""
    entry = trained.sessions[trained.index(counts.session)]
    chosen = (
        entry.trained_on(counts)
        if of == "training"
        else entry.held_out(counts) & ~entry.never_met(counts)
    )
    at, units = (
        np.flatnonzero(chosen),
        np.isin(counts.unit_rows, entry.unit_rows),
    )  # units that no such window shows are left out
    return counts.select(at[evenly(len(at), MOST_WINDOWS)], np.flatnonzero(units))


def spikes_alone(trained, sessions: list[TrialCounts]) -> list[xr.Dataset]:
    """Scores without behaviour of the sessions whose windows are long enough."""
    from metadyn.inference.scores import score

    found = []
    for counts in sessions:
        with contextlib.suppress(WindowError):
            found.append(score(trained, replace(counts, behavior=None)))
    return found


def line(of: str, found: dict[str, str], scores: list[xr.Dataset], command: str) -> str:
    """The verdict in one line: `of` says of which windows, `command` what to run next."""
    if not found:
        return f"verdict ({of}): {summary(scores)}; next: {command}"
    return f"verdict ({of}): {'; '.join(found.values())}; try: {command}"


def of_fit(
    trained,
    sessions: list[TrialCounts],
    files: object,
    output: str | Path | None,
    skip_bad: bool = False,
) -> str:
    """After a fit, of some validation windows of up to MOST_SESSIONS sessions; those kept for tests
    are not met.

    `skip_bad`: the next command leaves out what the fit did.
    """
    chosen = [sessions[i] for i in evenly(len(sessions), MOST_SESSIONS)]
    part = "validation" if trained.training.validation_fraction else "training"
    scores = spikes_alone(trained, [few_windows(trained, counts, part) for counts in chosen])
    folded = collapsed(trained, [few_windows(trained, counts, "training") for counts in chosen])
    found = ({COLLAPSED: COLLAPSED} if folded else {}) | findings(scores)
    given, folder = as_arguments(files), as_arguments([] if output is None else output)
    annotate = f"metadyn annotate {shown_model(*folder)} {shown(given)} -o annotated"
    command = fit_command(trained, given, folder, changes(found, trained)) if found else annotate
    return line(f"{part} windows", found, scores, command + " --skip-bad" * skip_bad)


def of_align(
    trained,
    counts: TrialCounts,
    model: object,
    file: object,
    output: str | Path | None,
    options: dict,
    trials: int | None,
) -> str:
    """After an alignment, of windows that it was fitted to; the others are for `score`. `options`
    of the data were given."""
    few = few_windows(trained, counts, "training")
    scores = spikes_alone(trained, [few])
    found = ({COLLAPSED: COLLAPSED} if collapsed(trained, [few]) else {}) | findings(scores)
    before, now = (as_arguments(each) for each in (model, [] if output is None else output))
    again = {**options, **({"max_steps": 500} if trials is None else {"trials": 2 * trials})}
    command = f"metadyn align {shown_model(*before)} {shown(as_arguments(file))} -o {beside(*now)} {as_flags(again)}"
    score = (
        f"metadyn score {shown_model(*now)} {shown(as_arguments(file))} {as_flags(options)}".strip()
    )
    return line("windows aligned to", found, scores, command if found else score)


def of_score(trained, counts: TrialCounts, scores: xr.Dataset, model: object, file: object) -> str:
    """Of the windows that were scored."""
    found = ({COLLAPSED: COLLAPSED} if collapsed(trained, [counts]) else {}) | findings([scores])
    names, folder = recordings_of(trained, file), as_arguments(model)
    annotate = f"metadyn annotate {shown_model(*folder)} {shown(as_arguments(file))} -o annotated"
    command = fit_command(trained, names, folder, changes(found, trained)) if found else annotate
    return line(f"{scores.attrs['windows']} windows", found, [scores], command)
