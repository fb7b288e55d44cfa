"""The experiments: what each measures of one method and one seed.

A measurement is {"sessions": {group: {session: {measure: value or one a draw}}}, "figures": {figure: value}}. Groups are
"train" (training sessions), a number (new sessions aligned from as many trials) or "new" (new sessions, however aligned).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from benchmarks.paper import measures
from benchmarks.paper.methods import MULTI_SESSION, Bench, best_of, fitted, model_config, refitted, settings_of
from benchmarks.paper.sets import SPIKES_A_BIN, Sample, draws
from metadyn.inference.forecast import forecast
from metadyn.inference.infer import trial_embeddings
from metadyn.model.gaussian import Gaussian
from metadyn.model.trained import TrainedModel
from metadyn.records import TrialCounts, Windows
from metadyn.training.align import align
from metadyn.training.calibrate import calibrated
from metadyn.training.fit import split_sessions

BINS_SEEN = (10, 20, 40, 80, 160, 350)  # of embedding-vs-bins
GENERATED_CONTEXT = 100  # bins of a test trial that start a generated one (App. A, "No model mismatch")
FAMILIAR = ("hopf", "duffing-hopf")  # sets whose models coverage is measured of


@dataclass(frozen=True)
class Experiment:
    """measure(bench, seed, method) → a measurement; `folders` of the cache are its own, to be removed with it."""

    about: str
    methods: tuple[str, ...]
    measure: Callable[[Bench, int, str], dict]
    folders: tuple[str, ...]


def scored(bench: Bench, name: str, trained: TrainedModel | None, sample: Sample) -> dict[str, float]:
    """Reconstruction and forecasts of a session's test trials; without a model, all that exploded."""
    plan = bench.plan(name)
    if trained is None:
        keys = ["rec", *[f"{at}k{k}" for k in plan.horizons for at in ("", "at_")]]
        return dict.fromkeys(keys, float("-inf"))
    return measures.model_r2(trained, sample.test, measures.target_of(sample), plan.contexts, plan.horizons)


def training_scores(bench: Bench, name: str, method: str, seed: int) -> dict:
    """Scores of each training session, with its embedding and parameters."""

    def compute() -> dict:
        trained, found = fitted(bench, name, method, seed), {}
        for sample in bench.simulated(name, seed).training:
            mean, _ = measures.embedding_of(trained, sample.test)
            found[sample.key] = {
                "scores": scored(bench, name, trained, sample),
                "embedding": mean.tolist(),
                "parameters": list(sample.truth.parameters.values()),
            }
        return found

    return bench.cache.piece(f"{name}/{method}-seed{seed}-train", settings_of(bench, name, method, seed), compute)


def ceiling(bench: Bench, name: str, seed: int) -> dict:
    """Scores of the true dynamics, of training and new sessions."""
    plan = bench.plan(name)

    def of(samples: list[Sample]) -> dict:
        return {
            sample.key: measures.ceiling_r2(sample, measures.target_of(sample), plan.contexts, plan.horizons)
            for sample in samples
        }

    def compute() -> dict:
        sessions = bench.simulated(name, seed)
        return {"train": of(sessions.training), "new": of(sessions.new)}

    return bench.cache.piece(f"{name}/ceiling-seed{seed}", {"plan": repr(plan)}, compute)


def aligned(bench: Bench, name: str, method: str, seed: int, given: TrialCounts) -> TrainedModel | None:
    """A method's model of a new session of these trials: aligned, or for `single` fitted to them alone."""
    if method == "single":
        return best_of(given, model_config(bench.plan(name), method), bench.single(name, seed))
    return align(fitted(bench, name, method, seed), given, bench.align(seed))


def new_scores(bench: Bench, name: str, method: str, seed: int, n_shots: int) -> dict:
    """{session: {measure: one value a draw of n_shots trials}} of the new sessions."""
    single = method == "single"
    settings = settings_of(bench, name, method, seed) | {"shots": n_shots, "draws": bench.n_draws}
    settings |= (
        {"candidates": [each.model_dump(exclude_unset=True) for each in bench.single(name, seed)]}
        if single
        else {"align": bench.align(seed).model_dump(exclude_unset=True)}
    )

    def compute() -> dict:
        found = {}
        for sample in bench.simulated(name, seed).new:
            runs = []
            for trials in draws(sample.given.n_trials, n_shots, bench.n_draws, seed):
                trained = aligned(bench, name, method, seed, sample.given.select(trials))
                runs.append(scored(bench, name, trained, sample))
                bench.say(f"{name} {method} seed {seed}: {sample.key} from {n_shots} trials, k20 {runs[-1]['k20']:.3f}")
            found[sample.key] = {measure: [run[measure] for run in runs] for measure in runs[0]}
        return found

    return bench.cache.piece(f"{name}/{method}-seed{seed}-new-{n_shots:02d}", settings, compute)


def embedding_figures(train: dict, prefix: str = "") -> dict[str, float]:
    """How well one-dimensional embeddings order the sessions by their parameter."""
    embeddings = np.array([each["embedding"] for each in train.values()])
    parameter = np.array([each["parameters"][0] for each in train.values()])
    if embeddings.shape[1] > 1 or len(parameter) < 3:
        return {}
    return {
        f"{prefix}abs_spearman": measures.abs_spearman(embeddings[:, 0], parameter),
        f"{prefix}spearman_e0": measures.spearman_from_e0(embeddings[:, 0], parameter),
    }


def scores_only(train: dict) -> dict:
    return {key: each["scores"] for key, each in train.items()}


def few_shot(bench: Bench, name: str, seed: int, method: str, shots: tuple[int, ...]) -> dict:
    """Training sessions, and new ones by the number of trials that aligned them."""
    if method == "ceiling":
        return {"sessions": ceiling(bench, name, seed), "figures": {}}
    sessions, figures = {}, {}
    if method != "single":
        train = training_scores(bench, name, method, seed)
        sessions["train"] = scores_only(train)
        figures = {} if method == "shared" else embedding_figures(train)
    for n_shots in shots:
        sessions[str(n_shots)] = new_scores(bench, name, method, seed, n_shots)
    return {"sessions": sessions, "figures": figures}


def motivating(bench: Bench, seed: int, method: str) -> dict:
    """Figs 2-3 and the one-shot of App. A: M = 2, M = 20, speed 4.1 from one trial."""
    one_shot = few_shot(bench, "limit-cycles-20", seed, method, (1,))
    sessions, figures = one_shot["sessions"], one_shot["figures"]
    figures = {f"M20_{name}": value for name, value in figures.items()}
    if "train" in sessions:
        sessions["M20"] = sessions.pop("train")
        pair = few_shot(bench, "limit-cycles-2", seed, method, ())
        sessions["M2"] = pair["sessions"]["train"]
    return {"sessions": sessions, "figures": figures}


def hopf(bench: Bench, seed: int, method: str) -> dict:
    """Fig 10, Table 2."""
    return few_shot(bench, "hopf", seed, method, bench.shots(1, 8))


def duffing_hopf(bench: Bench, seed: int, method: str) -> dict:
    """Fig 4, Table 1."""
    return few_shot(bench, "duffing-hopf", seed, method, bench.shots(1, 2, 4, 8, 16))


def rank(bench: Bench, seed: int, method: str) -> dict:
    """Fig 15: rank_1 is the low_rank model of `hopf`."""
    if method == "ceiling":
        return few_shot(bench, "hopf", seed, method, ())
    return few_shot(bench, "hopf", seed, "low_rank" if method == "rank_1" else method, bench.shots(8))


def small_pretraining(bench: Bench, seed: int, method: str) -> dict:
    """Fig 17's question: does pretraining on few sessions suffice? `sessions_5` is low_rank trained on five of Hopf's."""
    shots = bench.shots(1, 8)
    if not method.startswith("sessions_"):
        return few_shot(bench, "hopf", seed, method, shots)
    name = method.replace("sessions_", "hopf-")
    return few_shot(bench, "hopf" if name == "hopf-21" else name, seed, "low_rank", shots)


def pooled_over_sessions(bench: Bench, name: str, method: str, seed: int) -> dict[str, float]:
    """{"pooled_k20": r² of forecasts over all training sessions together, …} of a method or the true dynamics."""
    plan = bench.plan(name)

    def compute() -> dict:
        trained = None if method == "ceiling" else fitted(bench, name, method, seed)
        kept = []
        for sample in bench.simulated(name, seed).training:
            steps = max(plan.horizons)
            ahead = {at: sample.ahead(at, steps) for at in plan.contexts}
            paths = ahead if trained is None else measures.predicted(trained, sample.test, plan.contexts, steps)
            kept.append((measures.target_of(sample), paths))
        return {
            f"pooled_k{k}": measures.pooled_r2([measures.squares(target, paths, k) for target, paths in kept])
            for k in plan.horizons
        }

    settings = {"plan": repr(plan)} if method == "ceiling" else settings_of(bench, name, method, seed)
    return bench.cache.piece(f"{name}/{method}-seed{seed}-pooled", settings, compute)


def poisson(bench: Bench, seed: int, method: str) -> dict:
    """Sparse spikes: forecasts of rates against the true rates, by session and over sessions together.

    Rates of the slowest limit cycle hardly move in a trial: by session its r² says little, and it weighs as much as the rest.
    """
    sessions, figures = {}, {}
    for n in (8, 20):
        for spikes in SPIKES_A_BIN:
            found = few_shot(bench, f"poisson-{n}-{spikes}", seed, method, ())
            sessions[f"M{n}_{spikes}"] = found["sessions"]["train"]
            pooled = pooled_over_sessions(bench, f"poisson-{n}-{spikes}", method, seed)
            figures |= {f"M{n}_{spikes}_{name}": value for name, value in (found["figures"] | pooled).items()}
    return {"sessions": sessions, "figures": figures}


def generated(bench: Bench, generator: TrainedModel, seed: int) -> list[tuple[TrialCounts, TrialCounts, np.ndarray]]:
    """What the generator makes of each training session: trials to fit and trials to test, and the embedding they follow.

    A trial starts from the state inferred of a simulated one, and goes on with the model's own process noise.
    """
    rng, made = np.random.default_rng(seed), []
    contexts = bench.plan("limit-cycles-20").contexts
    for row, sample in enumerate(bench.simulated("limit-cycles-20", seed).training):
        embedding, _ = measures.embedding_of(generator, sample.given)
        sd = (0.5 * generator.module.likelihood.log_var[row, : sample.given.n_units]).exp().numpy(force=True)
        parts = []
        for counts in (sample.given, sample.test):
            options = {"context": contexts[0], "steps": contexts[-1] + 50, "samples": 1, "embedding": embedding}
            means = forecast(generator, counts, **options, seed=seed)["rate_samples"].values[0] * generator.bin_width
            parts.append(as_trials(counts, means + sd * rng.standard_normal(means.shape, np.float32)))
        made.append((*parts, embedding))
    return made


def as_trials(like: TrialCounts, values: np.ndarray) -> TrialCounts:
    """Other observations (trial, time, unit) of the units of a session."""
    start, n_bins = like.windows.start, np.full(len(values), values.shape[1])
    windows = Windows(start, n_bins, like.bin_width, like.windows.table, like.windows.row)
    return replace(like, counts=values.astype(np.float32), observed=np.ones(values.shape[:2], bool), windows=windows)


def no_mismatch(bench: Bench, seed: int, method: str) -> dict:
    """Fig 9: a model fitted to what a model of its kind generated, beside the generator itself."""
    name = "limit-cycles-20"
    plan = bench.plan(name)

    def compute() -> dict:
        generator = fitted(bench, name, "low_rank", seed)
        made = generated(bench, generator, seed)
        given = [each for each, _, _ in made]
        models = {"low_rank": refitted(bench, name, seed, generator, given), "generator": generator}
        found: dict = {"true_embedding": [embedding.tolist() for _, _, embedding in made]}
        for key, model in models.items():
            found[key] = {
                test.session: measures.model_r2(model, test, test.counts, plan.contexts, plan.horizons) for _, test, _ in made
            }
        found["embedding"] = [measures.embedding_of(models["low_rank"], test)[0].tolist() for _, test, _ in made]
        return found

    found = bench.cache.piece(f"no-mismatch/seed{seed}", settings_of(bench, name, "low_rank", seed), compute)
    own, true = (np.array(found[key])[:, 0] for key in ("embedding", "true_embedding"))
    figures = {"abs_spearman": measures.abs_spearman(own, true)} if method == "low_rank" else {}
    return {"sessions": {"train": found[method]}, "figures": figures}


def embedding_vs_bins(bench: Bench, seed: int, method: str) -> dict:
    """Fig 10B: q(e) of the first bins of test trials: its SD over trials [SD between sessions], |Spearman| with mu."""

    def compute() -> dict:
        trained, found = fitted(bench, "hopf", method, seed), {}
        samples = bench.simulated("hopf", seed).training
        parameter = np.array([sample.truth.parameters["mu"] for sample in samples])
        for n_bins in (bins for bins in BINS_SEEN if bins <= bench.plan("hopf").bins):
            each = [trial_embeddings(trained, sample.test, context=n_bins).mean[0, :, 0].numpy() for sample in samples]
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
    return {"sessions": {}, "figures": {name: {bins: each[name] for bins, each in found.items()} for name in names}}


def embedding_vs_trials(bench: Bench, seed: int, method: str) -> dict:
    """Fig 14: e by n_s: distance to that of all trials, SD over disjoint draws, and the SD reported [SD between sessions].

    `low_rank`: the search, on new sessions. `product`: the encoder's q(e) of the test trials of training sessions, multiplied.
    """
    name = "duffing-hopf"
    shots, n_draws = bench.shots(1, 2, 4, 8, 16), 2 if bench.quick else 4

    def compute() -> dict:
        trained, found = fitted(bench, name, "low_rank", seed), {}
        sessions = bench.simulated(name, seed)
        for sample in sessions.new if method == "low_rank" else sessions.training:
            counts, runs = sample.given if method == "low_rank" else sample.test, {}
            of = searched(bench, trained, counts, seed) if method == "low_rank" else multiplied(trained, counts)
            for n_shots in (*shots, counts.n_trials):
                runs[str(n_shots)] = [of(trials) for trials in draws(counts.n_trials, n_shots, n_draws, seed)]
            found[sample.key] = runs
            bench.say(f"embedding-vs-trials {method} seed {seed}: {sample.key}")
        return found

    settings = settings_of(bench, name, "low_rank", seed) | {"shots": shots, "align": bench.align(seed).model_dump()}
    found = bench.cache.piece(f"embedding-vs-trials/{method}-seed{seed}", settings, compute)
    train = training_scores(bench, name, "low_rank", seed)
    between = np.array([each["embedding"] for each in train.values()]).std(0)
    figures: dict = {"distance": {}, "spread": {}, "sd": {}}
    for n_shots in map(str, shots):
        values = [spreads(runs[n_shots], runs[max(runs, key=int)][0]["mean"], between) for runs in found.values()]
        for figure in figures:
            figures[figure][n_shots] = float(np.mean([each[figure] for each in values]))
    return {"sessions": {}, "figures": figures}


def spreads(draws: list[dict], reference: list[float], between: np.ndarray) -> dict[str, float]:
    """Of embeddings {"mean", "sd"} from disjoint draws [between]: mean distance to `reference`, SD over draws, SD reported."""
    mean, sd = (np.array([each[key] for each in draws]) / between for key in ("mean", "sd"))
    return {
        "distance": np.sqrt(((mean - np.array(reference) / between) ** 2).sum(1)).mean(),
        "spread": np.sqrt(mean.var(0, ddof=1).sum()),
        "sd": np.sqrt((sd**2).sum(1)).mean(),
    }


def searched(bench: Bench, trained: TrainedModel, counts: TrialCounts, seed: int) -> Callable[[np.ndarray], dict]:
    """Mean and SD of e of a new session, by trials that align it."""
    only_search = bench.align(seed).model_copy(update={"steps": 0})  # steps on the ELBO leave the embedding as it is

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


def calibrated_model(bench: Bench, name: str, method: str, seed: int) -> TrainedModel:
    """A method's model, its forecast noise chosen on the validation trials of its training sessions, as `fit` does."""
    trained, sessions = fitted(bench, name, method, seed), [sample.given for sample in bench.simulated(name, seed).training]
    return calibrated(trained, split_sessions(sessions, trained.training.validation_fraction, seed)[1])


def coverage(bench: Bench, seed: int, method: str) -> dict:
    """Forecast intervals of new sessions aligned from 8 trials: share of test observations inside, 1 to 30 bins ahead.

    As `fit` calibrates them, and "uncalibrated", with the process noise of the ELBO.
    """
    n_shots, figures = bench.shots(8)[-1], {}
    for name in FAMILIAR:

        def compute(name: str = name) -> dict:
            trained, found = calibrated_model(bench, name, method, seed), {}
            bench.say(f"coverage {name} seed {seed}: process noise times {trained.noise_scale:.2f}")
            for sample in bench.simulated(name, seed).new:
                trials = draws(sample.given.n_trials, n_shots, 1, seed)[0]
                model = align(trained, sample.given.select(trials), bench.align(seed))
                contexts, n_samples = bench.plan(name).contexts, 50 if bench.quick else 200
                found[sample.key] = {"noise_scale": trained.noise_scale}
                for prefix, scale in (("", trained.noise_scale), ("uncalibrated_", 1.0)):
                    told = replace(model, noise_scale=scale)
                    covered = measures.interval_coverage(told, sample, contexts, 30, seed, n_samples)
                    found[sample.key] |= {prefix + kind: levels for kind, levels in covered.items()}
                bench.say(f"coverage {name} seed {seed}: {sample.key} {found[sample.key]['observations']}")
            return found

        settings = settings_of(bench, name, method, seed) | {"align": bench.align(seed).model_dump(exclude_unset=True)}
        found = bench.cache.piece(f"coverage/{name}-{method}-seed{seed}", settings, compute)
        figures[f"{name}_noise_scale"] = next(iter(found.values()))["noise_scale"]
        for kind in (prefix + kind for prefix in ("", "uncalibrated_") for kind in ("observations", "means")):
            levels = [each[kind] for each in found.values()]
            figures[f"{name}_{kind}"] = {level: float(np.mean([each[level] for each in levels])) for level in levels[0]}
    return {"sessions": {}, "figures": figures}


EXPERIMENTS = {
    "motivating": Experiment(
        motivating.__doc__, (*MULTI_SESSION, "single", "ceiling"), motivating, ("limit-cycles-2", "limit-cycles-20")
    ),
    "no-mismatch": Experiment(no_mismatch.__doc__, ("low_rank", "generator"), no_mismatch, ("no-mismatch",)),
    "hopf": Experiment(hopf.__doc__, (*MULTI_SESSION, "single", "ceiling"), hopf, ("hopf",)),
    "duffing-hopf": Experiment(duffing_hopf.__doc__, (*MULTI_SESSION, "single", "ceiling"), duffing_hopf, ("duffing-hopf",)),
    "embedding-vs-bins": Experiment(embedding_vs_bins.__doc__, ("low_rank",), embedding_vs_bins, ("embedding-vs-bins",)),
    "embedding-vs-trials": Experiment(
        embedding_vs_trials.__doc__, ("low_rank", "product"), embedding_vs_trials, ("embedding-vs-trials",)
    ),
    "rank": Experiment(rank.__doc__, ("rank_1", "rank_2", "rank_4", "rank_8", "ceiling"), rank, ()),
    "small-pretraining": Experiment(
        small_pretraining.__doc__,
        ("sessions_2", "sessions_5", "sessions_10", "sessions_21", "single", "ceiling"),
        small_pretraining,
        ("hopf-2", "hopf-5", "hopf-10"),
    ),
    "poisson": Experiment(
        poisson.__doc__,
        ("low_rank", "shared", "ceiling"),
        poisson,
        tuple(f"poisson-{n}-{spikes}" for n in (8, 20) for spikes in SPIKES_A_BIN),
    ),
    "coverage": Experiment(coverage.__doc__, ("low_rank",), coverage, ("coverage",)),
}
