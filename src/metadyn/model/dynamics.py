"""p(z_t | z_{t-1}, e) = N(f(z_{t-1}; W(e)), Q): a flow with layers that e changes, and noise.

f: the flow (`flows`); W(e): its layers, changed by the conditioning (`conditioning`); Q: diagonal.
Section 3.1 of Vermani et al., arXiv:2410.05454, eqs. 9 and 11-14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from metadyn.model.conditioning.base import Change, Conditioning, Unchanged
from metadyn.model.flows.base import ChangedLayer, Flow
from metadyn.model.gaussian import Gaussian

# The bin of its window that each state goes to, (session, trial, point), or a slice of bins
BinIndex = Int[Tensor, "session trial point"] | slice | None


@dataclass(frozen=True)
class Transition:
    """The dynamics of some embeddings: z_{t-1} → N(f(z_{t-1}), diag exp(log_q)).

    changes : what the embeddings change, by layer.
    one_per_session : all trials of a session have one embedding, and their states go through the
    layers together.
    inputs : u of each bin, which drives the flow; None where nothing does, and no bin is looked up.
    """

    flow: Flow
    changes: Mapping[str, Change]
    log_q: Float[Tensor, "session 1 1 latent"]
    one_per_session: bool = False
    inputs: Float[Tensor, "session trial time input"] | None = None

    @cached_property
    def layers(self) -> dict[str, ChangedLayer]:
        """The layers of the flow, changed."""
        return {
            name: self.changes.get(name, Unchanged()).layer(each.weight, each.bias)
            for name, each in self.flow.maps.items()
        }

    def mean(
        self, z: Float[Tensor, "session trial point latent"], bins: BinIndex = None
    ) -> Float[Tensor, "session trial point latent"]:
        """E z_t of states z_{t-1}, which may be of any bins of a trial, in any order.

        bins : t of each state, by which inputs are looked up.
        """
        # Inputs are looked up before trials stand in one row: bins are those of a trial.
        given = [z] if self.inputs is None else [z, values_at(self.inputs, bins)]
        if self.one_per_session:
            given = [each.flatten(1, 2)[:, None] for each in given]  # (session, 1, point, …)
        points, *inputs = given
        return self.flow(points, self.layers, *inputs).view(z.shape)

    def __call__(
        self, z: Float[Tensor, "session trial point latent"], bins: BinIndex = None
    ) -> Gaussian:
        """p(z_t | z_{t-1}) of states z_{t-1}, each its own point."""
        mean = self.mean(z, bins)
        return Gaussian(mean, self.log_q.expand_as(mean))

    def rollout(
        self,
        z: Float[Tensor, "session trial latent"],
        steps: int,
        generator: torch.Generator | None = None,
        first: int = 0,
    ) -> Float[Tensor, "session trial time latent"]:
        """The states after z, in bins `first`, `first` + 1, …: as many as `steps`.

        generator : None for the mean path; else a noisy path, with numbers from it.
        """
        state = z[:, :, None]  # (session, trial, 1, latent)
        path = []
        for number in range(first, first + steps):
            bins = slice(number, number + 1)
            if generator is None:
                state = self.mean(state, bins)
            else:
                state = self(state, bins).sample(generator)
            path.append(state)
        return torch.cat(path, 2)

    def end_to_end(self) -> Transition:
        """The same for states of a session's trials one after the other, (session, 1, point, …).

        Bin t of trial n is there bin n · time + t.
        """
        if self.inputs is None:
            return self
        return replace(self, inputs=self.inputs.flatten(1, 2)[:, None])

    def with_noise_scale(self, factor: float) -> Transition:
        """The same dynamics with process noise of `factor` times the SD."""
        return replace(self, log_q=self.log_q + 2 * log(factor))

    def weight_change(self) -> Tensor:
        """‖ΔW‖_F of all layers together: the penalty of appendix D.1.

        One for each embedding, (session, trial or 1), or a single 0 where no weight is changed.
        """
        norms = [change.squared_norm() for change in self.changes.values()]
        known = [each for each in norms if each is not None]
        if not known:  # the shared dynamics, or an embedding that shifts biases alone
            return self.log_q.new_zeros(())
        # The root of 0 has no gradient.
        return (sum(known[1:], known[0]) + 1e-12).sqrt()


class Dynamics(nn.Module):
    """A flow, which all sessions share, and how an embedding changes its layers."""

    def __init__(self, flow: Flow, conditioning: Conditioning) -> None:
        super().__init__()
        self.flow = flow
        self.conditioning = conditioning

    @property
    def embedded(self) -> bool:
        """Whether an embedding changes anything."""
        return self.conditioning.embedded

    def forward(
        self,
        embedding: Float[Tensor, "session trial_or_1 embedding"],
        log_q: Float[Tensor, "session latent"],
        inputs: Float[Tensor, "session trial time input"] | None = None,
    ) -> Transition:
        """The transitions of these embeddings.

        embedding : of each trial, or (session, 1, embedding) one for all trials of a session.
        log_q : log variances of the process noise.
        inputs : u of each bin of the trials, where the flow takes any.
        """
        return Transition(
            self.flow,
            self.conditioning(embedding),
            log_q[:, None, None],
            one_per_session=embedding.shape[1] == 1,
            inputs=inputs,
        )


def values_at(
    values: Float[Tensor, "session trial time value"], bins: BinIndex
) -> Float[Tensor, "session trial point value"]:
    """Values of some bins of each trial."""
    if bins is None:
        raise ValueError("where there are inputs, the bins that states go to are needed")
    if isinstance(bins, slice):
        return values[:, :, bins]
    return values.gather(2, bins[..., None].expand(-1, -1, -1, values.shape[-1]))
