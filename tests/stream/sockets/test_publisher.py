"""The publisher: encodes what is wanted, says what cannot be bound, never waits for a slow subscriber."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import EventBatch, ExposedFrame, Frame, Geometry, Stamps
from stream.config import PublishConfig, load_config
from stream.sockets import publisher as publishing
from stream.sockets.event_image import EventImager
from stream.sockets.publisher import Publisher
from stream.sockets.subscriber import Subscriber
from tests.waiting import PATIENCE_MS, until


def exposed(index: int, tag: str = "upsample") -> ExposedFrame:
    pixels = np.full((4, 6, 1), index % 256, np.uint8)
    return ExposedFrame(index, index, pixels, Shutter.instant(index, 4), tag, Stamps(float(index)))


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(PublishConfig(bind="tcp://127.0.0.1:*", high_water_mark=4)) as publisher:
        yield publisher


def test_topics_are_encoded_only_while_somebody_subscribes(publisher: Publisher) -> None:
    captured = Frame(0, np.zeros((4, 6, 1), np.uint8), 0, 10)
    publisher.send_captured(captured)
    assert publisher.sent == 0
    with Subscriber(publisher.address, ["captured"]) as subscriber:
        until(lambda: publisher.wants("captured"))
        publisher.send_captured(captured)
        publisher.send_frame(exposed(1))
        message = subscriber.recv(PATIENCE_MS)
        assert message is not None
        assert message.topic == "captured"
    until(lambda: not publisher.wants("captured"))
    publisher.send_captured(captured)
    assert publisher.sent == 1


def test_wants_knows_prefixes_on_both_sides(publisher: Publisher) -> None:
    with Subscriber(publisher.address, ["frame/upsample"]):
        until(lambda: publisher.wants("frame/upsample"))
        assert publisher.wants("frame/")
        assert not publisher.wants("frame/up2")
        assert not publisher.wants("events")
    with Subscriber(publisher.address, ["frame/"]):
        until(lambda: publisher.wants("frame/deblur"))
        assert not publisher.wants("status")


def test_published_stamp_is_filled_even_when_nobody_subscribes(publisher: Publisher) -> None:
    assert publisher.send_frame(exposed(0)).stamps.published_ns > 0


def test_address_in_use_is_named_with_the_remedy(publisher: Publisher) -> None:
    with pytest.raises(ConfigError, match=r"publish\.bind.*in use.*--set publish\.bind="):
        Publisher(PublishConfig(bind=publisher.address))


def test_address_of_another_machine_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"publish\.bind"):
        Publisher(PublishConfig(bind="tcp://192.0.2.7:5556"))


@pytest.mark.parametrize("address", ["tpc://127.0.0.1:5556", "nonsense", "tcp://127.0.0.1:x"])
def test_impossible_address_is_a_config_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"publish\.bind"):
        load_config(None, [f'publish.bind="{address}"'])


def test_address_is_free_again_after_close() -> None:
    first = Publisher(PublishConfig(bind="tcp://127.0.0.1:*"))
    first.close()
    first.close()
    Publisher(PublishConfig(bind=first.address)).close()


def test_subscriber_that_does_not_read_never_stops_the_publisher(publisher: Publisher) -> None:
    with Subscriber(publisher.address, ["frame/upsample"], high_water_mark=2) as subscriber:
        until(lambda: publisher.wants("frame/upsample"))
        for index in range(20_000):
            publisher.send_frame(exposed(index))
        indices = []
        while (message := subscriber.recv(500)) is not None:
            indices.append(message.header["index"])
        assert 0 < len(indices) < 20_000
        assert indices == sorted(indices)


def test_last_frames_leave_although_the_publisher_closes_right_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_LINGER_MS", PATIENCE_MS)  # a busy machine may take longer than frames are given
    publisher = Publisher(PublishConfig(bind="tcp://127.0.0.1:*"))
    large = Frame(0, np.zeros((260, 346, 1), np.uint8), 0, 10)
    with Subscriber(publisher.address, ["captured"]) as subscriber:
        until(lambda: publisher.wants("captured"))
        for _ in range(50):
            publisher.send_captured(large)
        publisher.close()
        for _ in range(50):
            assert subscriber.recv(PATIENCE_MS) is not None
        assert subscriber.recv(100) is None


def test_event_image_counts_brighter_minus_darker_of_the_last_span() -> None:
    imager = EventImager(Geometry(4, 2), span_us=100, fps=10)
    assert imager.take(0) is None
    imager.add(_batch([0, 50], x=[0, 0], p=[1, 1], watermark_us=60))
    imager.add(_batch([120, 130, 140], x=[0, 1, 1], p=[1, 0, 0], watermark_us=150))
    image = imager.take(0)
    assert image is not None
    assert (image.t_a_us, image.t_b_us) == (50, 150)
    assert image.pixels[..., 0].tolist() == [[2, -2, 0, 0], [0, 0, 0, 0]]
    assert image.events == 4


def test_event_image_is_drawn_at_most_fps_times_a_second_and_only_when_something_came() -> None:
    imager = EventImager(Geometry(4, 2), span_us=100, fps=10)
    imager.add(_batch([1], x=[0], p=[1], watermark_us=2))
    assert imager.take(0) is not None
    assert imager.take(200_000_000) is None
    imager.add(_batch([3], x=[0], p=[1], watermark_us=4))
    assert imager.take(50_000_000) is None
    assert imager.take(100_000_000) is not None


def test_event_image_forgets_an_older_life_of_the_clock() -> None:
    imager = EventImager(Geometry(4, 2), span_us=100, fps=10)
    imager.add(_batch([1000], x=[0], p=[1], watermark_us=1001))
    imager.add(_batch([5], x=[1], p=[1], watermark_us=6, epoch=1))
    image = imager.take(0)
    assert image is not None
    assert image.events == 1


def test_event_image_clips_instead_of_wrapping() -> None:
    imager = EventImager(Geometry(4, 2), span_us=1000, fps=10)
    imager.add(_batch(list(range(300)), x=[0] * 300, p=[1] * 300, watermark_us=300))
    image = imager.take(0)
    assert image is not None
    assert image.pixels[0, 0, 0] == 127


def _batch(t: list[int], *, x: list[int], p: list[int], watermark_us: int, epoch: int = 0) -> EventBatch:
    return EventBatch(
        np.array(t, np.int64),
        np.array(x, np.uint16),
        np.zeros(len(t), np.uint16),
        np.array(p, np.uint8),
        watermark_us,
        epoch=epoch,
    )
