"""Expressions that keep rows: against plain Python row by row, and everything that must not be
evaluated."""

import ast
import itertools
import shlex
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metadyn.cli.flags import with_flags
from metadyn.data.selection import select_rows
from metadyn.errors import SelectionError

TABLE = pd.DataFrame(
    {
        "result": ["R", "F", "R", "A", "R"],
        "target_id": [1, 2, 3, 4, 5],
        "rt": [0.2, np.nan, 0.4, 0.3, np.nan],
        "bad": [False, True, False, False, True],
        "flag": [0, 1, 1, 0, 1],
        "maybe": [1.0, np.nan, 0.0, 1.0, 0.0],
        "side": np.array(["left", None, "left", "right", np.nan], dtype=object),
        "note": ["ok", "", "odd", "ok", ""],
    }
)


def rows(expression, table=TABLE):
    return np.flatnonzero(select_rows(table, expression, what="rows of trials")).tolist()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("result == 'R'", [0, 2, 4]),
        ("result == 'R' and not bad", [0, 2]),
        ("result != 'R' or target_id >= 5", [1, 3, 4]),
        ("(result == 'R' or bad) and target_id < 3", [0, 1]),
        ("1 < target_id <= 4", [1, 2, 3]),
        ("target_id in [1, 5]", [0, 4]),
        ("result not in ('R', 'F')", [3]),
        ("rt > 0.25", [2, 3]),
        ("rt != 0.2", [2, 3]),
        ("rt == rt", [0, 2, 3]),
        ("not rt > 0.25", [0]),
        ("not maybe", [2, 4]),
        ("not (rt > 0.25 and maybe)", [0, 2, 4]),
        ("rt > 0.25 or bad", [1, 2, 3, 4]),
        ("note == 'ok'", [0, 3]),
        ("not note == 'ok'", [2]),
        ("note not in ['ok']", [2]),
        ("rt > -1", [0, 2, 3]),
        ("flag", [1, 2, 4]),
        ("maybe", [0, 3]),
        ("bad == True", [1, 4]),
        ("side == 'left'", [0, 2]),
        ("side != 'left'", [3]),
        ("side in ['left', 'right']", [0, 2, 3]),
        ("rt not in [0.2]", [2, 3]),
    ],
)
def test_expressions_keep_the_rows_they_say(expression, expected):
    assert rows(expression) == expected


ATOMS = st.sampled_from(
    ["a < 2", "a == b", "0 <= b < 3", "a in [0, 3]", "flag", "b != 1", "b not in (1, 2)"]
)


def joined(inner):
    both = st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    )
    return both | inner.map(lambda e: f"(not {e})")


expressions = st.recursive(ATOMS, joined, max_leaves=6)


def three_valued(node, row):
    """True, False or None for unknown, of one row: the second road."""
    match node:
        case ast.BoolOp(op=op, values=values):
            decides = isinstance(op, ast.Or)
            found = [three_valued(value, row) for value in values]
            return decides if decides in found else None if None in found else not decides
        case ast.UnaryOp(operand=operand):
            found = three_valued(operand, row)
            return None if found is None else not found
        case ast.Compare(left=left, ops=[first, second], comparators=[middle, right]):
            halves = [ast.Compare(left, [first], [middle]), ast.Compare(middle, [second], [right])]
            return three_valued(ast.BoolOp(ast.And(), halves), row)
    if any(row[each.id] is None for each in ast.walk(node) if isinstance(each, ast.Name)):
        return None
    return bool(eval(ast.unparse(node), {"__builtins__": {}}, row))


@settings(max_examples=100, deadline=None)
@given(expression=expressions)
def test_with_missing_values_rows_are_kept_where_three_valued_logic_says_true(expression):
    grid = list(itertools.product([0, 1, 3, None], [0, 1, 2, None], [True, False, None]))
    table = pd.DataFrame(grid, columns=["a", "b", "flag"])
    tree = ast.parse(expression, mode="eval").body
    expected = [
        i
        for i, each in enumerate(grid)
        if three_valued(tree, dict(zip("ab", each, strict=False), flag=each[2]))
    ]
    if expected:
        assert rows(expression, table) == expected
    else:
        with pytest.raises(SelectionError, match="no rows of trials left"):
            rows(expression, table)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_expressions_agree_with_python_row_by_row(data):
    expression = data.draw(expressions)
    table = pd.DataFrame(
        {
            "a": [0, 1, 2, 3] * 8,
            "b": [0, 0, 1, 1, 2, 2, 3, 3] * 4,
            "flag": np.repeat([True, False], 16),
        }
    )
    expected = [
        i
        for i, row in enumerate(table.to_dict("records"))
        if eval(expression, {"__builtins__": {}}, row)
    ]
    if expected:
        assert rows(expression, table) == expected
    else:
        with pytest.raises(SelectionError, match="no rows of trials left"):
            rows(expression, table)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('true')",
        "result.upper() == 'R'",
        "target_id + 1 == 2",
        "target_id[0] == 1",
        "[x for x in result]",
        "lambda: 1",
        "(result := 'R')",
        "f'{result}' == 'R'",
        "target_id in result",
        "target_id in [result]",
        "result is 'R'",
        "1 == 1",
        "True",
        "target_id & 1",
        "'R' if bad else 'F'",
        "result = 'R'",
        "result == ",
        "",
        "target_id",
        "result < 3",
        "target_id == ~1",
        "not " * 4000 + "bad",
        "(" * 400 + "bad" + ")" * 400,
        "target_id < " + "9" * 5000,
        "result == 'R'\x00",
    ],
)
@pytest.mark.filterwarnings('ignore:"is" with:SyntaxWarning')
def test_nothing_but_comparisons_is_evaluated(expression):
    with pytest.raises(SelectionError, match="cannot select rows of trials"):
        rows(expression)


def test_an_unknown_column_lists_those_there_are_and_the_nearest():
    with pytest.raises(SelectionError) as error:
        rows("targetid == 1")
    assert "result, target_id, rt" in error.value.found
    assert error.value.remedy == "did you mean 'target_id'?"


def test_keeping_nothing_shows_the_values_that_the_columns_have():
    with pytest.raises(SelectionError, match="no rows of trials left") as error:
        rows("result == 'X' and rt > 5")
    assert "'R' (3)" in error.value.found
    assert "rt: " in error.value.found


ODD = pd.DataFrame(
    {
        "trial type": ["go", "stop", "go", "catch"],
        "class": ["E", "I", "E", "E"],
        "rate [Hz]": [1.0, 20.0, 3.0, np.nan],
        "it's": [1, 2, 3, 4],
        "µ": [0.5, 1.5, 2.5, 3.5],
        "go-cue": [5, 6, 7, 8],
        "name": ["a", "b", "a", "c"],
        "trial": [9, 8, 7, 6],
    },
    index=pd.Index([100, 103, 106, 12], name="id"),
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("`trial type` == 'go'", [0, 2]),
        ("`class` == 'E' and `rate [Hz]` > 2", [2]),
        ("not `rate [Hz]` > 2", [0]),
        ("`it's` in [2, 3] and name != 'b'", [2]),
        ("`µ` > 1", [1, 2, 3]),
        ("1 < `µ` < 3", [1, 2]),
        ("name == 'a' or name == '`trial type`'", [0, 2]),
        ('`name` == "a"', [0, 2]),
        ("`go-cue` > 5", [1, 2, 3]),
        ("id in [100, 12]", [0, 3]),
        ("id > 100 and `trial` < 8", [2]),
    ],
)
def test_a_column_goes_by_its_name_in_backquotes_and_a_row_by_its_id(expression, expected):
    assert rows(expression, ODD) == expected


def test_a_column_called_id_is_meant_rather_than_the_rows_ids():
    assert rows("id == 2", pd.DataFrame({"id": [1, 2, 3]}, index=[2, 3, 4])) == [1]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("trial type == 'go'", [0, 2]),
        ("trial_type == 'go'", [0, 2]),
        ("class == 'E'", [0, 2, 3]),
        ("rate [Hz] > 2 and name == 'a'", [2]),
        ("go-cue > 5", [1, 2, 3]),
        ("not class == 'E' or trial type in ['catch']", [1, 3]),
        ("name == 'trial type' or trial type == 'go'", [0, 2]),
    ],
)
def test_what_lacks_backquotes_is_answered_by_an_option_that_a_shell_understands(
    expression, expected
):
    with pytest.raises(SelectionError) as error:
        rows(expression, ODD)
    typed = with_flags(error.value.remedy)
    option, again = shlex.split(typed)[:2]
    assert option == "--where"
    assert rows(again, ODD) == expected
    shell = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {typed.split(' (')[0]}"],
        capture_output=True,
        text=True,
    )
    assert shell.stdout.splitlines() == [option, again]


SEVERAL = pd.DataFrame(
    {
        "tags": [("good",), ("good", "late"), (), ("late",), ("bad", "late", "odd")],
        "location": [("M1",), ("M1", "PMd"), None, ("PMd",), ("S1",)],
        "depth": [(1.0, 2.0), (2.0, 9.0), None, (9.0,), (4.0,)],
        "quality": ["good"] * 5,
    }
)


@pytest.mark.parametrize(
    "expression",
    [
        "'good' in tags",
        "'late' not in tags",
        "not 'good' in tags",
        "'good' in tags and 'late' in tags",
    ],
)
def test_one_of_several_values_is_found_as_python_finds_it(expression):
    expected = [i for i, tags in enumerate(SEVERAL.tags) if eval(expression, {"tags": tags})]
    assert rows(expression, SEVERAL) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "location == 'M1'",
        "location != 'M1'",
        "depth > 3",
        "3 < depth",
        "depth in [1, 2, 4]",
        "tags != 'good'",
    ],
)
@pytest.mark.filterwarnings("ignore:.*some values of:UserWarning")
def test_a_comparison_holds_of_all_values_of_a_row_or_not_at_all(expression):
    name = next(name for name in SEVERAL if name in expression)
    of_each = [
        [eval(expression, {name: value}) for value in several or ()] for several in SEVERAL[name]
    ]
    assert rows(expression, SEVERAL) == [
        i for i, found in enumerate(of_each) if found and all(found)
    ]
    assert rows(f"not {expression}", SEVERAL) == [
        i for i, found in enumerate(of_each) if found and not any(found)
    ]


def test_of_a_row_that_refers_to_nothing_nothing_is_known():
    assert rows("'M1' not in location", SEVERAL) == [3, 4]
    assert rows("'M1' not in location or quality == 'good'", SEVERAL) == [0, 1, 2, 3, 4]


def test_rows_between_are_named_with_what_asks_for_one_value():
    with pytest.warns(
        UserWarning,
        match=r"of 1 of 5 rows of trials some values .*\(M1 \+ PMd\); left out \('M1' in location",
    ):
        assert rows("location == 'M1'", SEVERAL) == [0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [("'good' in quality", [0, 1, 2, 3, 4]), ("'bad' not in quality", [0, 1, 2, 3, 4])],
)
def test_a_part_of_a_text_is_not_asked_for_and_the_comparison_is_offered(expression, expected):
    with pytest.raises(SelectionError, match="one value a row") as error:
        rows(expression, SEVERAL)
    assert rows(shlex.split(with_flags(error.value.remedy))[1], SEVERAL) == expected


def test_what_a_column_of_several_values_cannot_answer_is_refused():
    for expression in ("tags", "location == quality", "-1 in depth"):
        with pytest.raises(SelectionError, match="cannot select"):
            rows(expression, SEVERAL)
