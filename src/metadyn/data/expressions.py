"""Expressions on the columns of a table as a person writes them: their trees, and names in
backquotes."""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
from collections.abc import Iterable

MOST_CHARACTERS = 10_000  # characters; no person writes more
TEXT = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""  # a literal, in which nothing is a column
BACKQUOTED = re.compile(rf"{TEXT}|`([^`]*)`")


def parse(expression: str) -> ast.expr:
    """The tree of an expression; names in backquotes are names like any other. Raises what
    `ast.parse` raises."""
    expression = expression[:MOST_CHARACTERS].strip()
    mark = "_"
    while mark in expression:
        mark += "_"
    names: list[str] = []

    def placeholder(match: re.Match) -> str:
        if match[1] is None:
            return match[0]
        names.append(match[1])
        return f"{mark}{len(names) - 1} "

    tree = ast.parse(BACKQUOTED.sub(placeholder, expression), mode="eval").body
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id.startswith(mark):
            node.id = names[int(node.id.removeprefix(mark))]
    return tree


def names_in(tree: ast.AST) -> list[str]:
    """The columns that an expression names."""
    return sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})


def spelled(name: str) -> str:
    """A column's name as an expression has it, in backquotes where it is no Python identifier."""
    plain = (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and unicodedata.normalize("NFKC", name) == name
    )
    return name if plain else f"`{name}`"


def with_backquotes(expression: str, names: Iterable[str]) -> str:
    """The expression with every name that needs them in backquotes; texts in double quotes, as a
    shell bears them."""
    odd = sorted((name for name in names if spelled(name) != name), key=len, reverse=True)
    listed = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in odd)

    def mend(match: re.Match) -> str:
        text = match[0]
        if text[0] == "'":
            return text if '"' in text or "\\" in text else f'"{text[1:-1]}"'
        return spelled(text) if match[1] is None and text[0] != '"' else text

    return re.sub(
        rf"{BACKQUOTED.pattern}|{listed}" if odd else BACKQUOTED.pattern, mend, expression
    )
