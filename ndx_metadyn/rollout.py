"""The stored generative model in numpy: embedding -> changed dynamics -> latents -> firing rates,
without torch.

    z_t = f(z_{t-1}; e) (+ noise of variance Q of the session)                  Vermani et al.,
    arXiv 2410.05454, section 3.1
    f(z) = W_o tanh((W_h + U_h V_h') tanh((W_i + U_i V_i') z + b_i) + b_h) + b_o,   U, V =
    hypernetwork(e)  (low_rank)
    changed_layers: which of W_i, W_h, W_o low_rank changes;  residual: z + that
    linear: the changes of W_i and W_h are linear in e;  input: W_e e joins b_i;  shared: no change
    rate = link(C z + d) / bin_width (Poisson; exp or softplus), (C z + d) / bin_width (Gaussian)
    shared_noise: one Q for all sessions

Float64 throughout; axes: session trial time unit latent embedding rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ndx_metadyn.weights import WeightsError, build, register_architecture

ARCHITECTURE, FORMAT = "MetaSSM", 1
CONDITIONINGS = ("low_rank", "linear", "input", "shared")
DIRECTIONS = ("directions_in", "directions_hidden")
LAYERS = ("input", "hidden", "output")
LINKS = {"exp": np.exp, "softplus": lambda drive: np.logaddexp(0, drive)}
OPTIONS = {
    "changed_layers": ["input", "hidden"],
    "residual": False,
    "link": "exp",
    "shared_noise": False,
}  # of older files


@dataclass(frozen=True)
class LowRank:
    """U and V of one weight, (trial, dim, rank) each: W x becomes W x + U (V' x), and U V' is never
    formed."""

    u: np.ndarray
    v: np.ndarray

    def __call__(self, x):
        return np.einsum("tor,tr->to", self.u, np.einsum("tir,ti->tr", self.v, x))


@dataclass(frozen=True)
class Dense:
    """A change of one weight, (trial, out, in): W x becomes W x + change x."""

    weight: np.ndarray

    def __call__(self, x):
        return np.einsum("toi,ti->to", self.weight, x)


@dataclass(frozen=True)
class MetaSSM:
    """The generative part of a stored model: its settings, and its tensors by name in float64."""

    model: dict
    sessions: tuple[dict, ...]
    bin_width: float
    tensors: dict[str, np.ndarray]

    def row(self, input_key: str) -> int:
        """Position of a session among those the model knows; raises WeightsError, listing them."""
        keys = [session["key"] for session in self.sessions]
        if input_key not in keys:
            raise WeightsError(
                "the model knows no such session",
                found=repr(input_key),
                expected=f"one of {', '.join(map(repr, keys))}",
                remedy="align the model to the session, or give one of these as input_key",
            )
        return keys.index(input_key)

    def changes(self, embedding) -> tuple:
        """What the embedding (trial, embedding) adds to the layers' outputs, in the order of
        LAYERS."""
        conditioning = self.model["conditioning"]
        if conditioning == "shared":
            return _nothing, _nothing, _nothing
        if conditioning == "input":
            shift = embedding @ self._of("weight_embedding").T
            return (lambda z: shift), _nothing, _nothing
        if conditioning == "linear":
            return *[
                Dense(np.einsum("te,eoi->toi", embedding, self._of(name))) for name in DIRECTIONS
            ], _nothing
        x = embedding
        for layer in (0, 2):
            x = np.tanh(x @ self._of(f"hyper.{layer}.weight").T + self._of(f"hyper.{layer}.bias"))
        x = x @ self._of("hyper.4.weight").T + self._of("hyper.4.bias")
        factors = [
            self._factor(flat) for flat in np.split(x, np.cumsum(_sizes(self.model))[:-1], axis=1)
        ]
        changed = dict(
            zip(_changed(self.model), map(LowRank, factors[::2], factors[1::2]), strict=True)
        )
        return tuple(changed.get(layer, _nothing) for layer in LAYERS)

    def step(self, z, changes):
        """f(z; e) for z (trial, latent)."""
        change_in, change_hidden, change_out = changes
        x = np.tanh(z @ self._of("weight_in").T + change_in(z) + self._of("bias_in"))
        x = np.tanh(x @ self._of("weight_hidden").T + change_hidden(x) + self._of("bias_hidden"))
        out = x @ self._of("weight_out").T + change_out(x) + self._of("bias_out")
        return z + out if self.model["residual"] else out

    def noise_sd(self, row: int) -> np.ndarray:
        """SD of the process noise of a session's forecasts, (latent,)."""
        scale = float(self.sessions[row].get("noise_scale", 1.0))
        return scale * np.exp(0.5 * self.tensors["log_q"][0 if self.model["shared_noise"] else row])

    def rates(self, z, row: int) -> np.ndarray:
        """Firing rates [Hz] (..., unit) of latents (..., latent)."""
        n_units = self.sessions[row]["n_units"]
        drive = (
            z @ self.tensors["likelihood.weight"][row, :n_units].T
            + self.tensors["likelihood.bias"][row, :n_units]
        )
        return (
            LINKS[self.model["link"]](drive) if self.model["likelihood"] == "poisson" else drive
        ) / self.bin_width

    def _of(self, name):
        return self.tensors[f"dynamics.{name}"]

    def _factor(self, flat):
        return flat.reshape(len(flat), -1, self.model["rank"])


def _nothing(x):
    return 0.0


def _sizes(model: dict) -> list[int]:
    """Lengths of u and v of each changed layer in the hypernetwork's output."""
    (h1, h2), latent = model["hidden"], model["latent_dim"]
    dims = {"input": (h1, latent), "hidden": (h2, h1), "output": (latent, h2)}
    return [dim * model["rank"] for layer in _changed(model) for dim in dims[layer]]


def _changed(model: dict) -> list[str]:
    return [layer for layer in LAYERS if layer in model["changed_layers"]]


def expected_shapes(model: dict, n_sessions: int, n_units: int) -> dict[str, tuple]:
    """Shape of every tensor of the generative part; options that `model` lacks are those of older
    files."""
    model = OPTIONS | model
    (h1, h2), latent = model["hidden"], model["latent_dim"]
    shapes = {
        "dynamics.weight_in": (h1, latent),
        "dynamics.bias_in": (h1,),
        "dynamics.weight_hidden": (h2, h1),
        "dynamics.bias_hidden": (h2,),
        "dynamics.weight_out": (latent, h2),
        "dynamics.bias_out": (latent,),
        "initial.mean": (latent,),
        "initial.log_var": (latent,),
        "log_q": (1 if model["shared_noise"] else n_sessions, latent),
        "likelihood.weight": (n_sessions, n_units, latent),
        "likelihood.bias": (n_sessions, n_units),
    }
    if model["likelihood"] == "gaussian":
        shapes["likelihood.log_var"] = (n_sessions, n_units)
    if model["conditioning"] == "low_rank":
        g, e, n = model["hyper_hidden"], model["embedding_dim"], sum(_sizes(model))
        for layer, (out, into) in {0: (g, e), 2: (g, g), 4: (n, g)}.items():
            shapes |= {
                f"dynamics.hyper.{layer}.weight": (out, into),
                f"dynamics.hyper.{layer}.bias": (out,),
            }
    if model["conditioning"] == "linear":
        shapes["dynamics.directions_in"] = (model["embedding_dim"], h1, latent)
        shapes["dynamics.directions_hidden"] = (model["embedding_dim"], h2, h1)
    if model["conditioning"] == "input":
        shapes["dynamics.weight_embedding"] = (h1, model["embedding_dim"])
    return shapes


@register_architecture(ARCHITECTURE)
def meta_ssm(config: dict, tensors: dict[str, np.ndarray]) -> MetaSSM:
    """Check settings and tensors against each other, then join them. Raises WeightsError."""
    model, sessions, bin_width = _check_config(config)
    shapes = expected_shapes(model, len(sessions), max(session["n_units"] for session in sessions))
    for name, shape in shapes.items():
        found = tensors[name].shape if name in tensors else "no such tensor"
        if found != shape:
            raise WeightsError(
                f"tensor {name!r} does not fit the model config", found=found, expected=shape
            )
    return MetaSSM(
        model, sessions, bin_width, {name: np.asarray(tensors[name], np.float64) for name in shapes}
    )


def _check_config(config: dict) -> tuple[dict, tuple[dict, ...], float]:
    if config.get("format") != FORMAT:
        raise WeightsError(
            "model config of an unknown format", found=config.get("format"), expected=FORMAT
        )
    try:
        model, sessions, bin_width = (
            OPTIONS | dict(config["model"]),
            tuple(config["sessions"]),
            float(config["bin_width"]),
        )
        scales = [float(session.get("noise_scale", 1.0)) for session in sessions]
        sizes = [
            model[name] for name in ("latent_dim", "embedding_dim", "rank", "hyper_hidden")
        ] + list(model["hidden"])
        sizes += [session["n_units"] for session in sessions]
        words = (
            model["conditioning"],
            model["likelihood"],
            *(session["key"] for session in sessions),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise WeightsError(
            "the model config lacks a setting, or it is of the wrong kind",
            found=f"{type(error).__name__}: {error}",
        ) from None
    _check_choice("conditioning", words[0], CONDITIONINGS)
    _check_choice("likelihood", words[1], ("poisson", "gaussian"))
    _check_options(model)
    if (
        not sessions
        or len(model["hidden"]) != 2
        or not 0 < bin_width < np.inf
        or not all(type(size) is int and size > 0 for size in sizes)
    ):
        raise WeightsError(
            "the model config has a size that is no positive integer, or no session",
            found=f"{sizes}, {bin_width} s",
        )
    if not all(0 < scale < np.inf for scale in scales):
        raise WeightsError(
            "model config: noise_scale is no size", found=repr(scales), expected="numbers above 0"
        )
    return model, sessions, bin_width


def _check_options(model: dict) -> None:
    _check_choice("link", model["link"], tuple(LINKS))
    for name in ("residual", "shared_noise"):
        if type(model[name]) is not bool:
            raise WeightsError(f"model config: {name} is no truth value", found=repr(model[name]))
    layers = model["changed_layers"]
    if type(layers) is not list or not layers or not all(layer in LAYERS for layer in layers):
        raise WeightsError(
            "model config: unknown changed_layers",
            found=repr(layers),
            expected=f"some of {', '.join(LAYERS)}",
        )


def _check_choice(name, value, choices):
    if value not in choices:
        raise WeightsError(
            f"model config: unknown {name}", found=repr(value), expected=" or ".join(choices)
        )


def rollout(
    model, embedding, latent, n_steps: int, input_key: str, rng: np.random.Generator | None = None
):
    """Run a stored model forward from the state at the last context bin; the first output is one
    step ahead.

    Parameters
    ----------
    model : LatentDynamicsModel with weights and config. embedding : (embedding,) or (trial,
    embedding); None with the `shared` conditioning, which has none. latent : (latent,) or (trial,
    latent), the state at the last context bin. n_steps : number of bins ahead. input_key : the
    session whose likelihood and process noise to use. rng : None for the mean (noise-free) rollout,
    else the source of one noisy path a trial.

    Returns
    -------
    xarray.Dataset : latents (trial, time, latent), rates (trial, time, unit) [Hz], time in seconds
    after the last context bin.

    Raises
    ------
    WeightsError : damaged or unknown model, or a session it does not know (lists those it does).
    ValueError : embedding or latent of the wrong shape.
    """
    ssm = build(model.architecture, model.settings(), model.tensors())
    row = ssm.row(input_key)
    z, changes = _start(ssm, embedding, latent)
    latents = np.empty((len(z), n_steps, z.shape[1]))
    noise = (
        np.zeros(latents.shape)
        if rng is None
        else rng.standard_normal(latents.shape) * ssm.noise_sd(row)
    )
    for t in range(n_steps):
        z = latents[:, t] = ssm.step(z, changes) + noise[:, t]
    return _dataset(latents, ssm.rates(latents, row), ssm.bin_width)


def _start(ssm: MetaSSM, embedding, latent):
    """States (trial, latent), and what the embeddings change, for as many trials as the longer of
    the two has."""
    latent = _rows(latent, ssm.model["latent_dim"], "latent")
    if ssm.model["conditioning"] == "shared":
        return latent, ssm.changes(None)
    embedding = _rows(embedding, ssm.model["embedding_dim"], "embedding")
    if 1 not in (len(latent), len(embedding)) and len(latent) != len(embedding):
        raise ValueError(
            f"latent has {len(latent)} trials and embedding {len(embedding)}; give as many of each, or one"
        )
    n_trials = max(len(latent), len(embedding))
    latent = np.broadcast_to(latent, (n_trials, latent.shape[1]))
    return latent, ssm.changes(np.broadcast_to(embedding, (n_trials, embedding.shape[1])))


def _rows(values, size: int, name: str) -> np.ndarray:
    """Values as finite float64 (trial, size)."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != size or not np.isfinite(rows).all():
        raise ValueError(
            f"{name} must be finite and ({size},) or (trial, {size}); found shape {np.shape(values)}"
        )
    return rows


def _dataset(latents, rates, bin_width):
    import xarray as xr

    ahead = np.arange(1, latents.shape[1] + 1) * bin_width
    return xr.Dataset(
        {
            "latents": (
                ("trial", "time", "latent"),
                latents,
                {"units": "a.u.", "long_name": "latent state"},
            ),
            "rates": (
                ("trial", "time", "unit"),
                rates,
                {"units": "Hz", "long_name": "firing rate"},
            ),
        },
        coords={
            "time": ("time", ahead, {"units": "s", "long_name": "time after the last context bin"})
        },
    )
