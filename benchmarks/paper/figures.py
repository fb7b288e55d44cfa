"""The figures of an experiment: flows, embeddings, forecasts, and how well each method does with
how many trials.

Models and sessions are those of the first seed; learnt flows are drawn in the true coordinates,
through the affine map that regresses the true latents on the inferred ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from benchmarks.paper.experiments import FAMILIAR
from benchmarks.paper.few_shot import aligned
from benchmarks.paper.measures import embedding_of
from benchmarks.paper.methods import Bench, fitted
from benchmarks.paper.sets import Sample, draws
from benchmarks.paper.table import table
from metadyn.data.families import TIME_STEP, noise_free
from metadyn.inference.forecast import forecast
from metadyn.inference.infer import infer
from metadyn.model.trained import TrainedModel

# Okabe and Ito's colours, which the colour-blind can tell apart, and a marker each.
STYLES = {
    "low_rank": ("#0072B2", "o"),
    "linear": ("#E69F00", "s"),
    "input": ("#009E73", "^"),
    "shared": ("#999999", "v"),
    "single": ("#D55E00", "D"),
}
SPARE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # for processes and numbers of sessions
FLOOR = -0.5  # of axes of r²: what lies below is drawn at the edge
UNITS = {"limit-cycle": "speed [rad per unit time]", "hopf": "μ", "duffing": "b"}
SEEN = 100  # bins of context in drawn forecasts, or a third of the trial


def draw(name: str, bench: Bench, found: dict[int, dict[str, dict]], folder: Path) -> None:
    """PNGs of one experiment, NAME-*.png, into a folder."""
    seed, figures, rows = next(iter(found)), {}, table(found)
    if name in SETS:
        figures = of_set(bench, SETS[name], seed)
    if name in BY_N:
        figures["by-n"] = by_shots(rows, BY_N[name])
    if name in OWN:
        figures[OWN[name][0]] = OWN[name][1](rows)
    folder.mkdir(parents=True, exist_ok=True)
    for key, figure in figures.items():
        save(figure, folder / f"{name}-{key}.png")


def save(figure: Figure, path: Path) -> None:
    """With a palette of 64 colours, which keeps a file of streamlines small."""
    from PIL import Image

    figure.savefig(path, dpi=110)
    with Image.open(path) as image:
        image.convert("RGB").quantize(64).save(path, optimize=True)


def of_set(bench: Bench, name: str, seed: int) -> dict[str, Figure]:
    """Flows, embeddings and forecasts of the low-rank model of a set, with its new sessions aligned
    from 8 trials."""
    trained, sessions = fitted(bench, name, "low_rank", seed), bench.simulated(name, seed)
    n_shots = 1 if name == "limit-cycles-20" else bench.shots(8)[-1]
    models = []
    for sample in sessions.new:
        trials = draws(sample.given.n_trials, n_shots, 1, seed)[0]
        models.append(aligned(bench, name, "low_rank", seed, sample.given.select(trials)))
    known = [
        sessions.training[i] for i in np.linspace(0, len(sessions.training) - 1, 4).astype(int)
    ]
    shown = [(trained, sample) for sample in known]
    new = list(zip(models, sessions.new, strict=True))
    return {
        "flows": flows([*shown[: 4 - min(2, len(new))], *new[:2]], n_shots),
        "embeddings": embeddings([(trained, sample) for sample in sessions.training], new),
        "forecasts": forecasts([shown[-1], new[0]]),
    }


def titled(sample: Sample, n_shots: int) -> str:
    parameters = ", ".join(
        f"{name} = {value:.2g}" for name, value in sample.truth.parameters.items()
    )
    trials = f"\nnew, {n_shots} trial{'s' * (n_shots > 1)}" if sample.key.startswith("new-") else ""
    return f"{sample.truth.family}, {parameters}{trials}"


def into_truth(trained: TrainedModel, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The affine map x ≈ z A + b, by least squares over test trials: A (latent, latent), b
    (latent,)."""
    z = infer(trained, sample.test)["latent_mean"].values.reshape(-1, 2)
    z = np.concatenate([z, np.ones((len(z), 1))], 1)
    solved = np.linalg.lstsq(z, sample.latents.reshape(-1, 2), rcond=None)[0]
    return solved[:2], solved[2]


@torch.no_grad()
def learnt_step(trained: TrainedModel, sample: Sample, points: np.ndarray) -> np.ndarray:
    """One step of the learnt dynamics at true states (point, latent), less the state, in true
    coordinates."""
    turn, offset = into_truth(trained, sample)
    z = torch.from_numpy(((points - offset) @ np.linalg.inv(turn)).astype(np.float32))[None, None]
    embedding, _ = embedding_of(trained, sample.test)
    told = torch.as_tensor(embedding, dtype=torch.float32)[None, None]
    transition = trained.module.transition(told, torch.tensor([trained.index(sample.key)]))
    return transition.mean(z)[0, 0].numpy() @ turn + offset - points


def flows(shown: list[tuple[TrainedModel, Sample]], n_shots: int) -> Figure:
    """True flow above the learnt one, session by session."""
    figure = Figure(figsize=(2.6 * len(shown), 6.2), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, (trained, sample) in enumerate(shown):
        low, high = np.quantile(sample.latents.reshape(-1, 2), [0.01, 0.99], axis=0) * 1.15
        x, y = np.linspace(low[0], high[0], 21), np.linspace(low[1], high[1], 21)
        points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        true = noise_free(sample.truth.family, sample.truth.parameters, points, 1)[:, 0] - points
        steps = (true, learnt_step(trained, sample, points))
        speeds = Normalize(0, np.quantile(np.hypot(*true.T), 0.98) / TIME_STEP)
        for axis, step, kind in zip(axes[:, column], steps, ("true", "learnt"), strict=True):
            u, v = (step / TIME_STEP).T.reshape(2, 21, 21)
            style = {
                "cmap": "viridis",
                "norm": speeds,
                "density": 0.8,
                "linewidth": 0.9,
                "arrowsize": 0.7,
            }
            drawn = axis.streamplot(x, y, u, v, color=np.hypot(u, v), **style)
            axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel="x1 [a.u.]")
            axis.set_ylabel(f"{kind} flow\nx2 [a.u.]" if column == 0 else "")
        axes[0, column].set_title(titled(sample, n_shots), fontsize=9)
        label = "speed [a.u. per unit time]" if column == len(shown) - 1 else ""
        figure.colorbar(drawn.lines, ax=axes[:, column], location="bottom", shrink=0.8, label=label)
    return figure


def embeddings(
    known: list[tuple[TrainedModel, Sample]], new: list[tuple[TrainedModel, Sample]]
) -> Figure:
    """Embeddings of training sessions, and of new ones as stars, by what sets their dynamics
    apart."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axis = figure.subplots()
    places = [embedding_of(trained, sample.test)[0] for trained, sample in [*known, *new]]
    samples = [sample for _, sample in [*known, *new]]
    if len(places[0]) == 1:
        along_parameter(axis, np.array(places)[:, 0], samples)
    else:
        in_plane(figure, axis, np.array(places), samples)
    return figure


def values_of(samples: list[Sample], family: str) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Indices of a family's samples, their last parameter, and which are new."""
    rows = [i for i, sample in enumerate(samples) if sample.truth.family == family]
    values = np.array([list(samples[i].truth.parameters.values())[-1] for i in rows])
    return rows, values, np.array([samples[i].key.startswith("new-") for i in rows], bool)


def along_parameter(axis, places: np.ndarray, samples: list[Sample]) -> None:
    family = samples[0].truth.family
    _, values, new = values_of(samples, family)
    axis.plot(values[~new], places[~new], "o", color="#0072B2", label="training sessions")
    axis.plot(values[new], places[new], "*", ms=14, color="#D55E00", label="new sessions")
    axis.set(xlabel=f"{family}: {UNITS[family]}", ylabel="dynamical embedding e [a.u.]")
    axis.legend(frameon=False)


def in_plane(figure: Figure, axis, places: np.ndarray, samples: list[Sample]) -> None:
    maps = {"duffing": ("o", "viridis"), "hopf": ("s", "cividis"), "limit-cycle": ("o", "viridis")}
    for family in dict.fromkeys(sample.truth.family for sample in samples):
        rows, values, new = values_of(samples, family)
        marker, colours = maps[family]
        limits = {
            "vmin": values.min(),
            "vmax": values.max(),
            "cmap": colours,
            "edgecolors": "k",
            "linewidths": 0.5,
        }
        x, y = places[rows].T
        dots = axis.scatter(
            x[~new], y[~new], c=values[~new], marker=marker, s=45, label=family, **limits
        )
        if new.any():
            axis.scatter(
                x[new], y[new], c=values[new], marker="*", s=220, label=f"new {family}", **limits
            )
        figure.colorbar(dots, ax=axis, label=f"{family}: {UNITS[family]}", pad=0.03)
    axis.set(xlabel="embedding e1 [a.u.]", ylabel="embedding e2 [a.u.]")
    axis.legend(frameon=False, fontsize=8)


def forecasts(shown: list[tuple[TrainedModel, Sample]]) -> Figure:
    """One trial a session: the unit that varies most, observed, forecast, and as the true dynamics
    go on without noise."""
    figure = Figure(figsize=(5 * len(shown), 3.2), layout="constrained")
    for axis, (trained, sample) in zip(
        figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True
    ):
        trial, n_bins, width = 0, sample.test.counts.shape[1], sample.test.bin_width
        context = min(SEEN, n_bins // 3)
        unit = int(sample.means[trial].std(0).argmax())
        ahead = forecast(
            trained, sample.test.select([trial]), context=context, steps=n_bins - context
        )
        time = (np.arange(n_bins) + 0.5) * width
        axis.plot(time, sample.test.counts[trial, :, unit], color="0.7", lw=0.8, label="observed")
        axis.plot(
            time[context:],
            sample.ahead(context, n_bins - context)[trial, :, unit],
            "k--",
            lw=1.2,
            label="true, no noise",
        )
        axis.plot(
            time[context:],
            ahead["rate_mean"].values[0, :, unit] * width,
            color="#0072B2",
            lw=1.8,
            label="forecast",
        )
        axis.axvline(context * width, color="0.5", lw=0.8, ls=":")
        axis.set(xlabel="time in the trial [s]", ylabel="observation of one unit [a.u.]")
        axis.set_title(
            titled(sample, 8).partition("\n")[0]
            + (", new" if sample.key.startswith("new-") else ""),
            fontsize=9,
        )
        axis.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    return figure


def errorbar(axis, x, pairs: list[list], label: str, style: tuple[str, str]) -> None:
    mean = np.array([pair[0] for pair in pairs])
    sem = np.array([pair[1] or 0.0 for pair in pairs])
    color, marker = style
    axis.errorbar(
        x, np.maximum(mean, FLOOR), sem, color=color, marker=marker, label=label, capsize=2, lw=1.6
    )


def style_of(method: str, place: int) -> tuple[str, str]:
    return STYLES.get(method, (SPARE[place % len(SPARE)], "osDv"[place % 4]))


def fit_axis(axis, **labels: str) -> None:
    """An axis of r² from the lowest value drawn, but no lower than FLOOR, to 1; a line at 0 where
    that is inside."""
    low = max(FLOOR, axis.dataLim.y0)
    axis.set(ylim=(low - 0.05, 1.02), **labels)
    if low < 0:
        axis.axhline(0, color="0.8", lw=0.6, zorder=0)


def by_shots(rows: dict, measures: tuple[str, ...]) -> Figure:
    """r² of new sessions by the number of trials they were aligned from, the true dynamics
    dashed."""
    figure = Figure(figsize=(4.2 * len(measures), 3.6), layout="constrained")
    for axis, measure in zip(
        figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True
    ):
        for place, (method, values) in enumerate(rows.items()):
            if method == "ceiling":
                axis.axhline(values[measure][0], color="k", ls="--", lw=1, label="true dynamics")
            elif measure in values:
                shots = [int(n) for n in values[measure]]
                errorbar(
                    axis, shots, list(values[measure].values()), method, style_of(method, place)
                )
                axis.set_xscale("log", base=2)
                axis.set_xticks(shots, [str(n) for n in shots])
        name = (
            "reconstruction r²"
            if measure == "rec"
            else f"r² of forecasts up to {measure[1:]} bins ahead"
        )
        fit_axis(axis, xlabel="trials that aligned a new session", ylabel=name)
    figure.axes[-1].legend(frameon=False, fontsize=8)
    return figure


def of_training(rows: dict) -> Figure:
    """Training sessions: reconstruction and forecasts, method by method."""
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axis = figure.subplots()
    names = ["rec", "k10", "k20", "k30", "k50"]
    for place, (method, values) in enumerate(rows.items()):
        if f"train_{names[0]}" not in values:
            continue
        pairs = [values[f"train_{name}"] for name in names]
        if method in ("ceiling", "generator"):
            axis.plot(range(len(names)), [pair[0] for pair in pairs], "k--", lw=1, label=method)
        else:
            errorbar(axis, range(len(names)), pairs, method, style_of(method, place))
    axis.set_xticks(
        range(len(names)), ["reconstruction", *[f"{name[1:]} bins" for name in names[1:]]]
    )
    fit_axis(axis, ylabel="r², training sessions")
    axis.legend(frameon=False, fontsize=8)
    return figure


def lines(axes, values: dict, names: tuple[str, ...], xlabel: str) -> None:
    """One axis a figure that is kept by number."""
    for axis, name in zip(axes, names, strict=True):
        x = [int(n) for n in values[name]]
        errorbar(axis, x, list(values[name].values()), name, STYLES["low_rank"])
        axis.set_xscale("log", base=2)
        axis.set_xticks(x, [str(n) for n in x])
        axis.set(xlabel=xlabel)


def of_bins(rows: dict) -> Figure:
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    lines(axes, rows["low_rank"], ("spread", "abs_spearman_of_trials"), "bins seen of a test trial")
    axes[0].set_ylabel("SD of e over trials [SD between sessions]")
    axes[1].set(ylabel="|Spearman| of a trial's e with μ", ylim=(0, 1.05))
    return figure


def of_trials(rows: dict) -> Figure:
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    titles = {
        "low_rank": "search, new sessions",
        "product": "encoder, product of trials, training sessions",
    }
    for axis, (method, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for name, label, style in (
            ("distance", "distance of e to that of all trials", STYLES["low_rank"]),
            ("spread", "SD of e over disjoint draws", STYLES["shared"]),
            ("sd", "SD that the model reports", STYLES["single"]),
        ):
            values = rows[method][name]
            x = [int(n) for n in values]
            errorbar(axis, x, list(values.values()), label, style)
        axis.set_xscale("log", base=2)
        axis.set_xticks(x, [str(n) for n in x])
        axis.set(
            title=title, xlabel="trials", ylabel="[SD between training sessions]", ylim=(0, None)
        )
        axis.legend(frameon=False)
    return figure


def of_poisson(rows: dict) -> Figure:
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    for axis, n in zip(figure.subplots(1, 2, sharey=True), (8, 20), strict=True):
        for method, values in rows.items():
            spikes = sorted(
                float(key.split("_")[1])
                for key in values
                if key.startswith(f"M{n}_") and key.endswith("_at_k20")
            )
            pairs = [values[f"M{n}_{each}_at_k20"] for each in spikes]
            if method == "ceiling":
                axis.plot(spikes, [pair[0] for pair in pairs], "k--", lw=1, label="true dynamics")
            else:
                errorbar(axis, spikes, pairs, method, STYLES[method])
        axis.set_xscale("log")
        axis.set_xticks(spikes, [str(each) for each in spikes])
        axis.set_xticks([], minor=True)
        fit_axis(axis, xlabel="mean spikes a unit a bin", title=f"{n} limit cycles")
    figure.axes[0].set_ylabel("r² of rates 20 bins ahead")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def of_coverage(rows: dict) -> Figure:
    figure, kinds = Figure(figsize=(7.6, 3.8), layout="constrained"), ("observations", "means")
    for axis, name in zip(figure.subplots(1, 2, sharey=True), FAMILIAR, strict=True):
        for place, kind in enumerate([*kinds, *[f"uncalibrated_{kind}" for kind in kinds]]):
            values = rows["low_rank"][f"{name}_{kind}"]
            mean = np.array([pair[0] for pair in values.values()])
            sem = np.array([pair[1] or 0.0 for pair in values.values()])
            style = {"color": SPARE[place], "marker": "osDv"[place], "capsize": 2}
            axis.errorbar(
                [int(level) for level in values], mean, sem, label=kind.replace("_", " "), **style
            )
        axis.plot([45, 100], [45, 100], "k--", lw=1)
        axis.set(title=name, xlabel="nominal coverage [%]", xlim=(45, 100), ylim=(40, 102))
    figure.axes[0].set_ylabel("coverage of test trials [%]")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


SETS = {
    "motivating": "limit-cycles-20",
    "hopf": "hopf",
    "duffing-hopf": "duffing-hopf",
}  # whose flows are drawn
BY_N = {  # measures of new sessions that are drawn by n_s
    "hopf": ("rec", "k20"),
    "duffing-hopf": ("rec", "k30"),
    "small-pretraining": ("k20",),
}
OWN = {
    "motivating": ("training", lambda rows: of_training(with_train(rows, "M20"))),
    "hopf": ("training", of_training),
    "duffing-hopf": ("training", of_training),
    "rank": ("training", of_training),
    "no-mismatch": ("training", of_training),
    "embedding-vs-bins": ("spread", of_bins),
    "embedding-vs-trials": ("distance", of_trials),
    "poisson": ("rates", of_poisson),
    "coverage": ("levels", of_coverage),
}


def with_train(rows: dict, prefix: str) -> dict:
    """The figures of one set of training sessions under the names that `of_training` draws."""
    return {
        method: {
            name.replace(f"{prefix}_", "train_"): value
            for name, value in values.items()
            if name.startswith(f"{prefix}_")
        }
        for method, values in rows.items()
    }
