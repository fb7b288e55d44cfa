"""Seconds a training step takes, of the package and of a plain loop over sessions and bins
(benchmarks/reference.py).

    python -m benchmarks.step [--device cpu|cuda] [--settings synthetic-20 motor-20 ...] [--quick]

A step draws its trials and masks, then goes forward, backward, clips and lets the optimiser move.
The two take turns in one process and begin with the same weights, trials, masks and noise, so that
their first losses must agree. Settings NAME-SESSIONS:

* synthetic: the paper's simulated sets, Gaussian, 30-100 units, 8 trials of 300 bins (preset
  paper-synthetic);
* motor: the paper's model of motor recordings, Poisson, 30-350 units, 64 trials of 36 bins (preset
  paper-motor).

Both mask a fifth of the bins, as the authors' code does. `floor` is the least that the step could
take at the speeds that this device reaches in the same run (benchmarks/floor.py). On a GPU steps
are CUDA graphs, and `uncaptured` are steps that are none. One thread, unless OMP_NUM_THREADS says
otherwise. Results: benchmarks/results/step.json, on a GPU step-cuda.json; with --quick, of small
sizes, none. Operations are those that torch dispatches: what the compiled GRU does is none. Shares
are of steps of their own, whose parts wait for the device.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.floor import Peak, Size, floor, measured_peak
from benchmarks.paper.sets import PLANS, simulated
from benchmarks.record import in_a_process, resident_mib, save_result
from benchmarks.reference import Reference, declared_of, from_model
from metadyn.config import ModelConfig, TrainingConfig
from metadyn.data.synthetic import as_counts, simulate
from metadyn.model import elbo
from metadyn.model.build import build_model
from metadyn.model.dynamics import Transition
from metadyn.model.encoders import EmbeddingEncoder, LatentEncoder
from metadyn.model.likelihoods.base import Likelihood
from metadyn.model.meta_ssm import MetaSSM
from metadyn.presets import PRESETS
from metadyn.records import TrialCounts
from metadyn.training import objective
from metadyn.training.execution.batch import DeviceTrials, hide
from metadyn.training.execution.capture import stepper
from metadyn.training.execution.devices import find_device
from metadyn.training.execution.optim import Lamb, make_optimiser
from metadyn.training.execution.step import Task, take_step
from metadyn.training.objective import crop_range
from metadyn.training.task import make_task

SETS = {
    "synthetic-2": "limit-cycles-2",
    "synthetic-20": "limit-cycles-20",
    "synthetic-31": "duffing-hopf",
}
SETTINGS = (*SETS, "motor-20", "motor-44")
METHODS = {"cpu": ("ours", "reference"), "cuda": ("ours", "uncaptured", "reference")}
SEED = 0
REPEATS, QUICK_REPEATS = 15, 3  # steps of each method: the quartiles of 15 are its 4th and its 12th
WARM_UP = 5  # on a GPU the fourth step is captured
SAME = 1e-3  # largest relative difference of the first losses, in single precision: 1e-6 was found
MASKING = {
    "masking": 0.2,
    "masked": "mean",
    "mask_scope": "session",
}  # the authors' code (docs/paper_parity.md)
PARTS = {  # functions whose seconds are a part's; what they call is theirs
    "batch": [(DeviceTrials, "batch"), (objective, "hide")],
    "read-in": [(MetaSSM, "features")],
    "GRUs": [(EmbeddingEncoder, "forward"), (LatentEncoder, "forward")],
    "dynamics": [
        (MetaSSM, "transition"),
        (elbo, "fill_masked"),
        (Transition, "__call__"),
        (Transition, "weight_change"),
    ],
    "likelihood": [(Likelihood, "weighted_log_prob")],  # with its gradient
    "backward": [(Tensor, "backward")],
    "optimiser": [(nn.utils, "clip_grad_norm_"), (Lamb, "step"), (torch.optim.AdamW, "step")],
}

Step = Callable[[int], float]  # number of the step → its loss


@dataclass(frozen=True)
class Workload:
    """What is trained: sessions, model and training."""

    sessions: list[TrialCounts]
    config: ModelConfig
    training: TrainingConfig

    @property
    def n_units(self) -> list[int]:
        return [counts.n_units for counts in self.sessions]

    def model(self, device: torch.device) -> MetaSSM:
        return build_model(
            self.config, self.n_units, process_noise=self.training.process_noise, seed=SEED
        ).to(device)


def workload(name: str, quick: bool) -> Workload:
    """A setting; when quick, four sessions of short windows and few trials."""
    kind, n_sessions = name.split("-")
    preset, likelihood = (
        PRESETS[f"paper-{kind}"].sections,
        {"synthetic": "gaussian", "motor": "poisson"}[kind],
    )
    training = TrainingConfig(
        **preset["training"] | MASKING | ({"trials_per_session": 8} if quick else {})
    )
    n_sessions, n_trials = (
        min(int(n_sessions), 4) if quick else int(n_sessions),
        2 * training.trials_per_session,
    )
    sizes = preset["model"] | {"likelihood": likelihood}
    if kind == "motor":
        options = {
            "n_sessions": n_sessions,
            "units": (30, 350),
            "n_trials": n_trials,
            "n_bins": 12 if quick else 36,
        }
        return Workload(
            [as_counts(each) for each in simulate("limit-cycle", seed=SEED, **options)],
            ModelConfig(**sizes),
            training,
        )
    plan = PLANS[SETS[name]]
    plan = replace(
        plan,
        training=plan.training[:n_sessions],
        new=(),
        train=n_trials,
        test=0,
        bins=40 if quick else plan.bins,
    )
    sessions = [sample.given for sample in simulated(plan, SEED).training]
    return Workload(
        sessions, ModelConfig(**sizes | {"embedding_dim": plan.embedding_dim}), training
    )


def package_task(work: Workload, model: MetaSSM, trials: DeviceTrials) -> Task:
    """What `metadyn fit` gives to its loop."""
    return make_task(
        model, trials, trials, work.config, work.training, crop_range(work.training, work.sessions)
    )


def package_step(task: Task) -> Step:
    """As the loop takes it."""
    take = stepper(task)
    return lambda step: float(take(step, 1.0)["loss"])


def uncaptured_step(task: Task) -> Step:
    """One operation after the other."""
    return lambda step: float(take_step(task, step, 1.0)["loss"])


def reference_step(
    work: Workload,
    reference: Reference,
    trials: DeviceTrials,
    learning_rate: Callable[[int], float],
) -> Step:
    """A step of the plain loop, on the trials, masks and noise that the package draws for a step of
    that number."""
    parameters, training = dict(reference.named_parameters()), work.training
    optimiser = make_optimiser(
        parameters,
        training.learning_rate,
        training.weight_decay,
        training.optimiser,
        declared_of(reference),
    )

    def take(step: int) -> float:
        generator = torch.Generator(trials.counts.device).manual_seed(
            training.seed * 1_000_003 + step
        )
        loss = reference_loss(work, reference, trials, generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), training.clip)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step)
        optimiser.step()
        return float(loss.detach())

    return take


def reference_loss(
    work: Workload, reference: Reference, trials: DeviceTrials, generator: torch.Generator
) -> Tensor:
    """The objective of the package as the presets have it: whole windows, masked bins, no tail, no
    hidden entries."""
    shortest, longest = crop_range(work.training, work.sessions)
    length = int(
        torch.randint(shortest, longest + 1, (), generator=generator, device=generator.device)
    )
    batch = trials.batch(work.training.trials_per_session, length, generator)
    masks = {"masking": work.training.masking, "mask_scope": work.training.mask_scope}
    _, targets = hide(batch, tail_bins=0, dropout=0.0, generator=generator, **masks)
    counts = [
        each[..., :units].float() for each, units in zip(batch.counts, work.n_units, strict=True)
    ]
    numbers = reference.random_numbers(*batch.observed.shape[1:], generator)
    terms = reference.elbo(counts, targets.forecast, numbers)
    return terms.loss(work.training.kl_weight, work.training.weight_change_penalty)


def steps_of(
    work: Workload, device: torch.device, methods: tuple[str, ...]
) -> tuple[dict[str, Step], Task]:
    """A step of each method, all with copies of the same first weights, and the task of the
    package."""
    trials, model = DeviceTrials.of(work.sessions, device), work.model(device)
    task = package_task(work, model, trials)
    makers = {
        "ours": lambda: package_step(task),
        "uncaptured": lambda: uncaptured_step(package_task(work, work.model(device), trials)),
        "reference": lambda: reference_step(
            work, from_model(model, work.config, work.n_units), trials, task.learning_rate
        ),
    }
    return {method: makers[method]() for method in methods}, task


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turns(steps: dict[str, Step], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of `repeats` steps of each method, one of each at a time, after a warm-up in which
    first losses are compared."""
    first = {method: take(0) for method, take in steps.items()}
    if not np.allclose(*first.values(), rtol=SAME):
        raise RuntimeError(f"the methods do not take the same step: losses {first}")
    seconds = {method: [] for method in steps}
    for number in range(1, WARM_UP + repeats):
        for method, take in steps.items():
            synchronise(device)
            began = time.perf_counter()
            take(number)
            synchronise(device)
            seconds[method].append(time.perf_counter() - began)
    return {method: each[WARM_UP - 1 :] for method, each in seconds.items()}


class Dispatched(TorchDispatchMode):
    """Counts the operations that torch dispatches, those of the backward pass and of the optimiser
    too."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations(take: Step, number: int) -> int:
    with Dispatched() as dispatched:
        take(number)
    return dispatched.count


@contextmanager
def parts_timed(device: torch.device) -> Iterator[Counter]:
    """Seconds spent in each of PARTS while the context lasts."""
    seconds, running = Counter(), []

    def timed(part: str, function: Callable) -> Callable:
        @wraps(function)
        def run(*arguments, **options):
            if running:
                return function(*arguments, **options)
            running.append(part)
            synchronise(device)
            began = time.perf_counter()
            result = function(*arguments, **options)
            synchronise(device)
            seconds[part] += time.perf_counter() - began
            running.pop()
            return result

        return run

    with ExitStack() as stack:
        for part, places in PARTS.items():
            for owner, name in places:
                stack.enter_context(
                    mock.patch.object(owner, name, timed(part, getattr(owner, name)))
                )
        yield seconds


def shares(take: Step, numbers: range, device: torch.device) -> dict[str, float]:
    """The share of each part in the seconds of some steps; `rest` is what belongs to none."""
    with parts_timed(device) as seconds:
        began = time.perf_counter()
        for number in numbers:
            take(number)
        total = time.perf_counter() - began
    found = {part: seconds[part] / total for part in PARTS}
    return {
        part: round(share, 3) for part, share in (found | {"rest": 1 - sum(found.values())}).items()
    }


def peak_of_process(name: str, method: str, quick: bool) -> float:
    """Largest resident memory [MiB] of this process, once it has taken two steps."""
    steps, _ = steps_of(workload(name, quick), torch.device("cpu"), (method,))
    for number in range(2):
        steps[method](number)
    return resident_mib()


def cpu_peaks(names: list[str], quick: bool) -> dict[str, dict[str, float]]:
    """MiB of each setting and method, in a process of its own; to be taken first, as a process
    starts at its parent's peak."""
    return {
        name: {
            method: in_a_process(peak_of_process, name, method, quick) for method in METHODS["cpu"]
        }
        for name in names
    }


def gpu_peaks(steps: dict[str, Step], number: int, device: torch.device) -> dict[str, float]:
    """MiB that tensors take on the GPU at most in a step of each method, data and both models
    included."""
    peaks = {}
    for method, take in steps.items():
        torch.cuda.reset_peak_memory_stats(device)
        take(number)
        peaks[method] = torch.cuda.max_memory_allocated(device) / 2**20
    return peaks


def measure(
    name: str, device: torch.device, quick: bool, peaks: dict[str, float] | None, peak: Peak
) -> dict:
    """All figures of one setting; `peaks` are of processes' memory, None where the GPU's is to be
    taken; `peak`: its speeds."""
    work, repeats = workload(name, quick), QUICK_REPEATS if quick else REPEATS
    steps, task = steps_of(work, device, METHODS[device.type])
    quartiles = {
        method: np.quantile(each, [0.25, 0.5, 0.75])
        for method, each in in_turns(steps, repeats, device).items()
    }
    after = WARM_UP + repeats
    peaks = peaks or gpu_peaks(steps, after, device)
    dispatched = {"ours": steps.get("uncaptured", steps["ours"]), "reference": steps["reference"]}
    counted = {method: operations(take, after) for method, take in dispatched.items()}
    parts = shares(dispatched["ours"], range(after + 1, after + 1 + repeats), device)
    bins = max(int(counts.windows.n_bins.max()) for counts in work.sessions)
    size = Size(work.n_units, work.training.trials_per_session, bins, work.training.masking)
    return {
        "ours_s": round(quartiles["ours"][1], 6),
        "reference_s": round(quartiles["reference"][1], 6),
        "ratio": round(quartiles["reference"][1] / quartiles["ours"][1], 2),
        "peak_mib": round(peaks["ours"]),
        "reference_peak_mib": round(peaks["reference"]),
        **({"uncaptured_s": round(quartiles["uncaptured"][1], 6)} if "uncaptured" in steps else {}),
        "quartiles_s": {
            method: each[[0, 2]].round(6).tolist() for method, each in quartiles.items()
        },
        "operations": counted,
        "floor": floor(size, task.module, peak, quartiles["ours"][1]),
        "shares": parts,
        "units": [min(work.n_units), max(work.n_units)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS, metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    device = find_device(given.device)
    on_gpu = device.type == "cuda"
    peaks = {} if on_gpu else cpu_peaks(given.settings, given.quick)
    figures, peak = {}, measured_peak(device, partial(synchronise, device))
    for name in given.settings:
        figures[name] = measure(name, device, given.quick, peaks.get(name), peak)
        print(f"{name}: {json.dumps(figures[name])}", flush=True)
    if given.quick:
        print(json.dumps(figures))
        return
    where = torch.cuda.get_device_name(device) if on_gpu else "cpu"
    save_result("step-cuda" if on_gpu else "step", figures, device=where, seed=SEED, steps=REPEATS)


if __name__ == "__main__":
    main()
