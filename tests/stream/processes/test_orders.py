"""Orders and lines between processes: whole or not at all, and nobody waits for a side that does not listen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from stream.processes.log import Unblocked
from stream.processes.orders import Orders


@pytest.fixture
def pair() -> Iterator[tuple[Orders, Orders]]:
    ends = Orders.pair()
    yield ends
    for end in ends:
        end.close()


def test_side_that_does_not_listen_holds_up_nobody_and_what_is_refused_is_counted(
    pair: tuple[Orders, Orders],
) -> None:
    mine, theirs = pair
    sent = [number for number in range(5000) if mine.send({"order": "set_source", "number": number})]
    assert 0 < len(sent) < 5000
    assert mine.refused == 5000 - len(sent)
    heard: list[Any] = []
    while (order := theirs.receive()) is not None:
        heard.append(order["number"])
    assert heard == sent
    assert mine.send({"order": "stop"})
    assert theirs.receive(timeout_s=1.0) == {"order": "stop"}


@pytest.mark.parametrize("settings", ["x" * 40_000, 2**70, object()], ids=["long", "huge", "strange"])
def test_what_cannot_be_sent_is_refused(pair: tuple[Orders, Orders], settings: Any) -> None:
    mine, theirs = pair
    assert not mine.send({"order": "set_source", "settings": settings})
    assert mine.refused == 1
    assert theirs.receive() is None


def test_side_that_has_gone_is_an_end(pair: tuple[Orders, Orders]) -> None:
    mine, theirs = pair
    theirs.close()
    assert not mine.send({"order": "stop"})
    with pytest.raises(EOFError):
        mine.receive()


def test_text_that_nobody_reads_is_left_out_and_told_later() -> None:
    reader, writer = os.pipe()
    out = Unblocked(writer)
    for _ in range(3000):
        print("a line of some letters, as a log has them", file=out)
    whole = os.read(reader, 1 << 20)
    assert 0 < len(whole) <= 1 << 16
    print("last", file=out)
    assert b"bytes before this were left out: nobody read them)\nlast\n" in os.read(reader, 1 << 20)
    os.close(reader)
    print("to nobody", file=out)
    os.close(writer)
