"""Macaque maze reaching (maze.nwb), 20 ms bins: decoding and held-out spikes of a single session,
and few-shot alignment.

    python -m benchmarks.maze single     velocity r², bits per spike, three splits, beside two plain
    decoders
    python -m benchmarks.maze pseudo     three pseudo-sessions: fit on two, align the third from 8,
    16, 32 trials
    python -m benchmarks.maze methods    the same by five methods: velocity r² of reconstruction and
    of forecasts

`pseudo` and `methods` align by the trials' condition labels, which the pseudo-sessions carry; the
single-session model has no use for them. `methods` forecasts the last two thirds of a trial from
the first, and keeps what it has computed in benchmarks/cache/maze, so that a run that was stopped
goes on; its progress and a table go to stderr.

`single` and `pseudo` decode as `metadyn score` does: decoders, their penalties, and width and
number of components of the baselines are found on training trials; r² is beside the mean velocity
of these. In `methods` it is beside that of test trials.

Data: METADYN_DATA (default ../shared/data). Results: benchmarks/results/maze-*.json. Settings were
chosen on validation trials (benchmarks/results/maze-tuning.json); test trials are read once.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks.paper.cache import Cache
from benchmarks.paper.methods import Bench
from benchmarks.record import mean_sem, save_result, say
from metadyn import bin_spikes, read_session
from metadyn.config import AlignConfig, ModelConfig, TrainingConfig
from metadyn.data.splits import split_trials
from metadyn.inference.baselines import LAGS, spike_decoders
from metadyn.inference.decoding import Decoder, fit_decoder, r2
from metadyn.inference.entry_scores import bits_per_spike
from metadyn.inference.forecast import forecast
from metadyn.inference.infer import infer
from metadyn.inference.scores import HIDDEN, hidden_rates
from metadyn.records import TrialCounts
from metadyn.training.alignment.align import align
from metadyn.training.execution.checkpoint import save_model
from metadyn.training.fit import fit

DATA = Path(os.environ.get("METADYN_DATA", Path(__file__).parents[2] / "shared" / "data"))
BENCH = Bench(Cache(Path(__file__).parent / "cache" / "maze"), say=say)
WHOLE_TRIAL_COMPONENTS = (2, 4, 8, 12, 20, 30)
SHOTS, TEST_TRIALS = (8, 16, 32), 23
METHODS = ("low_rank", "linear", "input", "shared", "single")
MODEL = ModelConfig(latent_dim=20, hidden=(64, 64), readin_hidden=48, readin_dim=20)
TRAINING = TrainingConfig(
    pretrain_steps=100,
    steps=800,
    learning_rate=0.01,
    weight_decay=0.1,
    trials_per_session=32,
    coordinated_dropout=0.7,
    kl_weight=0.1,
    kl_ramp=100,
    process_noise=0.02,
    posterior_log_var=-3.0,
    smoothing_bins=2.5,
    multi_step=0.1,
    masking=0.0,
    test_fraction=0.0,  # splits are made here
)

# What the single-session rival may choose from, by its own validation trials: changes of MODEL and
# of TRAINING.
SLOWER = {"learning_rate": 0.005, "steps": 400, "coordinated_dropout": 0.5, "weight_decay": 0.001}
SINGLE_SETTINGS = [({}, {}), ({}, SLOWER), ({"latent_dim": 8}, {}), ({}, {"learning_rate": 0.002})]


def load() -> TrialCounts:
    session = read_session(DATA / "maze.nwb", behavior="hand_velocity")
    return bin_spikes(session, behavior="hand_velocity", condition="condition")


def latents(trained, counts: TrialCounts) -> np.ndarray:
    return infer(trained, counts)["latent_mean"].values


def velocity_decoder(train: list[tuple[np.ndarray, np.ndarray]]) -> Decoder:
    """From features (trial, time, feature) to velocity (trial, time, channel), fitted to pairs of
    them, as `score` does."""
    return fit_decoder(
        np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train]), LAGS
    )


def mean_velocity(counts: TrialCounts) -> np.ndarray:
    """(channel,); what r² stands beside."""
    return np.nanmean(counts.behavior, (0, 1))


def spikes_r2(train: TrialCounts, test: TrialCounts) -> dict[str, float]:
    """Velocity r² of the baselines of `score`, searched and fitted on training trials."""
    return {
        name: r2(test.behavior, decode(test), mean_velocity(train))
        for name, decode in spike_decoders(train).items()
    }


def smoothed_spikes(counts: TrialCounts) -> np.ndarray:
    """Counts smoothed by 50 ms."""
    return gaussian_filter1d(counts.counts.astype(float), 0.05 / counts.bin_width, axis=1)


def whole_trials(
    train: TrialCounts, test: TrialCounts, components: int
) -> tuple[np.ndarray, np.ndarray]:
    """The principal components of whole smoothed trials, the same for each bin of a trial, times
    the bin: one map per bin."""
    flat = [smoothed_spikes(counts).reshape(counts.n_trials, -1) for counts in (train, test)]
    mean = flat[0].mean(0)
    axes = np.linalg.svd(flat[0] - mean, full_matrices=False)[2][:components]
    return (flat[0] - mean) @ axes.T, (flat[1] - mean) @ axes.T


def whole_trial_r2(train: TrialCounts, test: TrialCounts, components: int) -> float:
    """Velocity of all bins of a trial from the principal components of its smoothed spikes."""
    scores, test_scores = whole_trials(train, test, components)
    velocity = np.nan_to_num(train.behavior).reshape(train.n_trials, 1, -1)
    decoder = fit_decoder(scores[:, None], velocity)
    return r2(
        test.behavior,
        decoder(test_scores[:, None]).reshape(test.behavior.shape),
        mean_velocity(train),
    )


def best_whole_trial_r2(train: TrialCounts, test: TrialCounts) -> float:
    """The number of components is chosen on a quarter of the training trials."""
    chooser = np.arange(train.n_trials) % 4 == 0
    options = [k for k in WHOLE_TRIAL_COMPONENTS if k < 0.75 * train.n_trials]
    best = max(
        options, key=lambda k: whole_trial_r2(train.select(~chooser), train.select(chooser), k)
    )
    return whole_trial_r2(train, test, best)


def hidden_bits(trained, train: TrialCounts, test: TrialCounts, hidden: np.ndarray) -> float:
    """Bits per spike of hidden entries (trial, time, unit), above each unit's mean rate on the
    training trials."""
    mean = train.counts[train.observed].mean(0)
    return bits_per_spike(
        test.counts.astype(float),
        hidden_rates(trained, test, hidden),
        mean,
        hidden & test.observed[..., None],
    )


def hidden_entries(counts: TrialCounts, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(counts.counts.shape) < HIDDEN


def hidden_units(counts: TrialCounts, seed: int) -> np.ndarray:
    """A quarter of the units in every bin."""
    chosen = np.random.default_rng(seed).permutation(counts.n_units) < counts.n_units // 4
    return np.broadcast_to(chosen, counts.counts.shape)


def single(seed: int, training: TrainingConfig = TRAINING) -> dict[str, float]:
    """One split: 75 % of the trials train (and validate), 25 % test."""
    counts = load()
    train_rows, _, test_rows = split_trials(counts.n_trials, (0.75, 0.0, 0.25), seed)
    train, test = counts.select(train_rows), counts.select(test_rows)
    trained = fit(
        [train],
        MODEL.model_copy(update={"conditioning": "shared"}),
        training.model_copy(update={"seed": seed}),
    )
    decode = velocity_decoder([(latents(trained, train), train.behavior)])
    return {
        "velocity_r2": r2(test.behavior, decode(latents(trained, test)), mean_velocity(train)),
        **{f"velocity_r2_{name}": value for name, value in spikes_r2(train, test).items()},
        "velocity_r2_whole_trial": best_whole_trial_r2(train, test),
        "bits_held_out_entries": hidden_bits(trained, train, test, hidden_entries(test, seed)),
        "bits_held_out_units": hidden_bits(trained, train, test, hidden_units(test, seed)),
    }


def pseudo_sessions(seed: int) -> list[TrialCounts]:
    """Three sessions of disjoint units and disjoint trials."""
    counts, rng = load(), np.random.default_rng(seed)
    units, trials = rng.permutation(counts.n_units), rng.permutation(counts.n_trials)
    return [
        counts.select(np.sort(trials[i::3]), np.sort(units[i::3]), session=f"pseudo-{i}")
        for i in range(3)
    ]


def rotated(rotation: int, seed: int = 0) -> tuple[list[TrialCounts], TrialCounts, TrialCounts]:
    """The two sessions that train, the trials that the third may give (the first n of them are
    given), its test trials."""
    sessions = pseudo_sessions(seed)
    new = sessions.pop(rotation)
    order = np.random.default_rng(seed).permutation(new.n_trials)
    return sessions, new.select(order[:-TEST_TRIALS]), new.select(order[-TEST_TRIALS:])


def pseudo(rotation: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Two sessions train, the third is aligned; beside it a model of the third alone, on the same
    trials."""
    sessions, given, test = rotated(rotation, seed)
    training = TRAINING.model_copy(update={"seed": seed})
    trained = fit(sessions, MODEL, training)
    decoder_data = [(latents(trained, each), each.behavior) for each in sessions]
    return {
        str(n): one_shot(trained, decoder_data, given.select(slice(n)), test, training)
        for n in SHOTS
    }


def one_shot(
    trained, decoder_data, few: TrialCounts, test: TrialCounts, training: TrainingConfig
) -> dict[str, float]:
    aligned = align(trained, few, AlignConfig(seed=training.seed, test_fraction=0.0))
    alone = best_single(few, training)

    def decoded(model, train: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return r2(test.behavior, velocity_decoder(train)(latents(model, test)), mean_velocity(few))

    units = hidden_units(test, training.seed)
    return {
        "aligned_velocity_r2": decoded(aligned, decoder_data),
        "aligned_velocity_r2_own_labels": decoded(aligned, [(latents(aligned, few), few.behavior)]),
        "single_velocity_r2": decoded(alone, [(latents(alone, few), few.behavior)]),
        **{f"{name}_velocity_r2": value for name, value in spikes_r2(few, test).items()},
        "whole_trial_velocity_r2": best_whole_trial_r2(few, test),
        "aligned_bits_held_out_units": hidden_bits(aligned, few, test, units),
        "single_bits_held_out_units": hidden_bits(alone, few, test, units),
    }


def best_single(few: TrialCounts, training: TrainingConfig):
    """The single-session model of the setting that validates best on a quarter of these trials
    (align spares as many)."""
    fits = [
        validated_fit(few, MODEL.model_copy(update=m), training.model_copy(update=t))
        for m, t in SINGLE_SETTINGS
    ]
    return max(fits, key=lambda pair: pair[0])[1]


def validated_fit(
    few: TrialCounts, model: ModelConfig, training: TrainingConfig
) -> tuple[float, object]:
    """Best validation score of the run, and the model that reached it."""
    scores = [float("-inf")]

    def note(report) -> None:
        if report.validation and report.stage == "elbo":
            scores.append(sum(report.validation.values()))

    config = model.model_copy(update={"conditioning": "shared"})
    trained = fit(
        [few], config, training.model_copy(update={"validation_fraction": 0.25}), report=note
    )
    return max(scores), trained


def first_bins(counts: TrialCounts, context: int) -> TrialCounts:
    """The same trials as if they had ended after `context` bins, without behaviour."""
    windows = replace(counts.windows, n_bins=np.minimum(counts.windows.n_bins, context))
    cut = {
        "counts": counts.counts[:, :context],
        "observed": counts.observed[:, :context],
        "behavior": None,
    }
    return replace(counts, windows=windows, **cut)


def forecast_latents(trained, counts: TrialCounts, context: int) -> np.ndarray:
    """Latents (trial, time, latent): of the context inferred from it alone, then those that the
    dynamics make of them."""
    ahead = forecast(trained, counts, context=context, steps=counts.counts.shape[1] - context)[
        "latent_mean"
    ].values
    return np.concatenate([latents(trained, first_bins(counts, context)), ahead], 1)


def r2_of_test(true: np.ndarray, predicted: np.ndarray) -> float:
    """r² of `methods`: beside the mean of the test trials themselves."""
    return r2(true, predicted, np.nanmean(true, (0, 1)))


def scores(trained, decode: Callable, test: TrialCounts, labels: str = "") -> dict[str, float]:
    """Hand-velocity r²: of whole trials from inferred latents, of the bins after the first third
    from forecast ones."""
    context = test.counts.shape[1] // 3
    ahead = decode(forecast_latents(trained, test, context))[:, context:]
    return {
        f"reconstruction_r2{labels}": r2_of_test(test.behavior, decode(latents(trained, test))),
        f"forecast_r2{labels}": r2_of_test(test.behavior[:, context:], ahead),
    }


def mean_profile_r2(few: TrialCounts, test: TrialCounts) -> float:
    """Of the bins that are forecast: every test trial as the mean of the n trials, bin by bin,
    whatever their conditions."""
    context = test.counts.shape[1] // 3
    profile = np.broadcast_to(few.behavior.mean(0), test.behavior.shape)
    return r2_of_test(test.behavior[:, context:], profile[:, context:])


def measured(
    trained, others: list[tuple[np.ndarray, np.ndarray]], few: TrialCounts, test: TrialCounts
) -> dict[str, float]:
    """By decoders of the training sessions (`others`: their latents and velocities, if any) and of
    the n trials' own labels."""
    found = scores(trained, velocity_decoder(others), test) if others else {}
    own = velocity_decoder([(latents(trained, few), few.behavior)])
    return (
        found
        | scores(trained, own, test, "_own_labels")
        | {"mean_profile_r2": mean_profile_r2(few, test)}
    )


def settings_of(method: str, seed: int) -> dict:
    """What a fitted model follows from, beside the trials."""
    model, training = (part.model_dump(exclude_unset=True) for part in (MODEL, TRAINING))
    own = {"candidates": SINGLE_SETTINGS} if method == "single" else {}
    return {"method": method, "seed": seed, "model": model, "training": training} | own


def compared(rotation: int, seed: int = 0) -> dict[str, dict[str, dict[str, float]]]:
    """All methods on the same trials of one rotation: {n: {method: {measure: r²}}}."""
    began = time.monotonic()
    found: dict = {str(n): {} for n in SHOTS}
    for method in METHODS:
        for n, values in of_method(method, rotation, seed).items():
            found[n][method] = values
            told = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
            say(
                f"rotation {rotation} {method} n {n}, {(time.monotonic() - began) / 60:.1f} min: "
                f"{told}"
            )
    return found


def of_method(method: str, rotation: int, seed: int) -> dict[str, dict[str, float]]:
    """{n: {measure: r²}} of one method and rotation, what is there already from the cache."""
    sessions, given, test = rotated(rotation, seed)
    settings, name = settings_of(method, seed), f"{method}-rotation{rotation}"
    training = TRAINING.model_copy(update={"seed": seed})
    conditioning = {"input": "embedding_input"}.get(method, method)
    config = MODEL.model_copy(update={"conditioning": conditioning})
    trained, others = None, []
    if method != "single":
        report = BENCH.reporter(f"{method} rotation {rotation}")

        def train(folder: Path, resume: bool):
            return fit(sessions, config, training, folder=folder, resume=resume, report=report)

        trained = BENCH.cache.model(name, settings, train)
        others = [(latents(trained, each), each.behavior) for each in sessions]

    def at(n: int) -> dict[str, float]:
        few = given.select(slice(n))
        model = BENCH.cache.model(f"{name}-n{n}", settings, partial(of_few, trained, few, training))
        return BENCH.cache.piece(
            f"{name}-n{n}-r2", settings, lambda: measured(model, others, few, test)
        )

    return {str(n): at(n) for n in SHOTS}


def of_few(trained, few: TrialCounts, training: TrainingConfig, folder: Path, resume: bool):
    """The trained model aligned to a few trials, or where there is none the best model of them
    alone; begun anew if stopped."""
    model = (
        align(trained, few, AlignConfig(seed=training.seed, test_fraction=0.0))
        if trained is not None
        else best_single(few, training)
    )
    save_model(model, folder)
    return model


def show(figures: dict[str, dict[str, dict[str, list[float]]]]) -> None:
    """{n: {method: {measure: [mean, standard error]}}} as a table."""
    measures = list(figures[str(SHOTS[0])]["low_rank"])
    say("n   method    " + " ".join(f"{measure:>28}" for measure in measures))
    for n, methods in figures.items():
        for method, values in methods.items():
            cells = [
                " ± ".join(f"{value:.2f}" for value in values.get(measure, []))
                for measure in measures
            ]
            say(f"{n:<3} {method:<9} " + " ".join(f"{cell or '-':>28}" for cell in cells))


EXPERIMENTS = {"single": single, "pseudo": pseudo, "methods": compared}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument(
        "--seeds", type=int, default=3, help="how many; of pseudo and methods: rotations"
    )
    options = parser.parse_args()
    runs = [EXPERIMENTS[options.experiment](seed) for seed in range(options.seeds)]
    figures = mean_sem(runs)
    if options.experiment == "methods":
        show(figures)
    save_result(
        f"maze-{options.experiment}",
        {"mean_sem": figures, "runs": runs},
        seeds=list(range(options.seeds)),
    )


if __name__ == "__main__":
    main()
