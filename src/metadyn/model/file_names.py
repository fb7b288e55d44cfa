"""The names of tensors in a model file: those of version 0.1.0, from which nothing departs.

dynamics.flow.first.weight is dynamics.weight_in, dynamics.conditioning.hyper.0.bias is
dynamics.hyper.0.bias, and so on; what is not part of the dynamics has the module's own name.
"""

from __future__ import annotations

LAYERS = {"first": "in", "output": "out"}  # layers of `mlp` in the names of their tensors


def name_in_file(name: str) -> str:
    """The name in a file of the tensor that the module calls `name`.

    >>> name_in_file("dynamics.flow.first.weight")
    'dynamics.weight_in'
    """
    match name.split("."):
        case ["dynamics", "flow", layer, kind]:
            return f"dynamics.{kind}_{LAYERS.get(layer, layer)}"
        case ["dynamics", "conditioning", "directions", layer]:
            return f"dynamics.directions_{LAYERS.get(layer, layer)}"
        case ["dynamics", "flow" | "conditioning", *rest]:
            return ".".join(["dynamics", *rest])
    return name
