"""For tests of whole streams: a short recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.live_stream import write_short


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """One second of the small camera."""
    path = tmp_path / "short.nire"
    write_short(path)
    return path
