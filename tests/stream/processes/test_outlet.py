"""Captured frames are numbered for those who look: the count goes on, whatever begins anew, and keeps its holes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from nire.types import Frame
from stream.processes.board import Board, Row
from stream.processes.outlet import counted_on
from stream.rings.ring import sweep


@pytest.fixture
def row() -> Iterator[Row]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    with Board.create(name, ["consumer"]) as board:
        board.row("consumer").begin()
        yield board.row("consumer")
    sweep(name)


def numbers(row: Row, indices: list[int], *, epoch: int) -> list[int]:
    pixels = np.zeros((2, 2, 1), np.uint8)
    return [counted_on(Frame(index, pixels, 0, 10, epoch=epoch), row).index for index in indices]


def test_count_of_the_camera_goes_on_where_it_begins_anew(row: Row) -> None:
    assert numbers(row, [7, 8, 9], epoch=0) == [7, 8, 9]
    assert numbers(row, [0, 1], epoch=1) == [10, 11]
    assert numbers(row, [83, 84], epoch=3) == [12, 13]


def test_holes_in_the_count_of_the_camera_stay(row: Row) -> None:
    assert numbers(row, [0, 1, 4], epoch=0) == [0, 1, 4]
    assert numbers(row, [2, 3, 9], epoch=1) == [5, 6, 12]


def test_next_life_of_the_consumer_counts_on(row: Row) -> None:
    assert numbers(row, [10, 11], epoch=2) == [10, 11]
    row.begin()
    assert numbers(row, [15, 16], epoch=2) == [15, 16]
    row.begin()
    assert numbers(row, [0, 1], epoch=3) == [17, 18]


def test_no_index_comes_twice_even_if_the_count_goes_back_within_a_life_of_the_clock(row: Row) -> None:
    assert numbers(row, [0, 1, 2, 1, 2, 0, 5], epoch=0) == [0, 1, 2, 3, 4, 5, 10]
