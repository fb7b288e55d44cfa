"""The optimisers: Adam or LAMB with decoupled weight decay.

Readout, noise, priors and biases are spared from decay, as their modules declare
(`metadyn.model.ops.per_session`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from metadyn.model.ops.per_session import Declaration

# Hyperparameters of some parameters, with them, as torch's optimisers have it
Group = dict[str, Any]


class Lamb(torch.optim.Optimizer):
    """LAMB (You et al., ICLR 2020, algorithm 2): Adam's step, scaled for each layer by the norm of
    its weights.

    A group's `layers` say what a layer is: "one" each parameter, "stacked" each row of a parameter;
    with "none" the step is Adam's own.
    """

    def __init__(
        self,
        groups: list[Group],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
    ) -> None:
        """betas: of the running means of gradients and of their squares. eps: added to the root of
        the latter."""
        super().__init__(
            groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "layers": "one"}
        )

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nobody gives a closure
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: Group) -> None:
        """Move a parameter in place."""
        lamb_step(parameter, gradient, self._state(parameter), group)

    def _state(self, parameter: nn.Parameter, counted: tuple[int, ...] = ()) -> dict[str, Tensor]:
        """The moments of a parameter, and its number of steps, of shape `counted`: () or (row,)."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(counted, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


class LambOfRows(Lamb):
    """AdamW or LAMB where a step may have gradients of some rows alone, of parameters in groups of
    `by_rows`.

    A row that has no gradient is neither decayed nor moved, and each row's moments are corrected
    for its own number of steps.
    """

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: Group) -> None:
        """Move a parameter, or those of its rows that have a gradient, in place."""
        if not group["by_rows"]:
            super()._move(parameter, gradient, group)
            return
        state = self._state(parameter, (len(parameter),))
        if not gradient.is_sparse:
            lamb_step(parameter, gradient, state, group)
            return
        gradient = gradient.coalesce()
        rows = gradient.indices()[0]
        # Copies of these rows are moved, and written back
        weight = parameter[rows]
        part = {key: value[rows] for key, value in state.items()}
        lamb_step(weight, gradient.values(), part, group)
        parameter[rows] = weight
        for key, value in part.items():
            state[key][rows] = value


def lamb_step(
    weight: Float[Tensor, "*shape"],
    gradient: Float[Tensor, "*shape"],
    state: dict[str, Tensor],
    group: Group,
) -> None:
    """A step of LAMB, in place; state["step"] counts the steps of the weight, or of each row."""
    state["step"] += 1
    first, second = corrections(state, group)
    state["exp_avg"].lerp_(gradient, 1 - group["betas"][0])
    state["exp_avg_sq"].lerp_(gradient**2, 1 - group["betas"][1])
    scale = (state["exp_avg_sq"] / second).sqrt() + group["eps"]
    update = state["exp_avg"] / first / scale
    update = update + group["weight_decay"] * weight
    weight -= group["lr"] * trust_ratio(weight, update, group["layers"]) * update


def corrections(state: dict[str, Tensor], group: Group) -> list[Tensor]:
    """1 − β^steps of both moments, which they are divided by: of the weight, or of each row.

    Computed in double precision.
    """
    steps = state["step"].double()
    dims = state["exp_avg"].ndim - steps.ndim
    steps = steps.view(*steps.shape, *[1] * dims)  # () or (row, 1, …)
    return [(1 - beta**steps).to(state["exp_avg"].dtype) for beta in group["betas"]]


def trust_ratio(
    weight: Float[Tensor, "*shape"], update: Float[Tensor, "*shape"], layers: str
) -> Tensor | float:
    """‖weight‖ / ‖update‖ of each layer; 1 where either is zero."""
    if layers == "none":
        return 1.0
    dims = tuple(range(1 if layers == "stacked" else 0, weight.ndim))
    weights = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    updates = torch.linalg.vector_norm(update, dim=dims, keepdim=True)
    return torch.where((weights > 0) & (updates > 0), weights / updates, 1.0)


def layers_of(declared: Declaration) -> str:
    """Which part of a parameter is a layer of LAMB: none, each row, or all of it."""
    if not declared.decayed:
        return "none"
    return "stacked" if declared.per_session else "one"


def make_groups(
    parameters: dict[str, nn.Parameter],
    weight_decay: float,
    declared: Mapping[str, Declaration],
    by_rows: bool,
) -> list[Group]:
    """Parameters by what counts as a layer of them, and by whether their rows move alone."""
    groups: dict[tuple[str, bool], Group] = {}
    for layers in ("none", "one", "stacked"):
        for rows in (False, True):
            decay = 0.0 if layers == "none" else weight_decay
            groups[layers, rows] = {
                "params": [],
                "weight_decay": decay,
                "layers": layers,
                "by_rows": rows,
            }
    for name, parameter in parameters.items():
        known = declared.get(name, Declaration())
        groups[layers_of(known), by_rows and known.per_session]["params"].append(parameter)
    return [each for each in groups.values() if each["params"]]


def make_optimiser(
    parameters: dict[str, nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    kind: str = "adam",
    declared: Mapping[str, Declaration] = MappingProxyType({}),
    *,
    by_rows: bool = False,
) -> torch.optim.Optimizer:
    """AdamW or LAMB over named parameters; those spared from decay have Adam's step, as in LAMB's
    own experiments.

    kind: "adam" or "lamb". declared: how each parameter is treated, by its name
    (`metadyn.model.ops.per_session`). by_rows: a step may move some of a parameter's sessions.
    """
    groups = make_groups(parameters, weight_decay, declared, by_rows)
    if not by_rows and kind == "adam":
        # On a GPU all of its state is there, which a CUDA graph needs
        on_gpu = groups[0]["params"][0].is_cuda
        return torch.optim.AdamW(groups, lr=learning_rate, capturable=on_gpu)
    if not by_rows:
        return Lamb(groups, lr=learning_rate)
    if kind == "lamb":
        return LambOfRows(groups, lr=learning_rate)
    # LAMB without its ratio is AdamW
    groups = [{**each, "layers": "none"} for each in groups]
    return LambOfRows(groups, lr=learning_rate, eps=1e-8)


def optimiser_state(
    optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Copies of the optimiser's tensors, named PARAMETER|KEY."""
    return {
        f"{name}|{key}": value.clone()
        for name, parameter in parameters.items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], state: dict[str, Tensor]
) -> None:
    """Put copies of tensors named as by `optimiser_state` into an optimiser."""
    for full, value in state.items():
        name, _, key = full.partition("|")
        parameter = parameters[name]
        optimiser.state[parameter][key] = value.to(parameter.device, copy=True)
