"""The demo in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metadyn.pipeline.demo import HORIZONS, SHOTS, DemoResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(result: DemoResult, path: str | Path) -> Path:
    """Draw embeddings, forecasts, two learnt flows and one forecast of the new session."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1))
    left, right = top.subplots(1, 2)
    _embeddings(left, result)
    _forecasts(right, result)
    axes = bottom.subplots(1, 3, width_ratios=[1, 1, 1.8])
    order = np.argsort(result.speeds[:-1])
    for axis, row, name in ((axes[0], order[0], "slowest"), (axes[1], order[-1], "fastest")):
        _flow(axis, result, int(row), name)
    _example(axes[2], result)
    figure.savefig(path, dpi=130)
    return Path(path)


def _embeddings(axis: Axes, result: DemoResult) -> None:
    axis.plot(
        result.speeds[:-1], result.embeddings[:-1], "o", color="C0", label="training sessions"
    )
    axis.plot(
        result.speeds[-1],
        result.embeddings[-1],
        "*",
        ms=14,
        color="C3",
        label=f"new session, {SHOTS} trials",
    )
    axis.set(
        xlabel="true speed of the session",
        ylabel="dynamical embedding",
        title=f"Spearman {result.spearman:+.2f}",
    )
    axis.legend(frameon=False)


def _forecasts(axis: Axes, result: DemoResult) -> None:
    for values, name, color in (
        (result.low_rank, "embedding-conditioned", "C0"),
        (result.shared, "shared dynamics", "0.5"),
    ):
        axis.plot(HORIZONS, values[:-1].T, color=color, alpha=0.25, lw=1)
        axis.plot(HORIZONS, values[:-1].mean(0), "o-", color=color, lw=2.5, label=name)
    axis.plot(
        HORIZONS, result.low_rank[-1], "*-", ms=12, color="C3", label=f"new session, {SHOTS} trials"
    )
    axis.axhline(0, color="k", lw=0.6)
    axis.set(
        xlabel="bins ahead",
        ylabel="r² of forecast rates",
        ylim=(-2, 1.02),
        xticks=HORIZONS,
        title="Forecasts of test trials",
    )
    axis.legend(frameon=False, loc="lower left")


def _flow(axis: Axes, result: DemoResult, row: int, name: str) -> None:
    import torch

    reach = 2.2 * float(result.model.shared_latents.latent_sd.mean())
    grid = np.linspace(-reach, reach, 21)
    points = np.stack(np.meshgrid(grid, grid), -1).astype(np.float32)
    embedding = torch.full((1, 1, 1), float(result.embeddings[row]))
    transition = result.model.module.cpu().transition(embedding, torch.tensor([row]))
    with torch.no_grad():
        z = torch.from_numpy(points.reshape(1, 1, -1, 2))
        step = (transition.mean(z) - z).numpy().reshape(points.shape)
    speed = np.hypot(step[..., 0], step[..., 1])
    axis.streamplot(
        grid,
        grid,
        step[..., 0],
        step[..., 1],
        color=speed,
        cmap="viridis",
        density=0.9,
        linewidth=1,
        arrowsize=0.8,
    )
    axis.set(
        title=f"learnt flow, {name} (speed {result.speeds[row]:.2g})",
        xlabel="latent 0",
        ylabel="latent 1",
        aspect="equal",
    )


def _example(axis: Axes, result: DemoResult) -> None:
    shown = result.example
    axis.plot(shown["time"], shown["true"], "k", lw=1.5, label="true rate")
    axis.fill_between(
        shown["ahead"],
        shown["low"],
        shown["high"],
        color="C3",
        alpha=0.2,
        lw=0,
        label="90 % of sampled rates",
    )
    axis.plot(shown["ahead"], shown["mean"], color="C3", lw=2, label="forecast")
    spikes = shown["time"][shown["counts"] > 0]
    axis.plot(
        spikes, np.full(len(spikes), -0.06 * shown["true"].max()), "|", color="0.4", label="spikes"
    )
    axis.axvline(shown["ahead"][0], color="0.6", ls="--", lw=1)
    axis.set(
        xlabel="time in the trial [s]",
        ylabel="rate [Hz]",
        title="One unit of the new session, one test trial",
    )
    axis.set_ylim(top=1.35 * shown["true"].max())
    axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
