"""Fixtures for the tests of the stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.stream.chromium import open_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One headless Chromium for all tests; each test opens its own page."""
    with open_browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver
