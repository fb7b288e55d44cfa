"""The command to run next: settings that are worth a try, and all else as it was."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from metadyn.config import DataConfig, ModelConfig, TrainingConfig
from metadyn.pipeline.commands import as_flags
from metadyn.pipeline.inputs import recordings

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel

EMBEDDINGS_ALIKE = "embeddings alike"  # name of a finding; the others are measures
FEWEST_STEPS = 600  # of a fit that is proposed
MOST_LATENTS = 20


def settings_to_try(findings: Iterable[str], trained: TrainedModel) -> dict[str, Any]:
    """Settings that may mend the first finding, the worst: EMBEDDINGS_ALIKE or a measure of
    `pipeline.comparison`; none where there is no finding."""
    model, training = trained.config, trained.training
    worst = next(iter(findings), None)
    if worst is None:
        return {}
    longer = {"steps": max(2 * training.steps, FEWEST_STEPS)}
    if worst == EMBEDDINGS_ALIKE:
        return {"process_noise": training.process_noise / 4, **longer}
    if worst == "forecasts" and training.multi_step < 0.1:
        return {**longer, "multi_step": 0.1}
    fewest_units = min(entry.n_units for entry in trained.sessions)
    if model.latent_dim < min(MOST_LATENTS, fewest_units):
        return {**longer, "latent_dim": min(2 * model.latent_dim, fewest_units)}
    return {**longer, "learning_rate": training.learning_rate / 2}


def fit_command(
    trained: TrainedModel, files: list[str], output: list[str], changed: dict[str, Any]
) -> str:
    """The fit again with other settings, all else as it was: a command that can be pasted.

    `output`: the folder of the first fit, empty where it is not known.
    """
    data = {"bin_width": trained.bin_width, **trained.data}
    options = data if "preset" in data else differing(data, DataConfig())
    options |= differing(trained.config.model_dump(), ModelConfig())
    options |= differing(trained.training.model_dump(), TrainingConfig())
    flags = as_flags({**options, **changed})
    return f"metadyn fit {shown(files)} -o {unused_folder(*output)} {flags}"


def differing(values: dict[str, Any], defaults: BaseModel) -> dict[str, Any]:
    """The settings that are not those of the section's defaults."""
    usual = defaults.model_dump()
    return {
        name: value
        for name, value in values.items()
        if value is not None and value != usual.get(name)
    }


def shown(files: list[str]) -> str:
    """Files as arguments of a command.

    >>> shown(["day 1.nwb", "day2.nwb"])
    "'day 1.nwb' day2.nwb"
    """
    return " ".join(shlex.quote(file) for file in files) or "FILES"


def shown_model(model: str = "MODEL") -> str:
    """A model's folder or file as an argument of a command."""
    return shlex.quote(model)


def unused_folder(output: str = "model") -> str:
    """A folder that does not exist yet, named after another one, as an argument of a command."""
    name = Path(output)
    free = (name.with_name(f"{name.name}-{number}") for number in range(2, 1000))
    return shlex.quote(str(next(path for path in free if not path.exists())))


def as_arguments(given: object) -> list[str]:
    """Paths, addresses and NAME=FILE as a person gave them; none where objects were given.

    >>> as_arguments(["day1.nwb", Path("day2.nwb")])
    ['day1.nwb', 'day2.nwb']
    """
    items = given if isinstance(given, list | tuple) else [given]
    sources = [getattr(item, "source", item) for item in items]  # of a Recording its source
    plain = all(isinstance(source, str | os.PathLike) for source in sources)
    return [str(item) for item in items] if plain else []


def recordings_of(trained: TrainedModel, given: object) -> list[str]:
    """Where the recordings of all sessions are: those given, or in the same folder (of a dandiset:
    in the folders next to it); none where one cannot be found."""
    known = {entry.source.uri: entry for entry in trained.sessions if entry.source.uri}
    sources = [each.source for each in recordings(given)]
    here = [Path(source) for source in sources if isinstance(source, str | os.PathLike)]
    near: list[Path] = []  # the nearest last, to be the one that is taken
    for path in here:
        near += path.parent.parent.glob("*/*.nwb")
        near += path.parent.iterdir()
    found = {path.name: path for path in (*near, *here) if path.name in known}
    if len(known) < len(trained.sessions) or not known.keys() <= found.keys():
        return []
    names = {
        uri: f"{entry.key}=" if entry.key != entry.source.identifier else ""
        for uri, entry in known.items()
    }
    return [f"{names[uri]}{found[uri]}" for uri in known]
