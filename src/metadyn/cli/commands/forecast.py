"""`metadyn forecast`: latents and rates after the first bins of each window.

The model sees the spikes of the first bins (--context) alone; after them its dynamics run on
freely. Windows of no more bins than these have no forecast, and are counted in a note.

In Python: `metadyn.forecast("model", "day1.nwb", context=25, steps=20)`, which gives the same
xarray Dataset as the NetCDF file holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

import metadyn
from metadyn.cli.console import out, rows, say
from metadyn.cli.options import Device, File, Model, chosen, config_flags
from metadyn.cli.progress import working

if TYPE_CHECKING:
    import xarray as xr


@config_flags("data")
def forecast(
    model: Model,
    file: File,
    context: Annotated[int, typer.Option(min=1, help="bins that are seen")],
    steps: Annotated[int, typer.Option(min=1, help="bins to forecast")] = 20,
    samples: Annotated[
        int, typer.Option(min=0, help="sampled paths, for a forecast with an SD")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="seed of the samples")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="NetCDF file (.nc); default: a table on the screen"),
    ] = None,
    device: Device = "auto",
    *,
    flags: dict,
) -> None:
    """Forecast latents and rates from the first bins of each window.

    Example: [bold]metadyn forecast model day1.nwb --context 25 --steps 20 -o ahead.nc[/bold]
    """
    with working("forecasting"):
        ahead = metadyn.forecast(
            model,
            file,
            context=context,
            steps=steps,
            samples=samples,
            seed=seed,
            data=chosen(flags),
            device=device,
        )
    if output is None:
        show_forecast(ahead)
    else:
        ahead.to_netcdf(output, engine="scipy")
        say(output)


def show_forecast(ahead: xr.Dataset) -> None:
    """Print a line a window, of the first MOST_ROWS ones.

    When the forecast begins and ends, in seconds of the recording's clock; the mean of each latent
    in its last bin; the mean rate over units and forecast bins [Hz].

    Parameters
    ----------
    ahead : latents (trial, step, latent) and rates (trial, step, unit) of `metadyn.forecast`.
    """
    headings = ("window", "from [s]", "to [s]", "latents at the end", "mean rate [Hz]")
    table = Table(*headings, title=f"forecast of {ahead.attrs['session']}")
    half_bin = ahead.attrs["bin_width"] / 2
    begin = ahead.start_time.values + ahead.time.values[0] - half_bin
    end = ahead.start_time.values + ahead.time.values[-1] + half_bin
    latents = ahead.latent_mean.values[:, -1]  # (trial, latent)
    rates = ahead.rate_mean.values.mean((1, 2))

    def line(i: int) -> tuple[str, ...]:
        latent = " ".join(f"{value:.3g}" for value in latents[i])
        number = str(ahead.trial.values[i])
        return number, f"{begin[i]:.3f}", f"{end[i]:.3f}", latent, f"{rates[i]:.3g}"

    out().print(rows(table, list(range(len(begin))), line))
