"""The subscriber: newest only, or every one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import zmq

from nire.errors import ConfigError, WireError
from nire.shutter import Shutter
from nire.types import ExposedFrame, Frame, Stamps
from stream.config import PublishConfig
from stream.sockets.publisher import Publisher
from stream.sockets.subscriber import Subscriber
from tests.waiting import PATIENCE_MS, until


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(PublishConfig(bind="tcp://127.0.0.1:*", high_water_mark=1000)) as publisher:
        yield publisher


def send(publisher: Publisher, index: int, tag: str) -> None:
    pixels = np.full((2, 2, 1), index % 256, np.uint8)
    publisher.send_frame(ExposedFrame(index, 0, pixels, Shutter.instant(0, 2), tag, Stamps(0.0)))


def test_newest_only_keeps_one_message_of_each_topic(publisher: Publisher) -> None:
    with (
        Subscriber(publisher.address, ["frame/a", "frame/b"], newest_only=True) as newest,
        Subscriber(publisher.address, ["frame/"]) as witness,
    ):
        until(lambda: publisher.wants("frame/a") and publisher.wants("frame/b") and publisher.wants("frame/z"))
        for index in range(100):
            send(publisher, index, "a")
            send(publisher, index, "b")
        seen = 0
        while seen < 200:
            assert witness.recv(PATIENCE_MS) is not None
            seen += 1
        found: dict[str, int] = {}
        while len(found) < 2 or min(found.values()) < 99:
            message = newest.recv(PATIENCE_MS)
            assert message is not None
            found[message.topic] = message.header["index"]
        assert newest.recv(0) is None


def test_every_frame_arrives_in_order_where_the_reader_is_fast_enough(publisher: Publisher) -> None:
    with Subscriber(publisher.address, ["frame/a"]) as subscriber:
        until(lambda: publisher.wants("frame/a"))
        for index in range(100):
            send(publisher, index, "a")
        indices = []
        for message in subscriber:
            indices.append(message.header["index"])
            if len(indices) == 100:
                break
        assert indices == list(range(100))


def test_topic_does_not_bring_topics_that_only_begin_like_it(publisher: Publisher) -> None:
    with Subscriber(publisher.address, ["frame/a"]) as subscriber:
        until(lambda: publisher.wants("frame/a"))
        send(publisher, 1, "ab")
        send(publisher, 2, "a")
        message = subscriber.recv(PATIENCE_MS)
        assert message is not None
        assert message.header["index"] == 2


def test_recv_returns_none_after_the_timeout(publisher: Publisher) -> None:
    with Subscriber(publisher.address, ["status"]) as subscriber:
        assert subscriber.recv(1) is None


def test_subscriber_may_come_before_the_publisher() -> None:
    with Publisher(PublishConfig(bind="tcp://127.0.0.1:*")) as publisher:
        address = publisher.address
    with Subscriber(address, ["captured"]) as subscriber:
        assert subscriber.recv(0) is None
        with Publisher(PublishConfig(bind=address)) as publisher:
            until(lambda: publisher.wants("captured"))
            publisher.send_captured(Frame(5, np.zeros((2, 2, 1), np.uint8), 0, 1))
            message = subscriber.recv(PATIENCE_MS)
            assert message is not None
            assert message.header["index"] == 5


def test_everything_newest_only_is_refused_because_topics_would_push_each_other_out() -> None:
    with pytest.raises(ConfigError, match="newest_only"):
        Subscriber("tcp://127.0.0.1:1", [""], newest_only=True)


@pytest.mark.parametrize(("address", "topics"), [("127.0.0.1:5556", ["status"]), ("tcp://127.0.0.1:5556", "status")])
def test_wrong_arguments_say_what_is_expected(address: str, topics: list[str]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Subscriber(address, topics)


def test_foreign_message_is_a_wire_error() -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as foreign:
        foreign.linger = 0
        port = foreign.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}", ["frame/"]) as subscriber:

            def heard() -> bool:
                foreign.send(b"frame/ but nothing else")
                return receives_wire_error(subscriber)

            until(heard)


def receives_wire_error(subscriber: Subscriber) -> bool:
    try:
        assert subscriber.recv(20) is None
    except WireError:
        return True
    return False
