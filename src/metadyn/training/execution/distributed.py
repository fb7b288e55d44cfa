"""Several processes that train one model, each with some of the sessions
(docs/decisions/sessions-over-processes.md).

`SINGLE_PROCESS` is one process that has all sessions: it asks nothing of others, and changes
nothing.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor

from metadyn.config import ModelConfig
from metadyn.errors import ConfigError, TrainingError
from metadyn.model.build import names_per_session
from metadyn.model.meta_ssm import MetaSSM

NEVER_LEAST = 1 << 30  # above any number of bins or trials


class SingleProcess:
    """One process with all sessions."""

    rank: int = 0
    size: int = 1

    def here(self, rows: list[int]) -> list[int]:
        """Which of these sessions are of this process: places in `rows`."""
        return list(range(len(rows)))

    def local(self, row: int) -> int:
        """The row of this process's model that holds a session of its own."""
        return row

    def owns(self, name: str) -> bool:
        """Whether a parameter, or its state, has rows here that no other process has."""
        return False

    def total(self, values: Num[Tensor, "..."]) -> Num[Tensor, "..."]:
        """The sum over processes."""
        return values

    def least(self, values: Int[Tensor, "..."]) -> Int[Tensor, ""]:
        """The smallest of all processes' whole numbers."""
        return values.min()

    def totals(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms of which each process has a part, summed over processes."""
        return terms

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        return flag

    def placed(
        self, values: Float[Tensor, "here ..."], here: list[int], among: int
    ) -> Float[Tensor, "among ..."]:
        """Values of the step's sessions that are here, as those of all of its sessions."""
        return values

    def add_up(self, gradients: list[Tensor]) -> None:
        """Sum each gradient over processes, in place."""

    def gather_sessions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name with the rows of all sessions."""
        return tensors

    def select_sessions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `gather_sessions`: tensors with the rows of this process's sessions."""
        return tensors

    def narrowed(self, module: MetaSSM) -> MetaSSM:
        """A model of all sessions as one of this process's sessions."""
        return module


SINGLE_PROCESS = SingleProcess()


class Processes(SingleProcess):
    """One of `size` processes; session s is of process s mod size."""

    def __init__(
        self, rank: int, size: int, n_sessions: int, config: ModelConfig, device: torch.device
    ) -> None:
        """n_sessions: of all processes. device: where this process computes."""
        self.rank = rank
        self.size = size
        self.n_sessions = n_sessions
        self.device = device
        self.per_session = names_per_session(config)

    def here(self, rows: list[int]) -> list[int]:
        """Which of these sessions are of this process: places in `rows`."""
        return [place for place, row in enumerate(rows) if row % self.size == self.rank]

    def local(self, row: int) -> int:
        """The row of this process's model that holds a session of its own."""
        return row // self.size

    def owns(self, name: str) -> bool:
        """Whether a tensor has one row for each session; the optimiser's state is NAME|KEY."""
        return name.partition("|")[0] in self.per_session

    def total(self, values: Num[Tensor, "..."]) -> Num[Tensor, "..."]:
        """The sum over processes, of which no gradient flows back."""
        return self._reduce(values.detach().clone(), dist.ReduceOp.SUM)

    def least(self, values: Int[Tensor, "..."]) -> Int[Tensor, ""]:
        """The smallest of all processes' whole numbers; a process may have none."""
        smallest = values.min() if values.numel() else values.new_tensor(NEVER_LEAST)
        return self._reduce(smallest, dist.ReduceOp.MIN)

    def totals(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Terms of which each process has a part, summed over processes in one exchange."""
        if not terms:
            return {}
        sums = self.total(torch.stack([*terms.values()]))
        return dict(zip(terms, sums, strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process."""
        return bool(self.total(torch.tensor(float(flag), device=self.device)))

    def placed(
        self, values: Float[Tensor, "here ..."], here: list[int], among: int
    ) -> Float[Tensor, "among ..."]:
        """Values of the step's sessions that are here, as those of all of its sessions."""
        full = values.new_zeros(among, *values.shape[1:])
        full[here] = values
        return self.total(full)  # zeros stand where other processes have theirs

    def add_up(self, gradients: list[Tensor]) -> None:
        """Sum each gradient over processes, in place and in one exchange."""
        if not gradients:
            return
        sums = self.total(torch.cat([each.flatten() for each in gradients]))
        parts = sums.split([each.numel() for each in gradients])
        for each, summed in zip(gradients, parts, strict=True):
            each.copy_(summed.view_as(each))

    def gather_sessions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name with the rows of all sessions."""
        return {
            name: self._gather(value) if self._stacked(name, value) else value
            for name, value in tensors.items()
        }

    def select_sessions(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `gather_sessions`: tensors with the rows of this process's sessions."""
        mine = slice(self.rank, None, self.size)
        return {
            name: value[mine].clone() if self._stacked(name, value) else value
            for name, value in tensors.items()
        }

    def narrowed(self, module: MetaSSM) -> MetaSSM:
        """A model of all sessions as one of this process's sessions; the model is changed."""
        # `data`, so that parameters stay the same objects, without a gradient of the selection
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            tensor.data = self.select_sessions({name: tensor.data})[name]
        module.n_sessions = len(self.here(list(range(self.n_sessions))))
        return module

    def _stacked(self, name: str, value: Tensor) -> bool:
        """Whether the first axis counts sessions, which it does not of an optimiser's one count."""
        return self.owns(name) and value.ndim > 0

    def _gather(self, value: Shaped[Tensor, "here ..."]) -> Shaped[Tensor, "session ..."]:
        """The rows of all processes, in the order of the sessions."""
        full = torch.zeros(self.n_sessions, *value.shape[1:], dtype=value.dtype, device=self.device)
        # Session s is of process s mod size; the rows of others stay zero here
        full[self.rank :: self.size] = value.detach().to(self.device)
        return self._reduce(full, dist.ReduceOp.SUM).to(value.device)

    def _reduce(self, values: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        """The values of all processes as one, in place; TrainingError where one does not answer."""
        try:
            dist.all_reduce(values, how)
        except RuntimeError as problem:
            raise TrainingError(
                "another process of this run was lost",
                found=str(problem).splitlines()[0],
                remedy="the same torchrun command with `resume=True`; any number of processes "
                "goes on from the last checkpoint",
            ) from problem
        return values


def join_processes(
    n_sessions: int, config: ModelConfig, find: Callable[[], torch.device]
) -> tuple[SingleProcess, torch.device]:
    """The processes that torchrun started, or SINGLE_PROCESS, and the device of this one.

    They stay joined until they end. find: finds the device. Raises ConfigError for more processes
    than sessions.
    """
    size = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    if size == 1:
        return SINGLE_PROCESS, find()
    if size > n_sessions:
        raise ConfigError(
            "there are more processes than sessions",
            found=f"{size} processes, {n_sessions} sessions",
            remedy=f"torchrun --nproc-per-node {n_sessions}",
        )
    if torch.cuda.is_available():
        # Before the device is found, so that "cuda" is this process's own
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    device = find()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)
    return Processes(dist.get_rank(), size, n_sessions, config, device), device
