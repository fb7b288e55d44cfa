"""Options that messages name as a Python call takes them are flags on the command line."""

import ast
import re
from pathlib import Path

import pytest

import metadyn
from metadyn.cli import Commands
from metadyn.cli.flags import CALLED, QUOTED, as_typed, options, with_flags
from metadyn.errors import ConfigError, WindowError

SOURCE = Path(metadyn.__file__).parent


@pytest.mark.parametrize(
    ("written", "typed"),
    [
        ("try: align='go_cue', n_bins=50", "try: --align go_cue --n-bins 50"),
        ("try: align='`go cue` / 1000'", "try: --align '`go cue` / 1000'"),
        ("try: where=\"result == 'R'\" (of text)", "try: --where \"result == 'R'\" (of text)"),
        (
            "`n_bins`, `held_out=False` or `residual=False`",
            "--n-bins, --all-windows or --no-residual",
        ),
        ("`output`, `overwrite=True`", "-o, --overwrite"),
        ("`hidden=(4, 5)`", "--hidden 4 5"),
        ("`n_sessions=20`", "--sessions 20"),
        ("try: start=-0.25, and look", "try: --start -0.25, and look"),
        ("try: metadyn align MODEL start=day1.nwb", "try: metadyn align MODEL start=day1.nwb"),
        ("  found: start=3, `n_bins`", "  found: start=3, --n-bins"),
        ("`class` and `score` and colour=3", "`class` and `score` and colour=3"),
    ],
)
def test_options_are_typed_as_flags_and_all_else_stays(written, typed):
    assert with_flags(written) == typed


def test_an_option_of_one_name_is_typed_alike_in_every_command():
    for command in Commands().values():
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help":
                assert as_typed(option, None) == as_typed(options()[option.name], None)
                assert option.secondary_opts == options()[option.name].secondary_opts


def texts(path: Path) -> list[str]:
    """The texts of a module that are no docstrings, with {} for what is put into them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [each.body for each in ast.walk(tree) if hasattr(each, "body")]
    statements = [each for body in bodies if isinstance(body, list) for each in body]
    docs = {id(each.value) for each in statements if isinstance(each, ast.Expr)}
    parts = [each for each in ast.walk(tree) if isinstance(each, ast.JoinedStr)]
    inner = {id(each) for part in parts for each in part.values}
    joined = [
        "".join(each.value if isinstance(each, ast.Constant) else "1" for each in part.values)
        for part in parts
    ]
    plain = [
        each.value
        for each in ast.walk(tree)
        if isinstance(each, ast.Constant)
        and isinstance(each.value, str)
        and id(each) not in docs | inner
    ]
    return plain + joined


def test_every_option_that_a_message_names_is_one_of_a_command():
    """And no room below the command line but those that propose commands writes flags itself."""
    below = [path for path in SOURCE.rglob("*.py") if "cli" not in path.relative_to(SOURCE).parts]
    named = {
        found[1]
        for path in below
        if path.name != "config.py"
        for text in texts(path)
        for found in QUOTED.finditer(text)
    }
    assert {"n_bins", "overwrite", "output", "held_out", "max_bins"} <= named
    assert {CALLED.get(name, name) for name in named} <= options().keys()
    commands = re.compile(r"(metadyn|git|torchrun|pip|python|LOKY_MAX_CPU_COUNT=1)\b.*--")
    for path in below:
        for text in texts(path):
            if re.search(r"(?<![\w-])--[a-z]", text) and path.parent.name != "pipeline":
                assert commands.search(text) or path.name in ("kernels.py", "findings.py"), text


def test_a_python_user_reads_keywords(world):
    with pytest.raises(WindowError, match=r"try: align='start_time', n_bins=50"):
        metadyn.bin_spikes(metadyn.read_session(world.files[0]), start=0.1)
    with pytest.raises(ConfigError, match=r"`resume=True` to go on"):
        metadyn.fit(world.files[0], world.model)
