"""The results of the demo as one figure.

Top: embeddings against true speeds; r² of forecasts with embedding-conditioned and with shared
dynamics. Bottom: the learnt flow of the slowest and of the fastest training session; the forecast
of one unit of the new session. Blue is the model, red the new session, grey shared dynamics.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from metadyn.pipeline.demo import HORIZONS, SHOTS, DemoResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEW_SESSION = f"new session, {SHOTS} trials"  # in the legends


def draw(result: DemoResult, path: str | Path) -> Path:
    """Draw the figure and write it to a file.

    Parameters
    ----------
    result : of `metadyn.pipeline.demo.demo`.
    path : of the picture; its suffix says the format, e.g. .png or .pdf.

    Returns
    -------
    The path.

    Raises
    ------
    ModuleNotFoundError : matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    left, right = top.subplots(1, 2)
    _embeddings(left, result)
    _forecasts(right, result)
    slow, fast, new = bottom.subplots(1, 3, width_ratios=[1, 1, 1.8])
    order = np.argsort(result.speeds[:-1])
    _flow(slow, result, int(order[0]), "slowest")
    _flow(fast, result, int(order[-1]), "fastest")
    _example(new, result)
    figure.savefig(path, dpi=130)
    return Path(path)


def _embeddings(axis: Axes, result: DemoResult) -> None:
    """Each session's embedding against its true speed; the new session is a star."""
    speeds, embeddings = result.speeds, result.embeddings
    axis.plot(speeds[:-1], embeddings[:-1], "o", color="C0", label="training sessions")
    axis.plot(speeds[-1], embeddings[-1], "*", ms=14, color="C3", label=NEW_SESSION)
    axis.set(
        xlabel="true speed of the session",
        ylabel="dynamical embedding",
        title=f"Spearman {result.spearman:+.2f}",
    )
    axis.legend(frameon=False)


def _forecasts(axis: Axes, result: DemoResult) -> None:
    """r² of forecast rates by the bins ahead: a thin line a session, a thick one for their mean."""
    _sessions_and_mean(axis, result.low_rank[:-1], "embedding-conditioned", "C0")
    _sessions_and_mean(axis, result.shared[:-1], "shared dynamics", "0.5")
    axis.plot(HORIZONS, result.low_rank[-1], "*-", ms=12, color="C3", label=NEW_SESSION)
    axis.axhline(0, color="k", lw=0.6)  # the score of a trial's mean rate
    axis.set(
        xlabel="bins ahead",
        ylabel="r² of forecast rates",
        ylim=(-2, 1.02),
        xticks=HORIZONS,
        title="Forecasts of test trials",
    )
    axis.legend(frameon=False, loc="lower left")


def _sessions_and_mean(axis: Axes, values: np.ndarray, name: str, color: str) -> None:
    """Lines of values (session, horizon) and of their mean over sessions, which has the name."""
    axis.plot(HORIZONS, values.T, color=color, alpha=0.25, lw=1)
    axis.plot(HORIZONS, values.mean(0), "o-", color=color, lw=2.5, label=name)


def _flow(axis: Axes, result: DemoResult, row: int, name: str) -> None:
    """Streamlines of the dynamics that the embedding of one session gives, in both latents.

    Their colour is the length of a step from one bin to the next.

    Parameters
    ----------
    result : with the model and the embeddings.
    row : of the session, among those of the result and of the model.
    name : of the session, for the title.
    """
    grid = _latent_grid(result)
    step = _steps_from(result, row, grid)
    u, v = step[..., 0], step[..., 1]
    speed = np.hypot(u, v)
    axis.streamplot(
        grid, grid, u, v, density=0.9, color=speed, cmap="viridis", linewidth=1, arrowsize=0.8
    )
    axis.set(
        title=f"learnt flow, {name} (speed {result.speeds[row]:.2g})",
        xlabel="latent 0",
        ylabel="latent 1",
        aspect="equal",
    )


def _latent_grid(result: DemoResult) -> np.ndarray:
    """Coordinates of a grid on either latent (21,), up to 2.2 SD of the latents of training."""
    reach = 2.2 * float(result.model.shared_latents.latent_sd.mean())
    return np.linspace(-reach, reach, 21)


def _steps_from(result: DemoResult, row: int, grid: np.ndarray) -> np.ndarray:
    """The mean step of the dynamics, one bin ahead, from each point of a grid (21, 21, latent).

    The first axis of the grid is that of latent 1, as `streamplot` takes it.
    """
    import torch

    points = np.stack(np.meshgrid(grid, grid), -1).astype(np.float32)
    embedding = torch.full((1, 1, 1), float(result.embeddings[row]))  # (session, trial, embedding)
    transition = result.model.module.cpu().transition(embedding, torch.tensor([row]))
    with torch.no_grad():
        z = torch.from_numpy(points.reshape(1, 1, -1, 2))  # (session, trial, point, latent)
        return (transition.mean(z) - z).numpy().reshape(points.shape)


def _example(axis: Axes, result: DemoResult) -> None:
    """True rate, forecast and spikes of one unit; a dashed line where the forecast begins."""
    shown = result.example
    ahead, highest = shown["ahead"], shown["true"].max()
    axis.plot(shown["time"], shown["true"], "k", lw=1.5, label="true rate")
    between, band = (shown["low"], shown["high"]), "90 % of sampled rates"
    axis.fill_between(ahead, *between, color="C3", alpha=0.2, lw=0, label=band)
    axis.plot(ahead, shown["mean"], color="C3", lw=2, label="forecast")
    spikes = shown["time"][shown["counts"] > 0]
    axis.plot(spikes, np.full(len(spikes), -0.06 * highest), "|", color="0.4", label="spikes")
    axis.axvline(ahead[0], color="0.6", ls="--", lw=1)
    axis.set(
        xlabel="time in the trial [s]",
        ylabel="rate [Hz]",
        title="One unit of the new session, one test trial",
    )
    axis.set_ylim(top=1.35 * highest)  # room for the legend
    axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
