"""The commands: one thin function per step; what is heavy is imported inside."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from metadyn.config import load_config
from metadyn.data.families import FAMILIES
from metadyn.errors import ConfigError, MetadynError, WriteError
from metadyn.flags import config_flags

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class Commands(TyperGroup):
    """Turns our errors into a few lines (exit code 1, 2 for what was asked wrongly) and Ctrl-C into
    130."""

    def invoke(self, ctx):
        from metadyn import display

        display.show_warnings_as_notes()
        try:
            return super().invoke(ctx)
        except MetadynError as error:
            display.show_error(error)
            raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
        except OSError as error:
            if (
                error.errno is None or error.errno == errno.EPIPE
            ):  # not the system's word; a reader that went away
                raise
            display.show_error(refused_by_the_system(error))
            raise typer.Exit(1) from None
        except KeyboardInterrupt as stop:
            display.err().print(f"stopped. {stop or 'Nothing was left half written.'}")
            raise typer.Exit(INTERRUPTED) from None


def refused_by_the_system(error: OSError) -> WriteError:
    """What the system says of a file, as an error of ours."""
    remedy = "a path that exists, with room, that you may write to (-o); what was complete before is kept"
    return WriteError(
        "the system refused to read or write",
        file=error.filename,
        found=error.strerror or error,
        remedy=remedy,
    )


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Shared latent dynamics from many recordings: NWB units in, latents, embeddings and the model back into NWB.",
)

Files = Annotated[
    list[str],
    typer.Argument(
        help="NWB files, folders of them, addresses (https://, dandi://), or NAME=FILE",
        metavar="FILES...",
    ),
]
File = Annotated[
    str,
    typer.Argument(help="NWB file, its address (https://, dandi://), or NAME=FILE", metavar="FILE"),
]
Model = Annotated[
    str, typer.Argument(help="model folder, or an NWB file that holds a model, or its address")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help=r"TOML file with \[data], \[model], \[training], \[align]"),
]
SkipBad = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="leave out files that cannot be used and list them at the end; exit code 0 if any was used",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]


@contextmanager
def kept_on_interrupt(what: str) -> Iterator[None]:
    """Say on Ctrl-C what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what) from None


@app.command()
def inspect(file: Annotated[str, typer.Argument(help="NWB file, or its address")]) -> None:
    """Show what a file holds for a model, what stands in the way, and what to run next.

    Example: [bold]metadyn inspect session.nwb[/bold]
    """
    from metadyn.display import show_description, working
    from metadyn.nwb.describe import describe

    with working("reading"):
        found = describe(file)
    show_description(found)


@app.command()
def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="dandiset, folder or file in it, or address", metavar="DANDISET[/PATH]"
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the files")] = Path(
        "."
    ),
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="download no file, only the units and intervals, for the commands that follow",
        ),
    ] = False,
) -> None:
    """Download NWB files of a dandiset, or (--stream) only what the other commands need of them.

    DANDISET/PATH is 000123, 000123@draft/sub-A, dandi://… or https://…; every other command takes
    dandi://… and https://… too, in place of an NWB file, and reads there what it needs. That is
    kept in ~/.cache/ndx-metadyn, or where METADYN_CACHE says. A download that was broken off goes
    on from where it was. (The listing of a dandiset is untested.)

    Example: [bold]metadyn fetch 000140/sub-Jenkins -o recordings[/bold]
    """
    from metadyn.display import out, working
    from metadyn.display_sharing import show_session
    from metadyn.pipeline import sharing

    if stream:
        for asset, session in sharing.stream(what):
            show_session(asset, session)
        return

    def say(path: Path) -> None:
        out().print(str(path), markup=False, highlight=False)

    with (
        kept_on_interrupt("What was fetched is kept: the same command goes on."),
        working("fetching") as progress,
    ):
        sharing.fetch(what, output, report=say, progress=progress)


@app.command(epilog="\n\n".join(f"{name}: {family.about}" for name, family in FAMILIES.items()))
def simulate(
    family: Annotated[str, typer.Argument(help="family of dynamical systems, see below")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the files")],
    sessions: Annotated[
        int, typer.Option(min=1, help="how many sessions, of evenly spread parameters")
    ] = 8,
    trials: Annotated[int, typer.Option(min=1, help="trials in a session")] = 48,
    bins: Annotated[int, typer.Option(min=2, help="bins of 20 ms in a trial")] = 150,
    seed: Annotated[int, typer.Option(min=0, help="seed of every random number")] = 0,
) -> None:
    """Simulate sessions of spiking units whose latent dynamics are known, and write them as NWB
    files.

    Example: [bold]metadyn simulate limit-cycle -o simulated --sessions 4[/bold]
    """
    from metadyn.display import out
    from metadyn.pipeline import steps

    for path in steps.simulate(
        family, output, n_sessions=sessions, n_trials=trials, n_bins=bins, seed=seed
    ):
        out().print(str(path), highlight=False)


@app.command()
@config_flags("data", "model", "training")
def fit(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for the model")],
    config: ConfigFile = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on with the run that the folder holds")
    ] = False,
    device: Device = "auto",
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic", help="the same weights each time on this machine; slower on a GPU"
        ),
    ] = False,
    memory: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="GiB of counts held in memory, all others on disk; default: a quarter of what is free",
        ),
    ] = None,
    skip_bad: SkipBad = False,
    flags: dict | None = None,
) -> None:
    """Train one model on all files; by several processes where torchrun starts it.

    Example: [bold]metadyn fit day1.nwb day2.nwb -o model --bin-width 0.02[/bold]
    """
    from metadyn.display import first_process, out, training_progress
    from metadyn.pipeline import steps

    settings = load_config(config, **flags)
    note = f"If a step was made, it is kept: the same command with --resume goes on in {output}."
    with kept_on_interrupt(note), training_progress() as report:
        options = {
            "resume": resume,
            "device": device,
            "deterministic": deterministic,
            "memory": memory,
        }
        trained = steps.fit(files, output, settings, skip_bad=skip_bad, report=report, **options)
        if first_process():
            out().print(f"model of {len(trained.sessions)} sessions: {output}", highlight=False)


@app.command()
@config_flags("data", "align")
def align(
    model: Model,
    file: File,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="folder for the model that knows the new session too"),
    ],
    config: ConfigFile = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="use only that many windows, evenly spread")
    ] = None,
    device: Device = "auto",
    flags: dict | None = None,
) -> None:
    """Teach a model a new recording from a few trials: a new read-in and readout, the dynamics
    stay.

    Example: [bold]metadyn align model day3.nwb -o model3 --trials 8[/bold]
    """
    from metadyn.display import out, training_progress
    from metadyn.pipeline import steps

    settings = load_config(config, align=flags["align"])
    with training_progress() as report:
        aligned = steps.align(
            model,
            file,
            output,
            settings,
            data=given(flags),
            trials=trials,
            device=device,
            report=report,
        )
        out().print(f"model of {len(aligned.sessions)} sessions: {output}", highlight=False)


@app.command()
@config_flags("data")
def annotate(
    model: Model,
    files: Files,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder for annotated copies")
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="replace each file whole by its annotated copy")
    ] = False,
    name: Annotated[str, typer.Option(help="name of the run in the file")] = "LatentDynamics",
    embed_model: Annotated[
        bool, typer.Option("--embed-model/--no-model", help="store the model in each file")
    ] = True,
    derive: Annotated[
        bool,
        typer.Option(
            "--derive",
            help="write slim files without the raw data, to be shared (as metadyn derive does)",
        ),
    ] = False,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="also store forecasts after this many bins, of the windows that have more"
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="bins to forecast")] = 20,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist in the folder")
    ] = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    flags: dict | None = None,
) -> None:
    """Write latents, rates, embeddings and the model into copies of the files (or into the files,
    --in-place).

    Example: [bold]metadyn annotate model day1.nwb day2.nwb -o annotated[/bold]
    """
    from metadyn.display import out, working
    from metadyn.pipeline.annotation import annotate

    kept = kept_on_interrupt("Files named above are written; the others are as they were.")
    with kept, working("annotating") as progress:
        annotate(
            model,
            files,
            output,
            in_place=in_place,
            name=name,
            embed_model=embed_model,
            derive=derive,
            context=context,
            steps=steps,
            data=given(flags),
            overwrite=overwrite,
            skip_bad=skip_bad,
            device=device,
            report=lambda path: out().print(str(path), highlight=False),
            progress=progress,
        )


@app.command()
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
    flags: dict | None = None,
) -> None:
    """Forecast latents and rates from the first bins of each window.

    Example: [bold]metadyn forecast model day1.nwb --context 25 --steps 20 -o ahead.nc[/bold]
    """
    from metadyn.display import out, show_forecast, working
    from metadyn.pipeline.steps import forecast

    asked = {"context": context, "steps": steps, "samples": samples, "seed": seed}
    with working("forecasting"):
        ahead = forecast(model, file, data=given(flags), device=device, **asked)
    if output is None:
        show_forecast(ahead)
    else:
        ahead.to_netcdf(output, engine="scipy")
        out().print(str(output), highlight=False)


@app.command()
@config_flags("data")
def score(
    model: Model,
    files: Files,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="bins seen before a forecast; default: a third of the median window"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="bins to forecast; default: 20, or what is left of it")
    ] = None,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out/--all-windows",
            help="only the windows kept aside for tests (where there are none, those that chose the checkpoint), or all",
        ),
    ] = True,
    skip_bad: SkipBad = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="also keep the scores, of each unit and step too, here: NetCDF (.nc) or .json",
        ),
    ] = None,
    device: Device = "auto",
    flags: dict | None = None,
) -> None:
    """Score reconstruction, forecasts and decoding of behaviour beside baselines, and say where the
    model is behind.

    Baselines are the mean rate and the last value; of behaviour smoothed spikes and their principal
    components. Decoders learn on the windows that trained the model.

    Example: [bold]metadyn score model day1.nwb --behavior cursor_vel -o scores.json[/bold]
    """
    from metadyn.display import out, show_score, working
    from metadyn.pipeline import steps as verbs
    from metadyn.pipeline.inputs import recordings
    from metadyn.pipeline.scoring import check_scores_path
    from metadyn.pipeline.skipping import skipping

    if output is not None:
        check_scores_path(output)  # before anything is computed
    asked = {
        "context": context,
        "steps": steps,
        "held_out": held_out,
        "data": given(flags),
        "device": device,
    }
    every, found = recordings(files, absent_too=skip_bad), []
    with skipping(skip_bad) as skipped, working("scoring"):
        for recording in every:
            scores = skipped.attempt(recording, partial(verbs.score, model, recording, **asked))
            if scores is not None:
                found.append(scores)
                show_score(scores)
        skipped.kept(every)
        if output is not None:
            out().print(str(verbs.save_scores(found, output)), highlight=False)


@app.command()
def derive(
    file: Annotated[str, typer.Argument(help="annotated NWB file, or its address")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the derived file")],
    recording: Annotated[
        str | None,
        typer.Option(
            help="the recording (or its address) that FILE is an annotated copy of, to be named in its stead"
        ),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            help="where others find the recording, e.g. its address on DANDI; default: its file name"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace the file if it exists")
    ] = False,
) -> None:
    """Write a slim file to be shared: runs, models, units, intervals and metadata, without the raw
    data.

    It stands alone (no links to other files), has an identifier of its own, and keeps name and
    sha256 digest of what it was derived from in the parameters of each run.

    Example: [bold]metadyn derive annotated/day1.nwb -o derived/day1.nwb[/bold]
    """
    from metadyn.display import out, working
    from metadyn.display_sharing import show_left_out
    from metadyn.pipeline import sharing

    with working("deriving") as progress:
        written = sharing.derive(
            file, output, recording=recording, uri=uri, overwrite=overwrite, progress=progress
        )
    out().print(str(written), highlight=False)
    show_left_out(sharing.left_out(file))


@app.command()
def package(
    files: Files,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the dandiset")],
    metadata: Annotated[
        Path | None, typer.Option(help="TOML file with what the files lack")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist in the folder")
    ] = False,
) -> None:
    """Lay derived files out as a dandiset, and say what `dandi validate` and nwbinspector find and
    what mends it.

    What DANDI needs and a file lacks (subject_id, species, sex, age, session_id) is asked for: the
    message comes with a TOML template on the standard output. A draft of dandiset.yaml is written
    once, with contributors left to you.

    Example: [bold]metadyn package derived -o dandiset --metadata metadata.toml[/bold]
    """
    from metadyn.display import out, working
    from metadyn.display_sharing import show_findings
    from metadyn.pipeline import sharing

    def say(path: Path) -> None:
        out().print(str(path), highlight=False)

    with working("packaging"):
        sharing.package(files, output, metadata, overwrite=overwrite, report=say)
    with working("dandi validate and nwbinspector"):
        found = sharing.findings(output)
    show_findings(found, output)
    if any(each.blocks for each in found):
        raise typer.Exit(1)


@app.command()
def upload(
    folder: Annotated[Path, typer.Argument(help="folder of a dandiset, from metadyn package")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only show what would be sent")
    ] = False,
    instance: Annotated[
        str, typer.Option(help="archive, as dandi names it: dandi, dandi-sandbox, …")
    ] = "dandi",
) -> None:
    """Upload a dandiset with dandi, each file with the recording that it is derived from (untested:
    begin with --dry-run).

    The key of the archive is dandi's: in its keyring, or in an environment variable. It is never
    shown or stored here.

    Example: [bold]metadyn upload dandiset --dry-run[/bold]
    """
    from metadyn.display_sharing import show_plan
    from metadyn.pipeline import sharing

    planned = sharing.upload(folder, instance=instance, dry_run=dry_run)
    show_plan(planned, sent=not dry_run)
    if planned.obstacles:
        raise typer.Exit(1)


@app.command()
def model(
    file: Annotated[str, typer.Argument(help="NWB file that holds a model, or its address")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="also keep its weights here (.safetensors) and its config beside (.json)",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace files that exist")
    ] = False,
) -> None:
    """Show the model inside an NWB file, its digest verified, and what it was trained on. Nothing
    of the file is executed.

    To give it a recording of yours: metadyn align FILE my_session.nwb -o my_model

    Example: [bold]metadyn model annotated/day1.nwb -o model.safetensors[/bold]
    """
    from metadyn.display import out
    from metadyn.display_sharing import show_model
    from metadyn.pipeline import sharing

    show_model(sharing.stored_model(file), file)
    if output is not None:
        for path in sharing.export_model(file, output, overwrite=overwrite):
            out().print(str(path), highlight=False)


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="folder for files, models and the figure")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="seed of the simulation and the training")] = 0,
    device: Device = "auto",
) -> None:
    """Simulate eight sessions, train on them, align a ninth, annotate all nine and compare with
    shared dynamics.

    Example: [bold]metadyn demo -o demo[/bold]
    """
    from metadyn.display import err, show_demo, training_progress
    from metadyn.pipeline.demo import demo

    def say(what: str) -> None:
        err().print(what, highlight=False)

    with (
        kept_on_interrupt(f"Finished models and files are in {output}."),
        training_progress() as report,
    ):
        found = demo(output, seed=seed, device=device, report=report, say=say)
    show_demo(found, drawn(found, output / "demo.png"))


def drawn(found, path: Path) -> Path | None:
    """The demo's figure, where matplotlib is installed."""
    try:
        from metadyn.pipeline.demo_figure import draw
    except ModuleNotFoundError:
        return None
    return draw(found, path)


def given(flags: dict) -> dict:
    """The data options that were given; the others are the model's."""
    return {key: value for key, value in flags["data"].items() if value is not None}
