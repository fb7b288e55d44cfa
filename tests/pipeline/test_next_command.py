"""The command that a verdict proposes keeps every setting but those it changes."""

import shlex

import metadyn
from metadyn.pipeline.inputs import Recording
from metadyn.pipeline.next_command import as_arguments, fit_command, recordings_of, unused_folder


def test_the_command_of_a_verdict_keeps_every_setting_but_those_it_changes(run, world, tmp_path):
    """Settings of all kinds: pairs, words, switches, text with spaces; and what is run by it ends
    in them."""
    options = "--hidden 4 5 --changed-layers input --changed-layers output --residual --latent-hidden 4 --readin-hidden 4"
    options += " --where 'start_time < 90' --min-rate 0.5 --latent-dim 2 --no-warm-start --pretrain-steps 0 --steps 3"
    assert (
        run("fit", *world.files[:2], "-o", tmp_path / "my model", *shlex.split(options)).exit_code
        == 0
    )
    first = metadyn.load_model(tmp_path / "my model")
    files = [str(path) for path in world.files[:2]]
    command = fit_command(first, files, [str(tmp_path / "my model")], {"steps": 2, "latent_dim": 3})
    assert run(*shlex.split(command.removeprefix("metadyn "))).exit_code == 0, command
    again = metadyn.load_model(tmp_path / "my model-2")
    assert again.config == first.config.model_copy(update={"latent_dim": 3})
    assert again.training == first.training.model_copy(update={"steps": 2})
    assert (again.data, again.bin_width) == (first.data, first.bin_width)


def test_recordings_of_a_verdict_are_those_given_and_their_neighbours_or_none(world, tmp_path):
    trained = metadyn.load_model(world.model)
    assert recordings_of(trained, world.files[1]) == [str(path) for path in world.files[:2]]
    alone = tmp_path / world.files[0].name
    alone.write_bytes(world.files[0].read_bytes())
    assert recordings_of(trained, alone) == []
    assert recordings_of(trained, metadyn.read_session(alone)) == []
    for folder in ("raw", "annotated", "zeroed"):
        (tmp_path / folder).mkdir()
        for file in world.files[:2]:
            (tmp_path / folder / file.name).touch()
    meant = [str(tmp_path / "raw" / file.name) for file in world.files[:2]]
    assert recordings_of(trained, meant[1]) == meant, (
        "files of the same names elsewhere are not those beside it"
    )


def test_what_was_given_is_shown_as_it_was_given(world, tmp_path):
    given = [str(world.files[0]), world.files[1], Recording(world.files[1], "day 2")]
    assert as_arguments(given) == [
        str(world.files[0]),
        str(world.files[1]),
        f"day 2={world.files[1]}",
    ]
    assert as_arguments(metadyn.read_session(world.files[0])) == []
    (tmp_path / "m-2").mkdir()
    assert unused_folder(str(tmp_path / "m")) == str(tmp_path / "m-3")
