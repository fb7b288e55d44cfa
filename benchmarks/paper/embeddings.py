"""What e says, and how sure it is: by the bins that a trial shows, and by the number of trials."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import spearmanr

from benchmarks.paper import measures
from benchmarks.paper.few_shot import training_scores
from benchmarks.paper.methods import Bench, fitted, settings_of
from benchmarks.paper.sets import draws
from metadyn.inference.encoding import trial_embeddings
from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts
from metadyn.training.alignment.align import align

BINS_SEEN = (10, 20, 40, 80, 160, 350)  # of embedding-vs-bins


def embedding_vs_bins(bench: Bench, seed: int, method: str) -> dict:
    """Fig 10B: q(e) of the first bins of test trials: its SD over trials [SD between sessions],
    |Spearman| with mu."""

    def compute() -> dict:
        trained, found = fitted(bench, "hopf", method, seed), {}
        samples = bench.simulated("hopf", seed).training
        parameter = np.array([sample.truth.parameters["mu"] for sample in samples])
        for n_bins in (bins for bins in BINS_SEEN if bins <= bench.plan("hopf").bins):
            each = [
                trial_embeddings(trained, sample.test, context=n_bins).mean[0, :, 0].numpy()
                for sample in samples
            ]
            found[str(n_bins)] = {"embeddings": [values.tolist() for values in each]}
        last = np.array(found[max(found, key=int)]["embeddings"])
        for values in found.values():
            trials = np.array(values["embeddings"])
            values["spread"] = float(trials.std(1).mean() / last.mean(1).std())
            values["abs_spearman"] = measures.abs_spearman(trials.mean(1), parameter)
            of_trials = spearmanr(trials.ravel(), np.repeat(parameter, trials.shape[1])).statistic
            values["abs_spearman_of_trials"] = abs(float(of_trials))
        return found

    settings = settings_of(bench, "hopf", method, seed)
    found = bench.cache.piece(f"embedding-vs-bins/{method}-seed{seed}", settings, compute)
    names = ("spread", "abs_spearman", "abs_spearman_of_trials")
    return {
        "sessions": {},
        "figures": {name: {bins: each[name] for bins, each in found.items()} for name in names},
    }


def embedding_vs_trials(bench: Bench, seed: int, method: str) -> dict:
    """Fig 14: e by n_s: distance to that of all trials, SD over disjoint draws, and the SD reported
    [SD between sessions].

    `low_rank`: the search, on new sessions. `product`: the encoder's q(e) of the test trials of
    training sessions, multiplied.
    """
    name = "duffing-hopf"
    shots, n_draws = bench.shots(1, 2, 4, 8, 16), 2 if bench.quick else 4

    def compute() -> dict:
        trained, found = fitted(bench, name, "low_rank", seed), {}
        sessions = bench.simulated(name, seed)
        for sample in sessions.new if method == "low_rank" else sessions.training:
            counts, runs = sample.given if method == "low_rank" else sample.test, {}
            of = (
                searched(bench, trained, counts, seed)
                if method == "low_rank"
                else multiplied(trained, counts)
            )
            for n_shots in (*shots, counts.n_trials):
                runs[str(n_shots)] = [
                    of(trials) for trials in draws(counts.n_trials, n_shots, n_draws, seed)
                ]
            found[sample.key] = runs
            bench.say(f"embedding-vs-trials {method} seed {seed}: {sample.key}")
        return found

    settings = settings_of(bench, name, "low_rank", seed) | {
        "shots": shots,
        "align": bench.align(seed).model_dump(),
    }
    found = bench.cache.piece(f"embedding-vs-trials/{method}-seed{seed}", settings, compute)
    train = training_scores(bench, name, "low_rank", seed)
    between = np.array([each["embedding"] for each in train.values()]).std(0)
    figures: dict = {"distance": {}, "spread": {}, "sd": {}}
    for n_shots in map(str, shots):
        values = [
            spreads(runs[n_shots], runs[max(runs, key=int)][0]["mean"], between)
            for runs in found.values()
        ]
        for figure in figures:
            figures[figure][n_shots] = float(np.mean([each[figure] for each in values]))
    return {"sessions": {}, "figures": figures}


def spreads(draws: list[dict], reference: list[float], between: np.ndarray) -> dict[str, float]:
    """Of embeddings {"mean", "sd"} from disjoint draws [between]: mean distance to `reference`, SD
    over draws, SD reported."""
    mean, sd = (np.array([each[key] for each in draws]) / between for key in ("mean", "sd"))
    return {
        "distance": np.sqrt(((mean - np.array(reference) / between) ** 2).sum(1)).mean(),
        "spread": np.sqrt(mean.var(0, ddof=1).sum()),
        "sd": np.sqrt((sd**2).sum(1)).mean(),
    }


def searched(
    bench: Bench, trained: TrainedModel, counts: TrialCounts, seed: int
) -> Callable[[np.ndarray], dict]:
    """Mean and SD of e of a new session, by trials that align it."""
    only_search = bench.align(seed).model_copy(
        update={"steps": 0}
    )  # steps on the ELBO leave the embedding as it is

    def of(trials: np.ndarray) -> dict[str, list[float]]:
        given = counts.select(trials)
        mean, sd = measures.embedding_of(align(trained, given, only_search), given)
        return {"mean": mean.tolist(), "sd": sd.tolist()}

    return of


def multiplied(trained: TrainedModel, counts: TrialCounts) -> Callable[[np.ndarray], dict]:
    """Mean and SD of the product of q(e) of some trials."""
    q = trial_embeddings(trained, counts)

    def of(trials: np.ndarray) -> dict[str, list[float]]:
        told = Gaussian(q.mean[:, trials], q.log_var[:, trials]).product(1)
        return {"mean": told.mean[0, 0].tolist(), "sd": told.sd[0, 0].tolist()}

    return of
