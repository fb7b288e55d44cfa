"""Rows of a table by an expression: comparisons of columns and literals joined by and, or, not.
Nothing else is evaluated."""

from __future__ import annotations

import ast
import difflib
import operator
import re
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np
import pandas as pd

from metadyn.data.expressions import MOST_CHARACTERS, names_in, parse, spelled, with_backquotes
from metadyn.errors import SelectionError, as_keywords

Literal: TypeAlias = str | bool | int | float
Operand: TypeAlias = pd.Series | Literal | list[Literal]
Comparison = Callable[[Any, Any], Any]  # of columns and literals, row by row
COMPARISONS: dict[type[ast.cmpop], Comparison] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
GRAMMAR = (
    "comparisons (== != < <= > >= in) of columns and literals, joined by and, or, not and "
    "parentheses"
)
EXAMPLE = "\"result == 'R' and not (target_id in [1, 2])\""
HOLDS = 0
FAILS = 1  # rows of a truth (2, row); where a value is missing, neither


def select_rows(
    table: pd.DataFrame,
    expression: str,
    *,
    what: str,
    option: str = "where",
    file: str | None = None,
) -> np.ndarray:
    """Mask (row,) of the rows for which the expression is known to hold.

    A column goes by its name, in backquotes where that is no Python identifier (`` `KS label` ==
    'good' ``); `id` is the row's id in the file where no column is called so. Of a missing value
    (NaN, None or empty text) nothing is known: a comparison with it neither holds nor fails, and
    `not` leaves it so. `and` fails where one side fails, `or` holds where one side holds, whatever
    the other (Kleene's logic). Where a row has several values (tags, the locations of a unit's
    electrodes), `'M1' in location` holds if one of them is M1; `location == 'M1'` holds if all of
    them are, fails if none is, and rows between are left out with a warning.

    `what` names the rows in messages ("rows of trials"), `option` the option that the expression
    was given by, `file` where the rows come from. Raises SelectionError for an unknown column,
    anything beyond comparisons of columns and literals, and an expression that keeps no row.
    """
    evaluator = _Evaluator(table, expression, what, option, file)
    try:
        tree = parse(expression)
        mask = evaluator.truth(tree)[HOLDS]
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise evaluator.malformed(str(error)) from error
    if not mask.any():
        found = (
            "; ".join(
                f"{name}: {summarise_values(column_of(table, name))}" for name in names_in(tree)
            )
            or f"{len(table)} rows"
        )
        raise SelectionError(
            f"no {what} left",
            file=file,
            item=expression,
            found=found,
            remedy="loosen the expression",
        )
    return mask


def column_of(table: pd.DataFrame, name: str) -> pd.Series | None:
    """A column by its name, `id` for the rows' ids; None where there is none."""
    if name in table:
        return table[name]
    return pd.Series(table.index, index=table.index) if name == "id" else None


def summarise_values(column: pd.Series, most: int = 8) -> str:
    """What a column holds, short: its values with their counts, or its range when there are
    many."""
    if has_several(column):
        column = column.map(
            lambda each: " + ".join(map(str, each)) if isinstance(each, tuple) else each
        )
    counts = column.value_counts(dropna=False)
    if len(counts) > most and pd.api.types.is_numeric_dtype(column):
        n_missing = int(column.isna().sum())
        return f"{column.min():g} to {column.max():g}" + (f", {n_missing} NaN" if n_missing else "")
    shown = most if len(counts) <= most else 3
    listed = [
        f"{value!r} ({count})"
        for value, count in zip(counts.index[:shown].tolist(), counts.iloc[:shown], strict=True)
    ]
    return ", ".join(listed) + ("" if shown == most else f", … ({len(counts)} different)")


def has_several(column: object) -> TypeGuard[pd.Series]:
    """Whether a row of this column may have several values, as a tuple."""
    return (
        isinstance(column, pd.Series)
        and column.dtype == object
        and any(isinstance(each, tuple) for each in column)
    )


def nearest_column(table: pd.DataFrame, name: str) -> str | None:
    """The column whose name is most like this one; None where none is like it."""
    nearest = difflib.get_close_matches(name, map(str, table.columns), n=1, cutoff=0.5)
    return nearest[0] if nearest else None


def no_such_column(
    table: pd.DataFrame, name: str, what: str, file: str | None, remedy: str | None = None
) -> SelectionError:
    """The error that lists the columns there are; unless another remedy is given, it names the
    nearest."""
    nearest = nearest_column(table, name)
    remedy = remedy or (f"did you mean {nearest!r}?" if nearest else "use one of these columns")
    found = f"columns: {', '.join(map(str, table.columns)) or 'none'}"
    return SelectionError(
        f"no column {name!r} for {what}", file=file, item=name, found=found, remedy=remedy
    )


class _Evaluator:
    """Walks the few kinds of node that are allowed; every other one is refused by name."""

    def __init__(
        self, table: pd.DataFrame, expression: str, what: str, option: str, file: str | None
    ) -> None:
        self.table, self.expression, self.what, self.option, self.file = (
            table,
            expression,
            what,
            option,
            file,
        )

    def truth(self, node: ast.expr) -> np.ndarray:
        """Where the expression holds and where it fails (2, row)."""
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _all([self.truth(value) for value in values])
            case ast.BoolOp(op=ast.Or(), values=values):
                return _all([self.truth(value)[::-1] for value in values])[::-1]
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.truth(operand)[::-1]
            case ast.Compare():
                return self.comparison(node)
            case ast.Name(id=name):
                return self.flag(name)
        raise self.refused(node)

    def comparison(self, node: ast.Compare) -> np.ndarray:
        operands = [node.left, *node.comparators]
        if not names_in(node):
            raise self.refused(node)
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        return _all([self.compare(left, op, right) for left, op, right in pairs])

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> np.ndarray:
        if isinstance(op, ast.In | ast.NotIn):
            return self.membership(left, right, isinstance(op, ast.NotIn))
        if type(op) not in COMPARISONS:
            raise self.refused(op)
        first, second = self.operand(left), self.operand(right)
        if has_several(first) or has_several(second):
            return self.of_several(
                first, second, COMPARISONS[type(op)], ast.unparse(ast.Compare(left, [op], [right]))
            )
        return _truth(
            np.broadcast_to(self.holds(COMPARISONS[type(op)], first, second), len(self.table)),
            _is_missing(first, second),
        )

    def holds(self, compare: Comparison, first: Operand, second: Operand) -> np.ndarray:
        try:
            return np.asarray(compare(first, second), dtype=bool)
        except TypeError as error:
            raise self.malformed(str(error)) from error

    def of_several(
        self, first: Operand, second: Operand, compare: Comparison, said: str
    ) -> np.ndarray:
        """Where a comparison with a literal holds of all values of a row, and where of none."""
        flipped = not has_several(first)
        column = cast(pd.Series, second if flipped else first)
        other = first if flipped else second
        if isinstance(other, pd.Series):
            raise self.malformed(
                f"a column of several values a row, {column.name!r}, beside another column"
            )
        n_values = column.map(lambda each: len(each) if isinstance(each, tuple) else 0).to_numpy()
        values = pd.Series(
            list(chain.from_iterable(each for each in column if isinstance(each, tuple)))
        )
        holds = self.holds(compare, *((other, values) if flipped else (values, other)))
        n_holding = np.bincount(
            np.repeat(np.arange(len(column)), n_values), weights=holds, minlength=len(column)
        )
        truth = np.stack(
            [(n_values > 0) & (n_holding == n_values), (n_values > 0) & (n_holding == 0)]
        )
        self.say_mixed(column, said, (n_values > 0) & ~truth.any(axis=0))
        return truth

    def say_mixed(self, column: pd.Series, said: str, mixed: np.ndarray) -> None:
        if mixed.any():
            example = " + ".join(map(str, column[mixed].iloc[0]))
            one = f"{column[mixed].iloc[0][0]!r} in {spelled(column.name)}"
            found = (
                f"of {mixed.sum()} of {len(mixed)} {self.what} some values of {column.name!r} "
                f"fulfil {said}, some do not"
            )
            warnings.warn(
                f"{self.file or self.what}: {found} ({example}); left out ({one} asks for one of "
                "them)",
                stacklevel=8,
            )

    def membership(self, left: ast.expr, right: ast.expr, negated: bool) -> np.ndarray:
        if isinstance(left, ast.Constant) and isinstance(right, ast.Name):
            return self.one_of_several(left, right, negated)
        if not (isinstance(left, ast.Name) and isinstance(right, ast.List | ast.Tuple | ast.Set)):
            raise self.refused(right)
        column, listed = self.column(left.id), [self.literal(item) for item in right.elts]

        def inside(values: pd.Series, _: object) -> np.ndarray:
            return values.isin(listed).to_numpy() ^ negated

        if has_several(column):
            said = f"{left.id} {'not ' * negated}in {listed}"
            return self.of_several(column, listed, inside, said)
        return _truth(inside(column, listed), _is_missing(column))

    def one_of_several(self, left: ast.Constant, right: ast.Name, negated: bool) -> np.ndarray:
        """`'M1' in location`: whether it is one of a row's values. Of a row that refers to nothing,
        that is not known."""
        column, value = self.column(right.id), self.literal(left)
        if not has_several(column):
            instead = f"{spelled(right.id)} {'!=' if negated else '=='} {left.value!r}"
            raise self.malformed(
                f"{right.id!r} has one value a row", f"{self.as_option(instead)} compares it"
            )
        inside = column.map(lambda each: isinstance(each, tuple) and value in each).to_numpy(
            dtype=bool
        )
        return _truth(inside ^ negated, _is_missing(column))

    def operand(self, node: ast.expr) -> Operand:
        return self.column(node.id) if isinstance(node, ast.Name) else self.literal(node)

    def column(self, name: str) -> pd.Series:
        column = column_of(self.table, name)
        if column is None:
            raise self.unknown(name)
        return column

    def unknown(self, name: str) -> SelectionError:
        nearest, remedy = nearest_column(self.table, name), None
        if nearest and spelled(nearest) != nearest:
            meant = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _: nearest, self.expression)
            remedy = self.as_option(with_backquotes(meant, [nearest]))
        return no_such_column(self.table, name, self.what, self.file, remedy)

    def literal(self, node: ast.expr) -> Literal:
        match node:
            case ast.Constant(value=str() | bool() | int() | float() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
        raise self.refused(node)

    def flag(self, name: str) -> np.ndarray:
        """A bare column: booleans, or the zeros and ones that many files keep them as."""
        column = self.column(name)
        missing = _is_missing(column)
        if not column[~missing].isin([True, False]).all():
            raise self.malformed(f"{name!r} is not boolean: {summarise_values(column)}")
        return _truth(column.isin([True]).to_numpy(), missing)

    def refused(self, node: ast.AST) -> SelectionError:
        return self.malformed(f"{type(node).__name__}, which is not evaluated")

    def malformed(self, found: str, remedy: str | None = None) -> SelectionError:
        item = self.expression if len(self.expression) < 200 else self.expression[:200] + "…"
        problem, remedy = (
            f"cannot select {self.what} by this expression",
            remedy or self.in_backquotes(),
        )
        return SelectionError(
            problem,
            file=self.file,
            item=item,
            found=found,
            remedy=remedy or f"{GRAMMAR}, e.g. {EXAMPLE}",
        )

    def in_backquotes(self) -> str | None:
        """The option with backquotes where column names need them, if that is what is wrong."""
        meant = with_backquotes(self.expression[:MOST_CHARACTERS], map(str, self.table.columns))
        if meant.count("`") == self.expression.count("`"):
            return None
        try:
            _Evaluator(self.table, meant, self.what, self.option, self.file).truth(parse(meant))
        except (SelectionError, SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        return f"{self.as_option(meant)} (backquotes round a name that is no word)"

    def as_option(self, expression: str) -> str:
        return as_keywords({self.option: expression})


def _truth(holds: np.ndarray, missing: np.ndarray | bool) -> np.ndarray:
    return np.stack([holds & ~missing, ~holds & ~missing])


def _all(truths: list[np.ndarray]) -> np.ndarray:
    """`and`: holds where all hold, fails where any fails."""
    holds, fails = np.stack(truths, axis=1)
    return np.stack([holds.all(axis=0), fails.any(axis=0)])


def _is_missing(*operands: Operand) -> np.ndarray | bool:
    """Mask (row,) of NaN, None and empty text in any column of these; a literal is never
    missing."""
    missing = [
        (each.isna() | (each == "")).to_numpy() for each in operands if isinstance(each, pd.Series)
    ]
    return np.logical_or.reduce(missing) if missing else False
