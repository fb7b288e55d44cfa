"""The optimiser: Adam with decoupled weight decay, which spares readout, noise and priors (recipe.md, "Recipe P")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SPARED = ("likelihood.", "log_q", "initial.", "bias")


def make_optimiser(parameters: dict[str, nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over named parameters."""
    spared = {name: any(part in name for part in SPARED) for name in parameters}
    groups = [
        {"params": [parameters[name] for name in parameters if spared[name] is spare], "weight_decay": decay}
        for spare, decay in ((False, weight_decay), (True, 0.0))
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate)


def optimiser_state(optimiser: torch.optim.AdamW, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimiser's tensors by parameter name."""
    return {
        f"{name}|{key}": value.clone()
        for name, parameter in parameters.items()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(optimiser: torch.optim.AdamW, parameters: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    """The inverse of `optimiser_state`."""
    for name, parameter in parameters.items():
        own = {key.split("|")[1]: value.clone() for key, value in state.items() if key.startswith(f"{name}|")}
        if own:
            optimiser.state[parameter] = own
