"""Latents, rates, embeddings and the model into NWB files, one run a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from metadyn.errors import ConfigError
from metadyn.nwb.addresses import Asset
from metadyn.pipeline.inputs import Recording, recordings
from metadyn.pipeline.models import counts_for, data_options, load_model, on_device
from metadyn.pipeline.skipping import skipping


def annotate(
    model,
    files,
    output: str | Path | None = None,
    *,
    in_place: bool = False,
    name: str = "LatentDynamics",
    embed_model: bool = True,
    derive: bool = False,
    context: int | None = None,
    steps: int = 20,
    data: dict | None = None,
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
        problem = "a derived file lacks the raw data and cannot take its source's place"
        raise ConfigError(problem, found="--derive and --in-place", remedy="--derive -o DIR")
    trained = on_device(load_model(model), device)
    given = recordings(files, absent_too=skip_bad)
    targets = {id(each): _target(each, output, in_place) for each in given}
    _check_targets(given, list(targets.values()), in_place)
    settings = {
        "name": name,
        "derived": derive,
        "overwrite": overwrite,
        "model": trained.file() if embed_model else None,
    }
    written, wanted = [], {"name": name, "derived": derive, "overwrite": overwrite}
    with skipping(skip_bad) as skipped:
        for each in given:
            skipped.attempt(each, partial(check_target, each.source, targets[id(each)], **wanted))
        for each in skipped.kept(given):
            work = partial(
                _annotate_one,
                trained,
                each,
                targets[id(each)],
                data,
                context,
                steps,
                settings,
                progress,
            )
            path = skipped.attempt(each, work)
            if path is not None:
                written.append(path)
                report(path)
        skipped.kept(given)
    return written


def _target(recording: Recording, output: str | Path | None, in_place: bool) -> Path:
    """Where the result goes: the file itself, or one of its name below `output`, in its folder
    sub-… if it lies in one."""
    if (output is None) != in_place:
        problem = "say where the results go: to copies in a folder, or into the files themselves"
        raise ConfigError(
            problem, found="both" if in_place else "neither", remedy="-o DIR, or --in-place"
        )
    source = recording.source
    if not isinstance(source, Path | Asset):
        raise ConfigError(
            "only files can be annotated",
            found=type(source).__name__,
            remedy="the path of the NWB file",
        )
    if in_place and isinstance(source, Asset):
        raise ConfigError(
            "a file on the net is only read", file=source, found="--in-place", remedy="-o DIR"
        )
    if in_place:
        return source
    path = source.path if isinstance(source, Asset) else source.absolute()
    folder = path.parent.name
    return Path(output).expanduser() / (folder if folder.startswith("sub-") else "") / path.name


def _check_targets(given: list[Recording], targets: list[Path], in_place: bool) -> None:
    """Raise ConfigError where two results would be one file, or a copy would, also by a link, be
    its recording."""
    from metadyn.nwb.replace import real_path

    real = [real_path(target) for target in targets]
    repeated = [target for target, times in Counter(real).items() if times > 1]
    if repeated:
        files = [
            str(each) for each, target in zip(given, real, strict=True) if target == repeated[0]
        ]
        problem, remedy = (
            "several recordings would be written to one file",
            "annotate them into different folders, one by one",
        )
        raise ConfigError(problem, file=repeated[0], found=", ".join(files), remedy=remedy)
    for each, target in zip(given, real, strict=True):
        if not in_place and isinstance(each.source, Path) and target == real_path(each.source):
            problem = "the annotated copy would take the place of its recording"
            raise ConfigError(
                problem,
                file=target,
                remedy="--in-place if that is wanted, or another folder (-o DIR)",
            )


def _annotate_one(
    trained,
    recording: Recording,
    target: Path,
    data: dict | None,
    context: int | None,
    steps: int,
    settings: dict,
    progress,
):
    from metadyn.nwb.remote import local_copy
    from metadyn.nwb.write import write_run

    found = results(trained, recording, data, context, steps)
    with local_copy(recording.source, target.parent, progress) as source:
        return write_run(source, target, **found, **settings)


def results(
    trained, recording: Recording, data: dict | None, context: int | None, steps: int
) -> dict:
    """What `metadyn.nwb.write.prepare_run` takes of one recording: posterior, forecast, parameters
    and provenance."""
    from metadyn.inference.forecast import forecast
    from metadyn.inference.infer import infer

    counts = counts_for(trained, recording, data)
    ahead = None if context is None else forecast(trained, counts, context=context, steps=steps)
    asked = {
        "data": data_options(trained, data).model_dump(mode="json"),
        "model": trained.config.model_dump(mode="json"),
    }
    if ahead is not None:
        asked["forecast"] = {"context_bins": context, "steps": steps}
    posterior = infer(trained, counts)
    return {
        "posterior": posterior,
        "forecast": ahead,
        "parameters": asked,
        "provenance": counts.source,
    }
