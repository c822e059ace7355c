"""Prophesee cameras and RAW files over a stub of the Metavision SDK."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.cameras import metavision
from drivers.detect import plays_recordings
from drivers.packets.cleaning import cleaned
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, RecordingDamaged, SdkMissing, SourceError
from nire.types import EventBatch, Gap, SourcePacket, Trigger
from stream.config import SourceConfig
from stream.sources import SourceOrder, open_source
from tests.drivers.cameras import stub_metavision as stub
from tests.drivers.packets.made import UntilLost, column_digests


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(cameras: dict[str, list[stub.Step]] | None = None, **options: Any) -> stub.StubSdk:
        return stub.StubSdk(cameras, **options).install(monkeypatch)

    return make


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n% end\n")
    return path


def _all(**settings: Any) -> list[SourcePacket]:
    with UntilLost(metavision.open_source(**settings)) as source:
        return list(source)


def _batches(packets: list[SourcePacket]) -> list[EventBatch]:
    return [packet for packet in packets if isinstance(packet, EventBatch)]


def test_camera_delivers_events_edges_and_its_time(install: Any) -> None:
    install({"00001": stub.moving_dot(20)})
    with UntilLost(metavision.open_source()) as source:
        info = source.info
        packets = list(source)
    assert (info.name, info.geometry.width, info.geometry.height) == ("Prophesee 00001", 1280, 720)
    assert (info.live, info.has_frames) == (True, False)
    batches = _batches(packets)
    t_us = np.concatenate([batch.t_us for batch in batches])
    assert t_us.tolist() == list(range(1000, 21_000, 100))
    assert batches[-1].watermark_us == 20_999
    assert [p for p in packets if isinstance(p, Trigger)][:3] == [
        Trigger(1050, 0, False),
        Trigger(3050, 0, True),
        Trigger(5050, 0, False),
    ]
    assert source.loss is not None


def test_raw_file_is_read_through_the_sdk_and_again(install: Any, raw: Path) -> None:
    install(raw=stub.moving_dot(30))
    with metavision.open_source(raw) as source:
        assert (source.info.name, source.info.live) == ("a.raw", False)
        first = column_digests(source)
        assert first == column_digests(source)
    assert first != column_digests([])
    assert all(packet.received_ns == 0 for packet in _batches(_all(path=raw)))


def test_config_of_a_camera_plays_a_raw_file(install: Any, raw: Path) -> None:
    install(raw=stub.moving_dot(5))
    assert plays_recordings("metavision")
    settings = {"serial": "00001", "biases": {"bias_diff_on": 3}, "erc_meps": 10.0}
    config = SourceConfig(driver="metavision", settings=settings)
    with open_source(config, SourceOrder(raw, speed=float("inf"))) as source:
        assert sum(len(batch) for batch in _batches(list(source))) == 50


def test_file_that_the_sdk_does_not_know_or_cannot_finish(install: Any, raw: Path, tmp_path: Path) -> None:
    install(raw=[*stub.moving_dot(3), RuntimeError("protocol violation")])
    other = tmp_path / "b.raw"
    other.write_bytes(b"something")
    with pytest.raises(SourceError, match=r"b\.raw is no file that the Metavision SDK decodes: Unable to open"):
        metavision.open_source(other).__enter__()
    packets = []
    with metavision.open_source(raw) as source, pytest.raises(RecordingDamaged, match="protocol violation"):
        packets.extend(source)
    assert sum(len(batch) for batch in _batches(packets)) == 30


def test_settings_reach_the_facilities(install: Any) -> None:
    sdk = install({"00001": []})
    settings = {"erc_meps": 12.5, "roi": [100, 50, 640, 480], "trigger_channels": ["main"]}
    with metavision.open_source(**settings, biases={"bias_diff_on": 20}):
        device = sdk.opened[0]
    assert device.erc.calls == [("rate", 12_500_000), ("enable", True)]
    assert device.roi.calls == [("window", 100, 50, 640, 480), ("enable", True)]
    assert device.inputs.calls == [("enable", "MAIN")]
    assert device.biases.values["bias_diff_on"] == 20


def test_settings_are_changed_while_it_runs(install: Any) -> None:
    sdk = install({"00001": stub.moving_dot()})
    with metavision.open_source(erc_meps=10, trigger_channels=["main"]) as source:
        next(iter(source))
        assert source.change({"erc_meps": 0.0, "trigger_channels": ["loopback"], "roi": [0, 0, 10, 10]})
        assert not source.change({"serial": "00002"})
        with pytest.raises(ConfigError, match="no bias 'bias_on'; this camera has bias_diff_on"):
            source.change({"biases": {"bias_on": 1}})
        assert source.settings.biases == {}
    device = sdk.opened[0]
    assert device.erc.calls[-1] == ("enable", False)
    assert device.inputs.values == {"MAIN": False, "LOOPBACK": True}
    assert device.roi.calls[-1] == ("enable", True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"erc_meps": -1.0}, "erc_meps"),
        ({"roi": [1, 2, 3]}, "expected \\[x, y, width, height\\]"),
        ({"roi": [0, 0, 0, 10]}, "expected \\[x, y, width, height\\]"),
        ({"trigger_channels": ["aux2"]}, "main, aux, loopback"),
        ({"biases": {"bias_diff": 1.5}}, "whole number"),
        ({"serials": "x"}, "did you mean 'serial'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_opened(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        metavision.open_source(**settings)


def test_what_the_camera_does_not_have_or_take_is_told(install: Any) -> None:
    install({"00001": []}, bare=True)
    for name, value in (("erc_meps", 5.0), ("roi", [0, 0, 9, 9]), ("trigger_channels", ["main"])):
        with pytest.raises(ConfigError, match=rf"has no .*\({name}\)"):
            metavision.open_source(**{name: value}).__enter__()
    install({"00001": []})
    with pytest.raises(ConfigError, match="no trigger input 'aux'"):
        metavision.open_source(trigger_channels=["aux"]).__enter__()


def test_two_cameras_are_told_apart_and_an_absent_one_named(install: Any) -> None:
    install({"00001": stub.moving_dot(), "00002": stub.moving_dot(start_us=900_000)})
    with metavision.open_source(serial="00001") as left, metavision.open_source(serial="00002") as right:
        firsts = [next(p for p in iter(side) if isinstance(p, EventBatch)).t_us[0] for side in (left, right)]
    assert firsts == [1000, 900_000]
    with pytest.raises(DeviceNotFound, match=r"no camera '00009' can be opened.*connected: 00001, 00002"):
        metavision.open_source(serial="00009").__enter__()
    install()
    with pytest.raises(DeviceNotFound, match="no Prophesee camera can be opened"):
        metavision.open_source().__enter__()


def test_absent_sdk_says_where_to_get_it() -> None:
    if not metavision.missing_sdk():
        pytest.skip("a Metavision SDK is installed")
    with pytest.raises(SdkMissing, match=r"OpenEB .*docs\.prophesee\.ai"):
        metavision.open_source().__enter__()
    assert metavision.connected() == []


def test_unplugged_camera_is_lost(install: Any) -> None:
    install({"00001": stub.moving_dot(2)})
    with metavision.open_source() as source, pytest.raises(DeviceLost, match="unplugged"):
        list(source)
    install({"00001": [*stub.moving_dot(2), RuntimeError("libusb: no device")]})
    with metavision.open_source() as source, pytest.raises(DeviceLost, match="libusb: no device"):
        list(source)


@pytest.mark.usefixtures("clock")
def test_stall_is_told_and_becomes_a_loss(install: Any) -> None:
    install({"00001": [*stub.moving_dot(1), 30.0]})
    packets = []
    begin_s = time.monotonic()
    with metavision.open_source(stall_s=0.3) as source, pytest.raises(DeviceLost, match="sent nothing for 0"):
        packets.extend(source)
    assert time.monotonic() - begin_s < 0.4
    beats = [p for p in _batches(packets) if not len(p)]
    assert len(beats) > 3
    assert {beat.watermark_us for beat in beats} == {1999}


def test_still_scene_moves_on_by_the_clock_of_the_camera(install: Any) -> None:
    install({"00001": [stub.step_of(1000 * n) for n in range(5)]})
    assert [packet.watermark_us for packet in _batches(_all())] == [0, 1000, 2000, 3000, 4000]


def test_times_that_step_back_a_little_are_clamped_and_a_reset_is_a_new_epoch(install: Any) -> None:
    jitter = stub.step_of(30_000, [(1, 1, 1, 25_000), (1, 1, 0, 24_990), (1, 1, 1, 25_010)])
    install({"00001": [*stub.moving_dot(10), jitter, *stub.moving_dot(10)]})
    with UntilLost(metavision.open_source()) as source:
        clean = cleaned(source)
        packets = list(clean)
    assert clean.counters.events_clamped == 1
    assert len([p for p in packets if isinstance(p, Gap)]) == 1
    assert [sum(len(p) for p in _batches(packets) if p.epoch == epoch) for epoch in (0, 1)] == [103, 100]
