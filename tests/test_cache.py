"""One folder keeps parts of remote files and compiled kernels."""

from pathlib import Path

import pytest

from metadyn.cache import cache_folder
from metadyn.model.ops import kernels
from metadyn.nwb.addresses import assets
from metadyn.nwb.remote import RemoteFile


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"METADYN_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"METADYN_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/ndx-metadyn"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/ndx-metadyn"),
        ({}, "/home/me/.cache/ndx-metadyn"),
    ],
)
def test_the_folder_is_the_variables_of_its_own_or_of_the_system(monkeypatch, given, expected):
    for name in ("METADYN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_kernels_and_blocks_of_remote_files_lie_in_it(monkeypatch, tmp_path, serve):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.nwb").write_bytes(b"0123456789")
    server = serve(tmp_path / "files")
    monkeypatch.setenv("METADYN_CACHE", str(tmp_path / "own"))
    asked = []
    monkeypatch.setattr(kernels, "_compiled", lambda _, folder: asked.append(folder) or "none.so")
    with pytest.raises(OSError, match="none"):
        kernels._load()
    assert asked[0] == tmp_path / "own"
    with RemoteFile(assets(f"{server.url}/a.nwb")[0]) as remote:
        assert remote.read() == b"0123456789"
    assert any(path.is_file() for path in (tmp_path / "own").rglob("*"))
