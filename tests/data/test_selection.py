"""Expressions that keep rows: against plain Python row by row, and everything that must not be evaluated."""

import ast
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


ATOMS = st.sampled_from(["a < 2", "a == b", "0 <= b < 3", "a in [0, 3]", "flag", "b != 1", "b not in (1, 2)"])


def joined(inner):
    both = st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
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
    expected = [i for i, each in enumerate(grid) if three_valued(tree, dict(zip("ab", each, strict=False), flag=each[2]))]
    if expected:
        assert rows(expression, table) == expected
    else:
        with pytest.raises(SelectionError, match="no rows of trials left"):
            rows(expression, table)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_random_expressions_agree_with_python_row_by_row(data):
    expression = data.draw(expressions)
    table = pd.DataFrame({"a": [0, 1, 2, 3] * 8, "b": [0, 0, 1, 1, 2, 2, 3, 3] * 4, "flag": np.repeat([True, False], 16)})
    expected = [i for i, row in enumerate(table.to_dict("records")) if eval(expression, {"__builtins__": {}}, row)]
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
