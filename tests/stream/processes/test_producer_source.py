"""What the producer does with a live source: settings that change in it, a device that goes away and comes back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nire.types import EventBatch, Frame, Gap, Packet
from stream.config import load_config
from stream.processes import producer
from stream.processes.child import Child
from stream.sources import SourceOrder
from tests.system.live_stream import write_short

dv = pytest.importorskip("dv_processing", reason="dv-processing is not installed")


DAVIS = "tests.system.stubbed_davis"


class _Child:
    """Orders as the supervisor gives them, without a process."""

    def __init__(self) -> None:
        self.row: dict[str, int] = {"reopened": 0, "gaps": 0}
        self.before = {"lives": 0}
        self.board = SimpleNamespace(names=[])
        self.stopping = False
        self.waiting: list[dict[str, Any]] = [{"order": "go"}]

    def beat(self, *state: object) -> None:
        pass

    def orders(self, timeout_s: float = 0.0) -> list[dict[str, Any]]:
        orders, self.waiting = self.waiting, []
        return orders


class _Writer:
    """A ring that keeps everything, and calls somebody after each frame."""

    serial = life = events_sent = frames_sent = 0

    def __init__(self, after_frame: Callable[[int], None]) -> None:
        self.sent: list[Packet] = []
        self._after_frame = after_frame

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def send(self, packet: Packet) -> None:
        self.sent.append(packet)
        if isinstance(packet, Frame):
            self._after_frame(len(self.frames))

    def finish(self) -> None:
        pass

    @property
    def frames(self) -> list[Frame]:
        return [packet for packet in self.sent if isinstance(packet, Frame)]

    @property
    def gaps(self) -> list[Gap]:
        return [packet for packet in self.sent if isinstance(packet, Gap)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[_Child, _Writer]]:
    def run(
        orders: dict[int, dict[str, Any]],
        frames: int,
        driver: str = DAVIS,
        order: SourceOrder | None = None,
        **settings: Any,
    ) -> tuple[_Child, _Writer]:
        """Give settings after so many frames, end after all of them."""
        child = _Child()

        def after_frame(count: int) -> None:
            if count in orders:
                child.waiting.append({"order": "set_source", "settings": orders[count]})
            child.stopping = count >= frames

        writer = _Writer(after_frame)
        monkeypatch.setattr(producer, "RingWriter", lambda *_, **__: writer)
        for name in ("DAVIS", "discover"):  # the driver of the test replaces them for good
            monkeypatch.setattr(dv.io.camera, name, getattr(dv.io.camera, name))
        values = {"marker": f"'{tmp_path / 'gone'}'", **settings} if driver == DAVIS else settings
        table = ", ".join(f"{key} = {value}" for key, value in values.items())
        config = load_config(None, [f"source.driver={driver}", f"source.settings={{{table}}}"])
        fake: Any = child
        real: Child = fake
        assert producer.main(real, config, order or SourceOrder()) == 0
        return child, writer

    return run


def _exposures(writer: _Writer) -> list[int]:
    return [frame.exposure_end_us - frame.exposure_start_us for frame in writer.frames]


def test_settings_change_in_the_running_source_without_a_gap(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    child, writer = run({5: {"exposure_us": 2000}, 15: {"exposure_us": 0}}, frames=25, exposure_us=8000)
    assert _exposures(writer)[:5] == [8000] * 5
    assert _exposures(writer)[-10:] == [2000] * 10
    assert writer.gaps == []
    assert child.row["reopened"] == 0
    assert "stay as they are: davis346: exposure_us = 0 us, expected 1 to 1000000" in caplog.text


@pytest.mark.parametrize("driver", [DAVIS, "synthetic"], ids=["changes while open", "is opened again"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"foo": 1}, "no setting 'foo'"),
        ({"exposure": 1}, "no setting 'exposure'"),
        ({"exposure_us": "long"}, "exposure_us = 'long', expected a (whole )?number"),
    ],
    ids=str,
)
def test_settings_that_do_not_exist_are_refused_before_anything_is_closed(
    run: Any, caplog: pytest.LogCaptureFixture, driver: str, setting: dict[str, Any], message: str
) -> None:
    _, writer = run({5: setting}, frames=15, driver=driver, exposure_us=8000)
    assert writer.gaps == []
    assert {frame.epoch for frame in writer.frames} == {0}
    assert [frame.index for frame in writer.frames] == list(range(writer.frames[0].index, writer.frames[-1].index + 1))
    assert "the settings of the source stay as they are" in caplog.text
    assert re.search(message, caplog.text)


@pytest.mark.parametrize(
    ("driver", "setting", "message"),
    [
        ("auto", {"foo": 1}, "the driver 'recording' has no setting 'foo'"),
        ("auto", {"path": "other.nire"}, "for another recording, start another stream"),
        ("recording", {"path": "other.nire"}, "for another recording, start another stream"),
        ("synthetic", {"exposure_us": 9.0}, "source.driver = 'synthetic' and its settings are set aside"),
    ],
    ids=str,
)
def test_replay_goes_on_where_settings_are_none_of_its_recording(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, driver: str, setting: dict[str, Any], message: str
) -> None:
    write_short(path := tmp_path / "short.nire")
    _, writer = run({5: setting}, frames=15, driver=driver, order=SourceOrder(path, speed=math.inf))
    assert writer.gaps == []
    assert [frame.index for frame in writer.frames] == list(range(15))
    assert message in caplog.text


def test_settings_that_the_source_cannot_change_open_it_again(run: Any) -> None:
    _, writer = run({5: {"color": "gray", "exposure_us": 2000}}, frames=15, exposure_us=8000)
    assert [gap.reason for gap in writer.gaps] == ["the source was opened again with other settings"]
    assert _exposures(writer)[-5:] == [2000] * 5
    assert {frame.epoch for frame in writer.frames} == {0, 1}


def test_unplugged_camera_is_a_gap_and_the_stream_goes_on_with_the_changed_settings(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    child, writer = run({5: {"exposure_us": 2000}}, frames=40, exposure_us=8000, seconds_plugged=0.5)
    assert child.row["reopened"] == 1
    [gap] = writer.gaps
    assert "was unplugged" in gap.reason
    after = [frame for frame in writer.frames if frame.epoch == 1]
    assert len(after) > 10
    assert {frame.exposure_end_us - frame.exposure_start_us for frame in after} == {2000}
    assert any(isinstance(packet, EventBatch) and packet.epoch == 1 for packet in writer.sent)
    assert "no DAVIS camera was found" in caplog.text
    assert "trying again in 0.5 s" in caplog.text
