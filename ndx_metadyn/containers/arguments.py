"""Arguments of constructors as hdmf's `docval` takes them."""

from __future__ import annotations

from typing import Any


def optional(**arguments: tuple[Any, str]) -> tuple[dict[str, Any], ...]:
    """Entries of `docval` for arguments that default to None.

    Parameters
    ----------
    arguments : for each name the type (or tuple of types, or hdmf's name of one) and the sentence
        that documents it.

    >>> optional(digest=(str, "digest of the bytes"))
    ({'name': 'digest', 'type': <class 'str'>, 'doc': 'digest of the bytes', 'default': None},)
    """
    return tuple(
        {"name": name, "type": allowed, "doc": doc, "default": None}
        for name, (allowed, doc) in arguments.items()
    )
