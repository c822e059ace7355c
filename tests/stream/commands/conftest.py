"""What tests of batches share: a folder of two recordings, and where their images go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stream import packets
from tests.stream.commands.test_offline import recorded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        recorded(tmp_path / "in" / f"{name}.nire", packets.usual())
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
