"""Arguments of constructors, in hdmf's words."""

from __future__ import annotations


def optional(**columns):
    """docval entries, default None, from name=(type, doc)."""
    return tuple(
        {"name": name, "type": kind, "doc": doc, "default": None}
        for name, (kind, doc) in columns.items()
    )
