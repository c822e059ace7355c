"""The DAVIS346 over the SDK's own types, with a scripted device at its boundary."""

from __future__ import annotations

import gc
import itertools
import re
import time
import weakref
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from drivers.cameras import davis346
from drivers.packets.cleaning import cleaned
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, SdkMissing
from nire.install import pip_install
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger
from tests.drivers.cameras import stub_davis as stub
from tests.drivers.packets.made import UntilLost

dv = stub.dv


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*scripts: stub.Script, **options: Any) -> stub.StubBus:
        serials = {f"0000{n}": script for n, script in enumerate(scripts)}
        return stub.StubBus(serials, **options).install(monkeypatch)

    return make


def _all(**settings: Any) -> list[SourcePacket]:
    source = UntilLost(davis346.open_source(**settings))
    with source:
        return list(source)


def _frames(packets: list[SourcePacket]) -> list[Frame]:
    return [packet for packet in packets if isinstance(packet, Frame)]


def test_stub_has_no_method_that_the_sdk_does_not_have() -> None:
    mine = {name for name in vars(stub.StubDavis) if name.startswith(("get", "set", "is"))}
    assert len(mine) > 15
    assert mine <= set(dir(dv.io.camera.DAVIS))


def test_events_frames_and_exposures_share_one_clock(install: Any) -> None:
    install(stub.moving_bar(0.1))
    packets = _all(exposure_us=8000)
    frames = _frames(packets)
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert [(f.exposure_start_us - stub.START_US, f.exposure_end_us - f.exposure_start_us) for f in frames] == [
        (0, 8000),
        (20_000, 8000),
        (40_000, 8000),
        (60_000, 8000),
        (80_000, 8000),
    ]
    assert all(f.exposure_known and f.transfer == "linear" and f.received_ns > 0 for f in frames)
    batches = [p for p in packets if isinstance(p, EventBatch)]
    t_us = np.concatenate([batch.t_us for batch in batches])
    assert t_us[0] == stub.START_US
    assert t_us.size == 15 * 50
    assert {int(p) for p in np.concatenate([batch.p for batch in batches])} == {0, 1}


def test_what_came_while_the_camera_was_opened_is_thrown_away(install: Any) -> None:
    bus = install(stub.moving_bar(0.02))
    with UntilLost(davis346.open_source()) as source:
        old_us = stub.START_US - 5_000_000
        image = np.zeros((stub.HEIGHT, stub.WIDTH), np.uint8)
        bus.opened[0].leave_waiting(stub.store_of([(old_us, 1, 1, True)]), stub.frame_of(old_us, 100, image))
        packets = list(source)
    assert min(int(p.t_us[0]) for p in packets if isinstance(p, EventBatch) and len(p)) == stub.START_US
    assert all(frame.exposure_start_us >= stub.START_US for frame in _frames(packets))


def test_imu_and_triggers_are_passed_on_in_si_units(install: Any) -> None:
    install(stub.moving_bar(0.05))
    packets = _all()
    imu = [p for p in packets if isinstance(p, ImuBatch) and p.t_us.size]
    assert imu[0].t_us.tolist() == [stub.START_US + 500, stub.START_US + 1500]
    assert imu[0].accelerometer_mps2[0].tolist() == pytest.approx([0, 9.80665, 0])
    assert imu[0].gyroscope_radps[0].tolist() == pytest.approx([np.pi / 2, 0, 0])
    assert [p for p in packets if isinstance(p, Trigger)][:2] == [
        Trigger(stub.START_US, 3, True),
        Trigger(stub.START_US + 8000, 3, False),
    ]


def test_frame_that_got_lost_leaves_a_hole_in_the_indices(install: Any) -> None:
    install(stub.moving_bar(0.14, lost=(1, 2)))
    assert [f.index for f in _frames(_all())] == [0, 3, 4, 5, 6]


def test_colour_camera_gives_rgb_and_gray_where_asked(install: Any) -> None:
    def blue(camera: stub.StubDavis) -> Iterator[Any]:
        image = np.zeros((stub.HEIGHT, stub.WIDTH, *camera.image_channels()), np.uint8)
        image[..., 0] = 200  # of B, G, R
        yield [stub.frame_of(stub.START_US, 1000, image)]
        yield [stub.store_of([(stub.START_US + 30_000, 1, 1, True)])]

    install(blue, color=True)
    source = UntilLost(davis346.open_source())
    with source:
        assert source.info.geometry.channels == 3
        assert source.info.geometry.bayer == "GRBG"  # as the SDK colours single events
        [frame] = _frames(list(source))
    assert frame.pixels[0, 0].tolist() == [0, 0, 200]
    source = UntilLost(davis346.open_source(color="gray", serial="00000"))
    with pytest.raises(DeviceNotFound):  # the script has ended: it is unplugged
        source.__enter__()
    install(blue, color=True)
    with source:
        assert source.info.geometry.channels == 1
        assert source.info.geometry.bayer == ""
        assert _frames(list(source))[0].pixels.shape == (stub.HEIGHT, stub.WIDTH, 1)


def test_settings_reach_the_camera(install: Any) -> None:
    bus = install(stub.moving_bar())
    settings = {"exposure_us": 4000, "frame_interval_us": 30_000, "batch_us": 1000, "triggers": "both"}
    with davis346.open_source(**settings, noise_filter_us=2000, biases={"On": [5, 200]}):
        pass
    calls = dict(bus.opened[0].calls)
    assert calls["auto"] is False
    assert calls["exposure"] == timedelta(milliseconds=4)
    assert calls["interval"] == timedelta(milliseconds=30)
    assert calls["batch"] == timedelta(milliseconds=1)
    assert (calls["rising"], calls["falling"], calls["noise"], calls["On"]) == (True, True, 8, (5, 200))


def test_settings_are_changed_between_two_frames_without_opening_again(install: Any) -> None:
    bus = install(stub.moving_bar(0.3))
    camera = davis346.open_source(exposure_us=8000)
    seen: list[int] = []
    with UntilLost(camera) as source:
        for packet in source:
            if isinstance(packet, Frame):
                seen.append(packet.exposure_end_us - packet.exposure_start_us)
                if len(seen) == 3:
                    assert camera.change({"exposure_us": 2000})
    assert seen[:3] == [8000] * 3
    assert seen[-5:] == [2000] * 5
    assert len(bus.opened) == 1


def test_what_is_off_is_not_touched_and_what_was_on_is_turned_off(install: Any) -> None:
    bus = install(stub.moving_bar())
    source = davis346.open_source(noise_filter_us=1000)
    with source:
        assert not {"rising", "falling", "detector", "color"} & {name for name, _ in bus.opened[0].calls}
        next(iter(source))
        assert source.change({"noise_filter_us": 0, "triggers": "rising"})
        assert [value for name, value in bus.opened[0].calls if name == "noise"] == [4, 0]
        assert ("rising", True) in bus.opened[0].calls
        assert ("falling", False) in bus.opened[0].calls
        assert bus.opened[0].calls[-1] == ("detector", True)


def test_change_that_needs_a_new_device_is_left_to_the_caller_and_a_bad_one_refused(install: Any) -> None:
    install(stub.moving_bar())
    source = davis346.open_source(exposure_us=8000)
    with source:
        assert not source.change({"serial": "00007", "exposure_us": 100})
        assert source.settings.exposure_us == 8000
        with pytest.raises(ConfigError, match="there is no bias 'Onn'"):
            source.change({"biases": {"Onn": [1, 1]}})
        with pytest.raises(ConfigError, match="did you mean 'exposure_us'"):
            source.change({"exposure": 5})
        assert source.settings.exposure_us == 8000


def test_two_cameras_of_one_kind_are_told_apart_by_serial(install: Any, caplog: pytest.LogCaptureFixture) -> None:
    install(stub.moving_bar(0.05), stub.moving_bar(0.05, start_us=77_000_000))
    with davis346.open_source(serial="00000") as left, davis346.open_source(serial="00001") as right:
        assert (left.info.name, right.info.name) == ("DAVIS346_00000", "DAVIS346_00001")
        firsts = [next(p for p in iter(side) if isinstance(p, EventBatch)).t_us[0] for side in (left, right)]
    assert firsts == [stub.START_US, 77_000_000]
    with davis346.open_source() as first:
        assert first.info.name == "DAVIS346_00000"
    assert "choose by 'serial'" in caplog.text
    with pytest.raises(DeviceNotFound, match=r"'00005' is connected, but 00000, 00001"):
        davis346.open_source(serial="00005").__enter__()


def test_no_camera_and_no_sdk_say_what_to_do(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    with pytest.raises(DeviceNotFound, match="no DAVIS camera was found"):
        davis346.open_source().__enter__()
    monkeypatch.setitem(__import__("sys").modules, "dv_processing", None)
    with pytest.raises(SdkMissing, match=re.escape(pip_install("davis"))):
        davis346.open_source().__enter__()
    assert pip_install("davis") in davis346.missing_sdk()


def test_device_in_use_is_not_found_with_the_first_line_of_the_sdk(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = install(stub.moving_bar())

    def busy(serial: str) -> None:
        raise RuntimeError("Device is busy\n  0# boost::stacktrace::basic_stacktrace")

    monkeypatch.setattr(bus, "open", busy)
    with pytest.raises(DeviceNotFound, match="Device is busy") as caught:
        davis346.open_source().__enter__()
    assert "stacktrace" not in str(caught.value)


def test_unplugged_camera_is_lost(install: Any) -> None:
    install(stub.moving_bar(0.02))
    with davis346.open_source() as source, pytest.raises(DeviceLost, match="DAVIS346_00000 was unplugged"):
        list(source)


@pytest.mark.usefixtures("clock")
def test_camera_that_stalls_says_so_and_is_lost_at_last(install: Any) -> None:
    def stalls(camera: stub.StubDavis) -> Iterator[Any]:
        yield [stub.store_of([(stub.START_US, 1, 1, True)])]
        yield 30.0

    install(stalls)
    packets = []
    begin_s = time.monotonic()
    with davis346.open_source(stall_s=0.3) as source, pytest.raises(DeviceLost, match="sent nothing for 0"):
        packets.extend(source)
    assert time.monotonic() - begin_s < 0.4
    beats = [p for p in packets if isinstance(p, EventBatch) and not len(p)]
    assert len(beats) >= 3
    assert {beat.watermark_us for beat in beats} == {stub.START_US}  # nothing is promised that nobody knows


def test_still_scene_moves_on_by_the_other_stamps(install: Any) -> None:
    def still(camera: stub.StubDavis) -> Iterator[Any]:
        yield [stub.store_of([(stub.START_US, 1, 1, True)])]
        image = np.zeros((stub.HEIGHT, stub.WIDTH), np.uint8)
        for n in range(100):
            t_us = stub.START_US + 1000 * n
            yield [stub.imu_of(t_us)] + [stub.frame_of(t_us - 15_000, 8000, image)] * (n % 20 == 19)

    install(still, paced=True)
    packets = _all()
    beats = [p for p in packets if isinstance(p, EventBatch)]
    assert beats[-1].watermark_us > stub.START_US + 70_000
    assert [f.index for f in _frames(packets)] == [0, 1, 2, 3]  # the fifth is younger than the slack


def test_clock_that_begins_again_is_a_new_epoch(install: Any) -> None:
    def twice(camera: stub.StubDavis) -> Iterator[Any]:
        yield from itertools.chain(stub.moving_bar(0.1)(camera), stub.moving_bar(0.1)(camera))

    install(twice)
    source = UntilLost(davis346.open_source())
    with source:
        packets = list(cleaned(source))
    gaps = [p for p in packets if isinstance(p, Gap)]
    assert len(gaps) == 1
    assert "went back" in gaps[0].reason
    assert [f.epoch for f in _frames(packets)] == [0] * 5 + [1] * 5
    events = [sum(len(p) for p in packets if isinstance(p, EventBatch) and p.epoch == epoch) for epoch in (0, 1)]
    assert events == [750, 750]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exposure_us": 0}, "exposure_us = 0 us, expected 1 to"),
        ({"exposure_us": 30_000}, "does not fit into frame_interval_us"),
        ({"exposure_us": "auto "}, "expected a whole number or 'auto'"),
        ({"colour": "gray"}, "did you mean 'color'"),
        ({"color": "rgb"}, "one of 'auto', 'gray'"),
        ({"biases": {"On": [9, 1]}}, "coarse 0 to 7"),
        ({"imu": 1}, "true or false"),
        ({"stall_s": 0.0}, "stall_s"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_opened(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        davis346.open_source(**settings)


def test_closing_lets_the_device_go_although_an_iteration_was_left_in_the_middle(install: Any) -> None:
    bus = install(stub.moving_bar())
    source = davis346.open_source()
    with source:
        left = iter(source)
        next(left)
        device = weakref.ref(bus.opened.pop())
    gc.collect()  # the script of the stub holds its camera in a circle
    assert device() is None
    assert len(list(left)) < 10  # what had been taken from the device, and the end
