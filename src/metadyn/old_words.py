"""The words of version 0.1.0 that were renamed: read everywhere, and written into model files.

A model file of format 1 is one that 0.1.0 can read, so it speaks 0.1.0's words. Whoever renames a
key or a value of the configuration adds a line here, and nothing else anywhere.
"""

from __future__ import annotations

from typing import Any

KEYS: dict[str, dict[str, str]] = {
    # section of the configuration: old key → key
    "training": {"distil_steps": "pretrain_steps", "distil_starts": "pretrain_inits"},
}
VALUES: dict[tuple[str, str], dict[str, str]] = {
    # section and key: old value, or item of a list → value
    ("model", "conditioning"): {"input": "embedding_input"},
    ("model", "changed_layers"): {"input": "first"},
}
NEW_KEYS: dict[str, dict[str, Any]] = {
    # section: key that 0.1.0 does not know → the value that says what 0.1.0 did
    "model": {"dynamics": "mlp"},
}


def modern(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """A section of a configuration in today's words, whichever it was written in.

    >>> modern("model", {"conditioning": "input", "rank": 2})
    {'conditioning': 'embedding_input', 'rank': 2}
    """
    found = {}
    for old, value in values.items():
        key = KEYS.get(section, {}).get(old, old)
        words = VALUES.get((section, key), {})
        found[key] = _reworded(value, words)
    return found


def as_in_format_1(section: str, values: dict[str, Any]) -> dict[str, Any]:
    """A section of a configuration in the words of 0.1.0.

    Keys that 0.1.0 does not know are left out where they say what it did anyway. The others stay,
    and make a file one of format 2.

    >>> as_in_format_1("model", {"dynamics": "mlp", "conditioning": "embedding_input"})
    {'conditioning': 'input'}
    """
    old_keys = _inverse(KEYS.get(section, {}))
    needed = beyond_format_1(section, values)
    found = {}
    for key, value in values.items():
        if key in NEW_KEYS.get(section, {}) and key not in needed:
            continue
        words = _inverse(VALUES.get((section, key), {}))
        found[old_keys.get(key, key)] = _reworded(value, words)
    return found


def beyond_format_1(section: str, values: dict[str, Any]) -> list[str]:
    """Keys whose values 0.1.0 could not follow.

    >>> beyond_format_1("model", {"dynamics": "linear", "rank": 2})
    ['dynamics']
    """
    usual = NEW_KEYS.get(section, {})
    return [key for key, value in values.items() if key in usual and value != usual[key]]


def _inverse(words: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in words.items()}


def _reworded(value: Any, words: dict[str, str]) -> Any:
    """A word, or each word of a list, by its other name; what is no such word stays as it is."""
    if isinstance(value, list | tuple):
        return type(value)(_reworded(each, words) for each in value)
    return words.get(value, value) if isinstance(value, str) else value
