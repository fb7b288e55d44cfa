"""How learning rate and KL weight change over the steps of a run."""

import math


def cosine(step: int, steps: int) -> float:
    """From 1 at the first step to 0 behind the last (App. D.1)."""
    return 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))


def ramp(step: int, length: int) -> float:
    """From 0 to 1 over `length` steps, then 1."""
    return min(1.0, (step + 1) / length) if length else 1.0
