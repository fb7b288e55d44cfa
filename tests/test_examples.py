"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import metadyn
import ndx_metadyn


def modules_with_examples() -> list[str]:
    """Names of the modules of both packages in which there is an example."""
    found = []
    for package in (metadyn, ndx_metadyn):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            source = Path(module.module_finder.path, *module.name.split(".")[-1:])
            files = [source.with_suffix(".py"), source / "__init__.py"]
            if any(">>> " in file.read_text() for file in files if file.is_file()):
                found.append(module.name)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples may write
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert tried
    assert not failed
