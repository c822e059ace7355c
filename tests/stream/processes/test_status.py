"""What a stream says of itself: the rate that its plan asks for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from drivers.source import SourceInfo
from nire.types import Geometry
from stream.config import load_config
from stream.config_sections import PlanConfig
from stream.processes.board import Board
from stream.processes.status import StatusKeeper
from stream.rings.ring import sweep


@pytest.fixture
def board() -> Iterator[Board]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    with Board.create(name, ["consumer", "producer"]) as made:
        yield made
    sweep(name)


@pytest.mark.parametrize(("permille", "asked_hz"), [(0, 400), (250, 100), (1000, 400), (2000, 800)])
def test_plan_asks_for_as_many_images_a_second_as_a_replay_s_speed_brings(
    board: Board, permille: int, asked_hz: float
) -> None:
    """At a quarter of the speed all images came, and the page said 99 of 400."""
    board.row("producer")["replay_permille"] = permille
    info = SourceInfo("a.aedat4", Geometry(8, 6))
    keeper = StatusKeeper(load_config(None), info, board, board.row("consumer"), "tcp://a", "tcp://b")
    plan = PlanConfig(name="upsample", rate_hz=400)
    assert keeper.asked_hz(plan) == asked_hz
    assert f"of {asked_hz} images a second" in keeper.line(plan, paused=False)
