"""One configuration: how spikes become counts, what the model is, how it is trained.

The description of each key is its help on the command line, with its place in the paper.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from metadyn.choices import CONDITIONINGS, FLOWS, LIKELIHOODS
from metadyn.errors import ConfigError
from metadyn.old_words import modern
from metadyn.presets import PRESETS

if TYPE_CHECKING:  # a type checker cannot follow choices that stand in a table
    FlowName = str
    ConditioningName = str
    LikelihoodName = str
    Link = str
else:
    FlowName = Literal[tuple(FLOWS)]
    ConditioningName = Literal[tuple(CONDITIONINGS)]
    LikelihoodName = Literal[tuple(dict.fromkeys(name for name, _ in LIKELIHOODS))]
    Link = Literal[tuple(dict.fromkeys(link for _, link in LIKELIHOODS if link))]


def plain_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of numpy as Python's; those of fewer than 64 bits as the decimals that they were
    written as: numpy's float32 of 0.1 is 1.5e-9 more.

    >>> plain_numbers({"bin_width": np.float32(0.1), "n_bins": np.int16(30), "align": "go_cue"})
    {'bin_width': 0.1, 'n_bins': 30, 'align': 'go_cue'}
    """
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """A value, as Python's own number where it is one of numpy."""
    if isinstance(value, np.floating):
        return float(str(value))
    return int(value) if isinstance(value, np.integer) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    section: ClassVar[str] = ""  # its name in a file, by which its old words are found

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, values: Any) -> Any:
        return plain_numbers(modern(cls.section, values)) if isinstance(values, dict) else values


class DataConfig(_Section):
    """Windows, units and bins. Times in seconds."""

    section = "data"

    preset: str | None = Field(
        None,
        description="choices under those given here: for a known dandiset "
        f"({', '.join(name for name, each in PRESETS.items() if not each.sections)}), "
        "or the paper's with its model and training "
        f"({', '.join(name for name, each in PRESETS.items() if each.sections)})",
    )
    bin_width: float = Field(0.02, gt=0, description="width of a time bin [s]")
    intervals: str | None = Field(
        None,
        description="interval table to take windows from; default: trials, else the whole "
        "recording",
    )
    align: str | None = Field(
        None,
        description="event column that windows start from, or a sum of columns, e.g. "
        '"start_time + cue / 1000"; default: each row from start_time to stop_time',
    )
    start: float = Field(0.0, description="start of the window after the event [s]")
    n_bins: int | None = Field(
        None,
        gt=0,
        description="bins in a window; needed with align, and the length of a window of a "
        "continuous recording",
    )
    max_bins: int | None = Field(
        None, gt=0, description="cut windows longer than this many bins into pieces"
    )
    where: str | None = Field(
        None,
        description="rows to keep, e.g. \"result == 'R' and not bad\"; missing values satisfy "
        "neither x nor not x",
    )
    units: str | None = Field(
        None,
        description="units to keep, e.g. \"quality == 'good'\", or by their electrodes: "
        "\"location == 'M1'\"",
    )
    min_rate: float = Field(
        0.1,
        ge=0,
        description="units below this mean rate in the windows are dropped [Hz] (paper, D.1)",
    )
    spike_lag: float = Field(0.0, description="count spikes this much earlier than the window [s]")
    smoothing: float = Field(
        0.0, ge=0, description="SD of Gaussian smoothing of counts, for the Gaussian likelihood [s]"
    )
    behavior: str | None = Field(None, description="behaviour series for decoding")
    condition: str | None = Field(
        None, description="column of condition labels, for latents that sessions share"
    )


class ModelConfig(_Section):
    """The meta-dynamical state space model (Vermani et al., sections 3.1-3.2)."""

    section = "model"

    latent_dim: int = Field(
        16,
        gt=0,
        description="dimensions of the latent state; by default no more than the smallest "
        "session has units",
    )
    embedding_dim: int = Field(
        2, gt=0, description="dimensions of the dynamical embedding (1 or 2 in the paper)"
    )
    dynamics: FlowName = Field(
        "mlp",
        description="family of the dynamics: multilayer perceptron (eq. 13), or linear",
    )
    conditioning: ConditioningName = Field(
        "low_rank", description="how the embedding changes the dynamics (section 5: baselines)"
    )
    rank: int = Field(
        1, gt=0, description="rank of the change of each weight (Fig. 15: insensitive)"
    )
    changed_layers: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="layers of the dynamics that low_rank changes; default: first and hidden of"
        " mlp (App. D.3), "
        "all of the others",
    )
    residual: bool = Field(
        False, description="dynamics f(z) = z + net(z) instead of net(z) (eq. 13), of mlp"
    )
    shared_noise: bool = Field(
        False, description="one process noise Q for all sessions (the authors' code) instead of Q^i"
    )
    detach_embedding: bool = Field(
        False,
        description="keep gradients of q(z) from the embedding that it takes (the authors' code)",
    )
    likelihood: LikelihoodName = Field("poisson", description="distribution of the observations")
    link: Link = Field(
        "exp", description="from C z + D to the Poisson mean in counts per bin (eq. 10)"
    )
    hidden: tuple[int, int] = Field((32, 32), description="hidden units of the dynamics (App. D.3)")
    hyper_hidden: int = Field(16, gt=0, description="hidden units of the hypernetwork (App. D.3)")
    readin_hidden: int = Field(64, gt=0, description="hidden units of the read-in (App. D.3)")
    readin_dim: int = Field(8, gt=0, description="width of the shared features (App. D.3)")
    readin_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the read-in's hidden units left out of a training step (App. D.3:"
        " .6 for motor)",
    )
    embedding_hidden: int = Field(
        16, gt=0, description="hidden units of the embedding encoder (App. D.3)"
    )
    latent_hidden: int = Field(
        64, gt=0, description="hidden units of the latent encoder, a direction (App. D.3)"
    )
    pooling: Literal["trial", "mean", "product"] = Field(
        "mean",
        description="q(e) per trial, or one a session: mean over trials, or product, which "
        "sharpens with their number",
    )

    @field_validator("changed_layers")
    @classmethod
    def _layers_of_the_flow(
        cls, layers: tuple[str, ...] | None, given: Any
    ) -> tuple[str, ...] | None:
        flow = given.data.get("dynamics", "mlp")
        known = FLOWS[flow][1]
        unknown = [name for name in layers or () if name not in known]
        if unknown:
            raise ValueError(
                f"no layers of {flow}: {', '.join(unknown)}; it has {', '.join(known)}"
            )
        return layers

    @field_validator("residual")
    @classmethod
    def _network_to_add_to(cls, residual: bool, given: Any) -> bool:
        if residual and given.data.get("dynamics") != "mlp":
            raise ValueError("only the dynamics mlp can be residual")
        return residual


class TrainingConfig(_Section):
    """How a model is fitted: a warm start from data, pre-training of it, then the ELBO."""

    section = "training"

    warm_start: bool = Field(
        True,
        description="start from the data; without it at random, as the paper does, and with "
        "nothing to pretrain",
    )
    pretrain_steps: int = Field(
        200,
        ge=0,
        validate_default=True,
        description="steps that teach encoder and dynamics the smoothed latents of the warm start",
    )
    pretrain_inits: int = Field(
        1,
        gt=0,
        description="random initial networks to pretrain, of which that with the best "
        "validation forecasts goes on",
    )
    steps: int = Field(1200, ge=0, description="steps on the ELBO")
    optimiser: Literal["adam", "lamb"] = Field(
        "adam", description="AdamW, or LAMB (App. D.1: motor recordings)"
    )
    learning_rate: float = Field(0.005, gt=0, description="peak of the cosine schedule (App. D.3)")
    weight_decay: float = Field(
        0.001, ge=0, description="not applied to readout, noise and prior (App. D.3)"
    )
    clip: float = Field(1.0, gt=0, description="bound on the gradient norm")
    trials_per_session: int = Field(
        8, gt=0, description="trials drawn from each session a step (App. D.3)"
    )
    sessions_per_step: int | None = Field(
        None,
        gt=0,
        description="sessions drawn at random for a step (App. D.3: 20 of motor recordings); "
        "default: all of them",
    )
    crop_bins: tuple[int, int] | None = Field(
        None, description="range of random crop lengths; default: whole windows up to 150 bins"
    )
    tail_bins: int | None = Field(
        None,
        ge=0,
        description="bins at a crop's end hidden from the encoder and forecast; default: none "
        "in half of the steps, "
        "else a random number up to two thirds of the window; with crop_bins a fifth of the "
        "shortest crop",
    )
    masking: float = Field(
        0.2, ge=0, lt=1, description="share of bins whose latent comes from the dynamics (App. D.1)"
    )
    masked: Literal["mean", "sample"] = Field(
        "mean",
        description="what these bins get: the dynamics' mean (the authors' code) or a sample "
        "(App. D.1)",
    )
    mask_scope: Literal["trial", "session"] = Field(
        "trial",
        description="a mask for each trial, or one for a session's trials (the authors' code)",
    )
    masked_kl: bool = Field(
        False, description="KL terms of masked bins too, which pull q(z) there to the dynamics"
    )
    multi_step: float = Field(
        0.0,
        ge=0,
        description="weight of a loss on rollouts of up to 15 bins against later posterior "
        "means; not in the paper",
    )
    coordinated_dropout: float = Field(
        0.5, ge=0, lt=1, description="share of entries hidden from the encoder and scored alone"
    )
    kl_weight: float = Field(
        0.1,
        gt=0,
        description="weight of the KL terms at the end of the ramp; 1 is the ELBO, and flattens"
        " sparse recordings",
    )
    kl_ramp: int = Field(500, ge=0, description="steps until the KL terms have their full weight")
    process_noise: float = Field(
        0.002,
        gt=0,
        description="first variance of the process noise; small, so that the embedding takes off",
    )
    posterior_log_var: float = Field(-4.0, description="first log variance of q(z)")
    weight_change_penalty: float = Field(
        1e-4, ge=0, description="weight of the Frobenius norm of the change of the dynamics"
    )
    smoothing_bins: float = Field(
        5.0, gt=0, description="SD of the smoothing that the warm start sees [bins]"
    )
    validation_fraction: float = Field(
        0.15, ge=0, lt=1, description="share of each session's trials that choose the checkpoint"
    )
    test_fraction: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="share of each session's trials kept aside for `score`, which nothing sees;"
        " of 20 trials or more",
    )
    validate_every: int = Field(50, gt=0, description="steps between validations and checkpoints")
    seed: int = Field(0, ge=0, description="seed of every random number of the run")

    @field_validator("pretrain_steps")
    @classmethod
    def _something_to_pretrain(cls, steps: int, given: Any) -> int:
        if steps and not given.data.get("warm_start", True):
            raise ValueError(
                "without warm_start there is nothing to pretrain; pretrain_steps = 0 goes with it"
            )
        return steps


class AlignConfig(_Section):
    """How a new session is aligned: an analytic start, then its own read-in, likelihood and process
    noise on the ELBO."""

    section = "align"

    steps: int | None = Field(
        None,
        ge=0,
        description="steps on the ELBO; default: chosen on validation trials among 0 and max_steps",
    )
    max_steps: int = Field(250, gt=0, description="longest run that is tried")
    learning_rate: float = Field(0.005, gt=0, description="peak of the cosine schedule")
    test_fraction: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="share of the trials kept aside for `score`, which nothing sees; of 20 "
        "trials or more, "
        "and not where `trials` says how many are used",
    )
    seed: int = Field(0, ge=0, description="seed of every random number of the run")


class Config(_Section):
    """Everything that a run was asked to do; one TOML file with a table for each section."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    align: AlignConfig = AlignConfig()


SECTIONS: dict[str, type[_Section]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "align": AlignConfig,
}


def load_config(
    path: str | Path | None = None, *, base: dict | None = None, **sections: dict[str, Any]
) -> Config:
    """The configuration of a TOML file, over `base` (a preset), under what is given here (a flag
    left out is None).

    Parameters
    ----------
    path : TOML file with tables [data], [model], [training], [align]; None for the defaults.
    base : values that lie under the file's, e.g. {"data": {"align": "move_onset_time"}}; a preset
        of the paper, named by data.preset, lies under all of them.
    sections : values that lie over the file's, e.g. `data={"bin_width": 0.01}`; None keeps what is
        there.

    Raises
    ------
    ConfigError : a key is unknown (the nearest right one is named), a value out of range, or the
        file no TOML.
    """
    given = [
        base or {},
        _read_toml(path) if path else {},
        {name: _present(values) for name, values in sections.items()},
    ]
    merged = _merge(given)
    return check_config(_merge([_paper_preset(merged), merged]), file=path)


def check_config(values: dict, *, file: str | Path | None = None) -> Config:
    """A `Config` of plain values, e.g. those stored with a model; `file` is named in the error."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _explain(error.errors()[0], file) from None


def dump_config(config: Config) -> str:
    """The configuration as TOML, loadable by `load_config`; what is None stays absent."""
    import tomli_w

    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))


def _read_toml(path: str | Path) -> dict:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            "the configuration cannot be read",
            file=path,
            found=error,
            remedy="a TOML file as `config`",
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("the configuration is not TOML", file=path, found=error) from None


def _paper_preset(values: dict) -> dict:
    """The sections [model] and [training] of the preset that `values` name; {} without any."""
    data = values.get("data")
    name = data.get("preset") if isinstance(data, dict) else None
    return dict(PRESETS[name].sections) if isinstance(name, str) and name in PRESETS else {}


def _present(values: dict) -> dict:
    return {key: value for key, value in values.items() if value is not None}


def _merge(layers: list[dict]) -> dict:
    """Later layers win, key by key within a section, whichever words they are written in."""
    merged: dict = {}
    for layer in layers:
        for name, values in layer.items():
            below = merged.get(name, {})
            if isinstance(below, dict):  # what is no table stays, to be refused by its name
                table = isinstance(values, dict)
                merged[name] = {**below, **modern(name, values)} if table else values
    return merged


def _explain(error: Mapping[str, Any], file: str | Path | None) -> ConfigError:
    item = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return ConfigError(
            f"unknown configuration key {item!r}", file=file, remedy=_nearest(error["loc"])
        )
    return ConfigError(
        "a configuration value cannot be used",
        file=file,
        item=item,
        found=f"{error['input']!r}: {error['msg']}",
    )


def _nearest(location: tuple) -> str:
    """The right key nearest to an unknown one: in its own section first, then anywhere."""
    *section, name = map(str, location)
    own = _keys(section[0]) if section and section[0] in SECTIONS else list(SECTIONS)
    anywhere = [key for each in SECTIONS for key in _keys(each)]
    for keys in (own, anywhere):
        close = difflib.get_close_matches(name, [key.rpartition(".")[2] for key in keys], n=1)
        if close:
            return next(key for key in keys if key.rpartition(".")[2] == close[0])
    return f"one of {', '.join(own)}"


def _keys(section: str) -> list[str]:
    return [f"{section}.{name}" for name in SECTIONS[section].model_fields]
