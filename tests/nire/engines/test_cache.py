"""The cache of engines: found again under the same key only, and never half written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nire.engines import cache
from nire.engines.cache import Cache, default_folder, digest_of, key_of
from nire.errors import EngineMismatch
from tests.nire.network import tiny

KEY = {"config": "nano", "weights": "abc", "gpu": "one"}


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    assert Cache(tmp_path, KEY).path("build") is None
    Cache(tmp_path, KEY).put("build", b"engine")
    found = Cache(tmp_path, KEY).path("build")
    assert found is not None
    assert found.read_bytes() == b"engine"
    assert sorted(path.name for path in found.parent.iterdir()) == ["build", "key.json"]


@pytest.mark.parametrize("changed", ["config", "weights", "gpu"])
def test_another_key_finds_nothing(tmp_path: Path, changed: str) -> None:
    Cache(tmp_path, KEY).put("build", b"engine")
    assert Cache(tmp_path, {**KEY, changed: "other"}).path("build") is None


def test_folder_made_for_another_key_is_refused_by_name(tmp_path: Path) -> None:
    made = Cache(tmp_path, KEY)
    made.put("build", b"engine")
    other = Cache(tmp_path, {**KEY, "gpu": "two"})
    made.folder.rename(other.folder)
    with pytest.raises(EngineMismatch, match=r"another gpu: found 'one', expected 'two'.*Delete"):
        Cache(tmp_path, {**KEY, "gpu": "two"})


def test_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    made = Cache(tmp_path, KEY)
    made.put("build", b"engine")
    (made.folder / "key.json").write_bytes(b"{")
    with pytest.raises(EngineMismatch, match="delete that folder"):
        Cache(tmp_path, KEY)


def test_key_tells_one_network_from_another() -> None:
    network = tiny.network()
    assert key_of(network, height=16) == key_of(tiny.network(), height=16)
    assert key_of(network, height=16) != key_of(network, height=32)
    assert key_of(network)["config"] != key_of(tiny.network(bands=2))["config"]
    before = digest_of(network)
    with torch.no_grad():
        next(network.parameters()).flatten()[0] += 1e-3
    assert digest_of(network) != before


def test_key_tells_one_version_of_the_code_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_CODE", (tmp_path,))
    keys = []
    for text in ("made = 1", "made = 2", "made = 1"):
        (tmp_path / "layers.py").write_text(text, encoding="utf-8")
        cache._digest_of_code.cache_clear()
        keys.append(key_of(tiny.network()))
    cache._digest_of_code.cache_clear()
    assert keys[0] == keys[2] != keys[1]


def test_folder_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "nire-live" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "nire-live" / "engines"
