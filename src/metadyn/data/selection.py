"""Rows of a table by an expression: comparisons of columns and literals joined by and, or, not. Nothing else is evaluated."""

from __future__ import annotations

import ast
import difflib
import operator

import numpy as np
import pandas as pd

from metadyn.errors import SelectionError

COMPARISONS = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
GRAMMAR = "comparisons (== != < <= > >= in) of columns and literals, joined by and, or, not and parentheses"
EXAMPLE = "\"result == 'R' and not (target_id in [1, 2])\""
LONGEST = 10_000  # characters; no person writes more
HOLDS, FAILS = 0, 1  # rows of a truth (2, row); where a value is missing, neither


def select_rows(table: pd.DataFrame, expression: str, *, what: str, file: str | None = None) -> np.ndarray:
    """Mask (row,) of the rows for which the expression is known to hold.

    Of a missing value (NaN, None or empty text) nothing is known: a comparison with it neither holds nor fails, and `not`
    leaves it so. `and` fails where one side fails, `or` holds where one side holds, whatever the other (Kleene's logic).

    `what` names the rows in messages ("rows of trials"), `file` where they come from. Raises SelectionError for an
    unknown column, anything beyond comparisons of columns and literals, and an expression that keeps no row.
    """
    try:
        tree = ast.parse(expression[:LONGEST].strip(), mode="eval").body
        mask = _Evaluator(table, expression, what, file).truth(tree)[HOLDS]
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise _malformed(expression, what, file, str(error)) from error
    if not mask.any():
        found = "; ".join(f"{name}: {values_of(table[name])}" for name in _names(tree)) or f"{len(table)} rows"
        raise SelectionError(f"no {what} left", file=file, item=expression, found=found, remedy="loosen the expression")
    return mask


def _malformed(expression: str, what: str, file: str | None, found: str) -> SelectionError:
    item = expression if len(expression) < 200 else expression[:200] + "…"
    remedy = f"{GRAMMAR}, e.g. {EXAMPLE}"
    return SelectionError(f"cannot select {what} by this expression", file=file, item=item, found=found, remedy=remedy)


def _names(tree: ast.AST) -> list[str]:
    return sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})


def values_of(column: pd.Series, most: int = 8) -> str:
    """What a column holds, short: its values with their counts, or its range when there are many."""
    counts = column.value_counts(dropna=False)
    if len(counts) > most and pd.api.types.is_numeric_dtype(column):
        return f"{column.min():g} to {column.max():g}, {column.isna().sum()} NaN"
    shown = most if len(counts) <= most else 3
    listed = [f"{value!r} ({count})" for value, count in zip(counts.index[:shown].tolist(), counts.iloc[:shown], strict=True)]
    return ", ".join(listed) + ("" if shown == most else f", … ({len(counts)} different)")


def no_such_column(table: pd.DataFrame, name: str, what: str, file: str | None) -> SelectionError:
    """The error that lists the columns there are, the nearest first in the remedy."""
    nearest = difflib.get_close_matches(name, map(str, table.columns), n=1, cutoff=0.5)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "use one of these columns"
    found = f"columns: {', '.join(map(str, table.columns)) or 'none'}"
    return SelectionError(f"no column {name!r} for {what}", file=file, item=name, found=found, remedy=remedy)


class _Evaluator:
    """Walks the few kinds of node that are allowed; every other one is refused by name."""

    def __init__(self, table, expression, what, file):
        self.table, self.expression, self.what, self.file = table, expression, what, file

    def truth(self, node) -> np.ndarray:
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

    def comparison(self, node) -> np.ndarray:
        operands = [node.left, *node.comparators]
        if not _names(node):
            raise self.refused(node)
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        return _all([self.compare(left, op, right) for left, op, right in pairs])

    def compare(self, left, op, right) -> np.ndarray:
        if isinstance(op, ast.In | ast.NotIn):
            return self.membership(left, right, isinstance(op, ast.NotIn))
        if type(op) not in COMPARISONS:
            raise self.refused(op)
        first, second = self.operand(left), self.operand(right)
        try:
            holds = np.asarray(COMPARISONS[type(op)](first, second), dtype=bool)
        except TypeError as error:
            raise self.malformed(str(error)) from error
        return _truth(np.broadcast_to(holds, len(self.table)), _missing(first) | _missing(second))

    def membership(self, left, right, negated) -> np.ndarray:
        if not (isinstance(left, ast.Name) and isinstance(right, ast.List | ast.Tuple | ast.Set)):
            raise self.refused(right)
        column = self.column(left.id)
        inside = column.isin([self.literal(item) for item in right.elts]).to_numpy()
        return _truth(~inside if negated else inside, _missing(column))

    def operand(self, node):
        return self.column(node.id) if isinstance(node, ast.Name) else self.literal(node)

    def column(self, name: str) -> pd.Series:
        if name not in self.table:
            raise no_such_column(self.table, name, self.what, self.file)
        return self.table[name]

    def literal(self, node):
        match node:
            case ast.Constant(value=str() | bool() | int() | float()):
                return node.value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
        raise self.refused(node)

    def flag(self, name: str) -> np.ndarray:
        """A bare column: booleans, or the zeros and ones that many files keep them as."""
        column = self.column(name)
        missing = _missing(column)
        if not column[~missing].isin([True, False]).all():
            raise self.malformed(f"{name!r} is not boolean: {values_of(column)}")
        return _truth(column.isin([True]).to_numpy(), missing)

    def refused(self, node) -> SelectionError:
        return self.malformed(f"{type(node).__name__}, which is not evaluated")

    def malformed(self, found: str) -> SelectionError:
        return _malformed(self.expression, self.what, self.file, found)


def _truth(holds: np.ndarray, missing) -> np.ndarray:
    return np.stack([holds & ~missing, ~holds & ~missing])


def _all(truths: list[np.ndarray]) -> np.ndarray:
    """`and`: holds where all hold, fails where any fails."""
    holds, fails = np.stack(truths, axis=1)
    return np.stack([holds.all(axis=0), fails.any(axis=0)])


def _missing(operand):
    """Mask (row,) of NaN, None and empty text in a column; a literal is never missing."""
    return (operand.isna() | (operand == "")).to_numpy() if isinstance(operand, pd.Series) else False
