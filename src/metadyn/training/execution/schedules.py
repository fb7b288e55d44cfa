"""How learning rate and KL weight change over the steps of a stage."""

import math


def cosine(step: int, steps: int) -> float:
    """From 1 at the first step to 0 after the last (App. D.1).

    >>> [round(cosine(step, 4), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))


def ramp(step: int, length: int) -> float:
    """Up to 1 in equal steps over the first `length` steps, then 1.

    >>> [ramp(step, 4) for step in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / length) if length else 1.0
