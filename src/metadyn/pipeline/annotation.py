"""Latents, rates, embeddings and the model into NWB files, one run a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadyn.errors import ConfigError
from metadyn.nwb.addresses import Asset
from metadyn.pipeline.inputs import Recording, recordings
from metadyn.pipeline.models import counts_for, data_options, load_model, on_device
from metadyn.pipeline.skipping import skipping

if TYPE_CHECKING:
    from metadyn.model.trained import TrainedModel


@dataclass(frozen=True)
class Annotation:
    """A recording, the file that it is in, and the path of its result."""

    recording: Recording
    source: Path | Asset
    target: Path


def annotate(
    model: TrainedModel | str | Path,
    files: object,
    output: str | Path | None = None,
    *,
    in_place: bool = False,
    name: str = "LatentDynamics",
    embed_model: bool = True,
    derive: bool = False,
    context: int | None = None,
    steps: int = 20,
    data: dict[str, Any] | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    device: str = "auto",
    report: Callable[[Path], None] = lambda _: None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Path]:
    """Write what the model infers of each recording into a copy below `output`, or, `in_place`,
    into the file itself.

    A recording at an address is downloaded to be copied, beside its result and for as long as that
    takes.

    Parameters
    ----------
    model : folder of `fit` or `align`, annotated NWB file or its address, or a TrainedModel.
    files : recordings that the model knows.
    output : folder of the copies; None with `in_place`.
    name : name of the run; a file may hold several, each of its own name.
    embed_model : store the model in each file, so that it forecasts and aligns from there.
    derive : write slim files without the raw data, as `metadyn.derive` does; not `in_place`.
    context : also store forecasts of the `steps` bins after the first `context` bins of each window
        that has more; WindowError where none has, and a warning that counts those shorter than the
        context.
    data : options for other windows than those trained on, e.g. {"where": None}.
    skip_bad : leave out recordings that cannot be used, and say which and why in a warning at the
        end.
    report : called with each path when it is written.
    progress : called during a download, see `metadyn.nwb.remote.download`.

    Returns
    -------
    The paths of the written files.

    Raises
    ------
    ConfigError : neither or both of `output` and `in_place` are given, a derived file would replace
        its source, two results would be one file, or a copy its recording.
    WriteError, ModelFileError, DataError, WindowError : the file concerned is as it was; those
        before it are written.
    """
    from metadyn.nwb.write import check_target

    if derive and in_place:
        raise ConfigError(
            "a derived file lacks the raw data and cannot take its source's place",
            found="`derive` and `in_place`",
            remedy="`derive=True`, and a folder by `output`",
        )
    trained = on_device(load_model(model), device)
    given = recordings(files, absent_too=skip_bad)
    planned = [_plan(each, output, in_place) for each in given]
    _check_results(planned, in_place)
    settings: dict[str, Any] = {"name": name, "derived": derive, "overwrite": overwrite}
    run = partial(
        _annotate_one,
        trained,
        infer_options={"data": data, "context": context, "steps": steps},
        write_options={**settings, "model": trained.file() if embed_model else None},
        progress=progress,
    )
    written = []
    with skipping(skip_bad) as skipped:
        # all that can be refused is, before anything is computed
        for each in planned:
            check = partial(check_target, each.source, each.target, **settings)
            skipped.attempt(each.recording, check)
        left = {id(recording) for recording in skipped.kept(given)}
        for each in planned:
            if id(each.recording) not in left:
                continue
            path = skipped.attempt(each.recording, partial(run, each))
            if path is not None:
                written.append(path)
                report(path)
        skipped.kept(given)  # refuses where none is left
    return written


def _plan(recording: Recording, output: str | Path | None, in_place: bool) -> Annotation:
    """Where the result goes: the file itself, or one of its name below `output`, in its folder
    sub-… if it lies in one."""
    if (output is None) != in_place:
        raise ConfigError(
            "say where the results go: to copies in a folder, or into the files themselves",
            found="both" if in_place else "neither",
            remedy="`output`, or `in_place=True`",
        )
    source = recording.source
    if not isinstance(source, Path | Asset):
        raise ConfigError(
            "only files can be annotated",
            found=type(source).__name__,
            remedy="the path of the NWB file",
        )
    if output is None:
        if isinstance(source, Asset):
            raise ConfigError(
                "a file on the net is only read",
                file=source,
                found="`in_place`",
                remedy="a folder by `output`",
            )
        return Annotation(recording, source, source)
    path = source.path if isinstance(source, Asset) else source.absolute()
    folder = Path(output).expanduser()
    # in a dandiset files of several subjects may have one name
    if path.parent.name.startswith("sub-"):
        folder /= path.parent.name
    return Annotation(recording, source, folder / path.name)


def _check_results(planned: list[Annotation], in_place: bool) -> None:
    """Raise ConfigError where two results would be one file, or a copy would, also by a link, be
    its recording."""
    from metadyn.nwb.replace import real_path

    real = [real_path(each.target) for each in planned]
    repeated = [target for target, times in Counter(real).items() if times > 1]
    if repeated:
        first = repeated[0]
        same = [
            str(each.recording)
            for each, target in zip(planned, real, strict=True)
            if target == first
        ]
        raise ConfigError(
            "several recordings would be written to one file",
            file=first,
            found=", ".join(same),
            remedy="annotate them into different folders, one by one",
        )
    for each, target in zip(planned, real, strict=True):
        if in_place or isinstance(each.source, Asset):
            continue
        if target == real_path(each.source):
            raise ConfigError(
                "the annotated copy would take the place of its recording",
                file=target,
                remedy="`in_place=True` if that is wanted, or another folder (`output`)",
            )


def _annotate_one(
    trained: TrainedModel,
    planned: Annotation,
    infer_options: dict[str, Any],
    write_options: dict[str, Any],
    progress: Callable[[str, int, int], None],
) -> Path:
    """Infer, and write the result; returns its path."""
    from metadyn.nwb.remote import local_copy
    from metadyn.nwb.write import write_run

    found = results(trained, planned.recording, **infer_options)
    with local_copy(planned.source, planned.target.parent, progress) as source:
        return write_run(source, planned.target, **found, **write_options)


def results(
    trained: TrainedModel,
    recording: Recording,
    data: dict[str, Any] | None,
    context: int | None,
    steps: int,
) -> dict[str, Any]:
    """Arguments of `metadyn.nwb.write.prepare_run` for one recording: posterior, forecast,
    parameters and provenance."""
    from metadyn.inference.forecast import forecast
    from metadyn.inference.infer import infer

    counts = counts_for(trained, recording, data)
    parameters: dict[str, Any] = {
        "data": data_options(trained, data).model_dump(mode="json"),
        "model": trained.config.model_dump(mode="json"),
    }
    ahead = None
    if context is not None:
        ahead = forecast(trained, counts, context=context, steps=steps)
        parameters["forecast"] = {"context_bins": context, "steps": steps}
    return {
        "posterior": infer(trained, counts),
        "forecast": ahead,
        "parameters": parameters,
        "provenance": counts.source,
    }
