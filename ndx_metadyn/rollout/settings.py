"""The settings that are stored with a model, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ndx_metadyn.rollout.conditionings import NUMPY_CONDITIONINGS
from ndx_metadyn.rollout.flows import NUMPY_FLOWS
from ndx_metadyn.rollout.likelihoods import LINKS, NUMPY_LIKELIHOODS
from ndx_metadyn.weights import NoTwinError, WeightsError

READABLE_FORMATS = (1, 2)  # 2: with settings that 0.1.0 does not know, such as model.dynamics
OF_OLDER_FILES: dict[str, Any] = {
    "dynamics": "mlp",
    "changed_layers": ["input", "hidden"],
    "residual": False,
    "link": "exp",
    "shared_noise": False,
}
SIZES = ("latent_dim", "embedding_dim", "rank", "hyper_hidden")


class Settings(NamedTuple):
    """model: by the keys of the configuration; sessions: an entry each; bin_width [s]."""

    model: dict[str, Any]
    sessions: tuple[dict[str, Any], ...]
    bin_width: float


def read_settings(config: Mapping[str, Any]) -> Settings:
    """The settings of a stored config; those of the model that it lacks are those of older files.

    Raises
    ------
    WeightsError : a setting is missing, of the wrong kind or out of range; NoTwinError, one of
        them, where a flow, a conditioning or a likelihood has no numpy form here.
    """
    if config.get("format") not in READABLE_FORMATS:
        raise WeightsError(
            "model config of an unknown format",
            found=config.get("format"),
            expected=" or ".join(map(str, READABLE_FORMATS)),
        )
    try:
        settings = Settings(
            OF_OLDER_FILES | dict(config["model"]),
            tuple(config["sessions"]),
            float(config["bin_width"]),
        )
        _check_kinds(settings.model)
        _check_sizes(settings)
        _check_sessions(settings.sessions)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            "the model config lacks a setting, or it is of the wrong kind",
            found=f"{type(error).__name__}: {error}",
        ) from None
    _check_options(settings.model)
    return settings


def _check_kinds(model: dict[str, Any]) -> None:
    """Flow, conditioning, likelihood and its link are those that have a numpy form."""
    _check_twin("dynamics", model["dynamics"], NUMPY_FLOWS)
    _check_twin("conditioning", model["conditioning"], NUMPY_CONDITIONINGS)
    _check_twin("likelihood", model["likelihood"], NUMPY_LIKELIHOODS)
    _check_twin("link", model["link"], LINKS)


def _check_twin(name: str, word: Any, table: Iterable[str]) -> None:
    if not _is_word_of(word, table):
        raise NoTwinError(
            f"model config: unknown {name}, or one without a numpy form in this ndx-metadyn",
            found=repr(word),
            expected=" or ".join(table),
            remedy="read the model with metadyn, which needs torch, or install a newer ndx-metadyn",
        )


def _check_sizes(settings: Settings) -> None:
    """Sizes are positive integers, and there is a session."""
    model, sessions, bin_width = settings
    sizes = [model[name] for name in SIZES] + list(model["hidden"])
    sizes += [session["n_units"] for session in sessions]
    positive = all(type(size) is int and size > 0 for size in sizes)
    two_layers = len(model["hidden"]) == 2
    if not (sessions and two_layers and positive and 0 < bin_width < np.inf):
        raise WeightsError(
            "the model config has a size that is no positive integer, or no session",
            found=f"{sizes}, {bin_width} s",
        )


def _check_sessions(sessions: tuple[dict[str, Any], ...]) -> None:
    """Each session has a key and, if any, a scale of its noise."""
    if not all("key" in session for session in sessions):
        raise KeyError("key")
    scales = [float(session.get("noise_scale", 1.0)) for session in sessions]
    if not all(0 < scale < np.inf for scale in scales):
        raise WeightsError(
            "model config: noise_scale is no size", found=repr(scales), expected="numbers above 0"
        )


def _check_options(model: dict[str, Any]) -> None:
    """Options are of those that there are."""
    for name in ("residual", "shared_noise"):
        if type(model[name]) is not bool:
            raise WeightsError(f"model config: {name} is no truth value", found=repr(model[name]))
    known = NUMPY_FLOWS[model["dynamics"]].tensors
    layers = model["changed_layers"]
    some = type(layers) is list and len(layers) > 0
    if not some or not all(_is_word_of(layer, known) for layer in layers):
        raise WeightsError(
            "model config: unknown changed_layers",
            found=repr(layers),
            expected=f"some of {', '.join(known)}",
        )


def _is_word_of(word: Any, table: Iterable[str]) -> bool:
    return isinstance(word, str) and word in table
