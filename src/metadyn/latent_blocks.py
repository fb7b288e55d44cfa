"""Labels of the latent axis: blocks of latents that mean something together, such as those of a
region of the brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

DEFAULT_NAME = "latent"


@dataclass(frozen=True)
class LatentBlocks:
    """Consecutive latents by the name of their block; a model without regions has one block.

    names (block,), all different; sizes (block,): how many latents each has, at least one. Raises
    ValueError for any others.

    >>> blocks = LatentBlocks(("M1", "PMd"), (2, 1))
    >>> blocks.labels.tolist()
    ['M1 0', 'M1 1', 'PMd 0']
    >>> blocks.slice_of("PMd")
    slice(2, 3, None)
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.sizes):
            raise ValueError(f"as many sizes as names, not {self.sizes} and {self.names}")
        if len(set(self.names)) < len(self.names) or "" in self.names:
            raise ValueError(f"each block has a name of its own, not {self.names}")
        if min(self.sizes) < 1:
            raise ValueError(f"each block has at least one latent, not {self.sizes}")

    @staticmethod
    def single(size: int) -> LatentBlocks:
        """All latents in one block."""
        return LatentBlocks((DEFAULT_NAME,), (size,))

    @property
    def labels(self) -> Shaped[np.ndarray, " latent"]:
        """Of each latent: its number, or with several blocks the block and its number there."""
        if len(self.names) == 1:
            return np.arange(self.sizes[0])
        pairs = zip(self.names, self.sizes, strict=True)
        return np.array([f"{name} {number}" for name, size in pairs for number in range(size)])

    def slice_of(self, name: str) -> slice:
        """Where a block's latents stand on the axis; ValueError where there is no such block."""
        block = self.names.index(name)
        first = sum(self.sizes[:block])
        return slice(first, first + self.sizes[block])
