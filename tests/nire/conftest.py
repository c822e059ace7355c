"""Fixtures of what is trained and what is run."""

from __future__ import annotations

import pytest

from nire.training.pictures import Bank
from tests.nire.training.rooms import small_bank


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """A small bank of pictures."""
    return small_bank(tmp_path_factory.mktemp("pictures"))
