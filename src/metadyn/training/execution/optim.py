"""The optimisers: Adam or LAMB with decoupled weight decay, which spares readout, noise and priors
(recipe.md, "Recipe P")."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from metadyn.model.ops.per_session import Declaration


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al., ICLR 2020, algorithm 2): each layer goes Adam's way by a step in proportion
    to its weights' norm.

    Parameters of a group with `layers` "none" go Adam's way as it is, "one" are a layer each,
    "stacked" as many as rows.
    """

    def __init__(
        self,
        groups: list[dict],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
    ):
        super().__init__(
            groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "layers": "one"}
        )

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: nn.Parameter, group: dict) -> None:
        move(parameter, parameter.grad, self._state(parameter), group)

    def _state(self, parameter: nn.Parameter, counted: tuple[int, ...] = ()) -> dict[str, Tensor]:
        """Moments, and the numbers of steps `counted`: one, or one a row."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(counted, device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = (
                torch.zeros_like(parameter),
                torch.zeros_like(parameter),
            )
        return state


def move(weight: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict) -> None:
    """A step of LAMB, in place; state["step"] counts the steps of the weight, or of each of its
    rows."""
    state["step"] += 1
    first, second = corrections(state, group)
    state["exp_avg"].lerp_(gradient, 1 - group["betas"][0])
    state["exp_avg_sq"].lerp_(gradient**2, 1 - group["betas"][1])
    update = state["exp_avg"] / first / ((state["exp_avg_sq"] / second).sqrt() + group["eps"])
    update = update + group["weight_decay"] * weight
    weight -= group["lr"] * trust_ratio(weight, update, group["layers"]) * update


def corrections(state: dict[str, Tensor], group: dict) -> list[Tensor]:
    """1 − β^steps of the weight, or of each of its rows, which the moments are divided by; computed
    in double precision."""
    steps = state["step"].double()
    steps = steps.view(*steps.shape, *[1] * (state["exp_avg"].ndim - steps.ndim))
    return [(1 - beta**steps).to(state["exp_avg"].dtype) for beta in group["betas"]]


class ByRows(Lamb):
    """AdamW or LAMB where a step may have gradients of some rows alone (`model.rows`), of
    parameters in groups of `by_rows`.

    A row that has no gradient is neither decayed nor moved, and each row's moments are corrected
    for its own number of steps.
    """

    def _move(self, parameter: nn.Parameter, group: dict) -> None:
        if not group["by_rows"]:
            return super()._move(parameter, group)
        state = self._state(parameter, (len(parameter),))
        if not parameter.grad.is_sparse:
            return move(parameter, parameter.grad, state, group)
        gradient = parameter.grad.coalesce()
        rows = gradient.indices()[0]
        weight, part = parameter[rows], {key: value[rows] for key, value in state.items()}
        move(weight, gradient.values(), part, group)
        parameter[rows] = weight
        for key, value in part.items():
            state[key][rows] = value


def trust_ratio(weight: Tensor, update: Tensor, layers: str) -> Tensor | float:
    """‖weight‖ / ‖update‖ of each layer; 1 where either is zero."""
    if layers == "none":
        return 1.0
    dims = tuple(range(1 if layers == "stacked" else 0, weight.ndim))
    norms = [
        torch.linalg.vector_norm(values, dim=dims, keepdim=True) for values in (weight, update)
    ]
    return torch.where((norms[0] > 0) & (norms[1] > 0), norms[0] / norms[1], 1.0)


def layers_of(declared: Declaration) -> str:
    """What counts as a layer of LAMB: nothing, each row, or all of the parameter."""
    if not declared.decayed:
        return "none"
    return "stacked" if declared.per_session else "one"


def make_optimiser(
    parameters: dict[str, nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    kind: str = "adam",
    declared: Mapping[str, Declaration] = MappingProxyType({}),
    *,
    by_rows: bool = False,
) -> torch.optim.Optimizer:
    """AdamW or LAMB over named parameters; what is spared from decay also keeps Adam's step, as in
    LAMB's own experiments.

    declared: how each is treated, by its name (`metadyn.model.ops.per_session`); by_rows: whether a
    step moves only some rows of those that have one for each session.
    """

    known = {name: declared.get(name, Declaration()) for name in parameters}

    def group(layers: str, rows: bool) -> dict:
        chosen = [
            name
            for name in parameters
            if layers_of(known[name]) == layers and (by_rows and known[name].per_session) == rows
        ]
        decay = 0.0 if layers == "none" else weight_decay
        return {
            "params": [parameters[name] for name in chosen],
            "weight_decay": decay,
            "layers": layers,
            "by_rows": rows,
        }

    groups = [
        group(layers, rows) for layers in ("none", "one", "stacked") for rows in (False, True)
    ]
    groups = [each for each in groups if each["params"]]
    if (
        not by_rows and kind == "adam"
    ):  # on a GPU with all of its state there, which a CUDA graph needs
        return torch.optim.AdamW(
            groups, lr=learning_rate, capturable=groups[0]["params"][0].is_cuda
        )
    if not by_rows:
        return Lamb(groups, lr=learning_rate)
    if kind == "lamb":
        return ByRows(groups, lr=learning_rate)
    return ByRows(
        [{**each, "layers": "none"} for each in groups], lr=learning_rate, eps=1e-8
    )  # LAMB without its ratio


def optimiser_state(
    optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimiser's tensors by parameter name."""
    return {
        f"{name}|{key}": value.clone()
        for name, parameter in parameters.items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], state: dict[str, Tensor]
) -> None:
    """The inverse of `optimiser_state`."""
    for name, parameter in parameters.items():
        own = {
            key.split("|")[1]: value.to(parameter.device, copy=True)
            for key, value in state.items()
            if key.startswith(f"{name}|")
        }
        if own:
            optimiser.state[parameter] = {
                key: value.to(parameter.device, copy=True) for key, value in own.items()
            }
