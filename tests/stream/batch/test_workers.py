"""How orders are handed out, wherever workers live: deaths, starts that fail, places with less room than asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import pytest

from stream.batch.worker import Ending, Order, Reached
from stream.batch.workers import Died, Started, Worker, Workers
from stream.config import Config

Message = Started | Reached | Ending | Died


def order(name: str) -> Order:
    return Order(name, Path(name), Path(name), Config())


class Scripted:
    """A worker that says what it is told to say."""

    def __init__(self, say: Callable[[Scripted], Message]) -> None:
        self.order: Order | None = None
        self.is_up = False
        self.ended = False
        self._say = say

    def give(self, order: Order) -> None:
        assert self.is_up
        assert self.order is None
        self.order = order

    def take(self) -> Message:
        message = self._say(self)
        if isinstance(message, Started):
            self.is_up = True
        elif isinstance(message, Ending):
            self.order = None
        return message

    def end(self) -> None:
        self.ended = True


class Room:
    """A place with room for `room` workers; a further one never starts. `says` gives the script of the n-th."""

    def __init__(self, says: Callable[[int], Callable[[Scripted], Message]], room: int = 10) -> None:
        self.started: list[Scripted] = []
        self._says, self._room = says, room

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def usual_jobs(self) -> int:
        return 2

    def start(self) -> Worker:
        self.started.append(Scripted(self._says(len(self.started))))
        return self.started[-1]

    def ready(self, workers: Sequence[Worker]) -> list[Worker]:
        living = [worker for worker in self.started if not worker.ended][: self._room]
        able = [worker for worker in workers if worker in living]
        assert able, "nobody could ever say anything again"
        return able[:1]


def works(worker: Scripted) -> Message:
    return Ending("") if worker.is_up else Started()


def dies_at(name: str) -> Callable[[int], Callable[[Scripted], Message]]:
    def say(worker: Scripted) -> Message:
        return Died("of it") if worker.order and worker.order.name == name else works(worker)

    return lambda number: say


def never_starts(worker: Scripted) -> Message:
    return Died("no such module")


def endings(place: Room, count: int, names: str = "abcd") -> dict[str, Ending]:
    with Workers(place, count) as workers:
        return {order.name: ending for order, ending in workers.work(map(order, names))}


def test_order_that_kills_three_workers_fails_and_the_others_are_done() -> None:
    place = Room(dies_at("b"))
    ended = endings(place, 2)
    assert ended["b"].reason == "its worker died 3 times, the last time of it"
    assert not ended["b"].is_usable
    assert {name for name, ending in ended.items() if not ending.reason} == {"a", "c", "d"}
    assert all(worker.ended for worker in place.started)


def test_death_that_was_made_good_is_told_with_the_ending() -> None:
    def says(number: int) -> Callable[[Scripted], Message]:
        return (lambda worker: Died("with its node") if worker.is_up else Started()) if number == 0 else works

    ended = endings(Room(says), 1, "a")
    assert ended["a"] == Ending("", warnings=("its worker died: with its node",))


def test_worker_that_waits_for_room_holds_no_order() -> None:
    place = Room(lambda number: works, room=1)
    assert set(endings(place, 3)) == set("abcd")


def test_where_nobody_starts_every_order_fails_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    place = Room(lambda number: never_starts)
    ended = endings(place, 1)
    assert set(ended) == set("abcd")
    assert {ending.reason for ending in ended.values()} == {"no worker starts, the last one did not: no such module"}
    assert len(place.started) == 3
    assert "a worker did not start: no such module" in caplog.text


def test_those_that_started_go_on_alone_where_others_do_not() -> None:
    place = Room(lambda number: works if number == 0 else never_starts)
    ended = endings(place, 2, "abcdefgh")
    assert [ending.reason for ending in ended.values()] == [""] * 8
