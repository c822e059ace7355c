"""Cameras of neuromorphic-drivers over its own packets, with a scripted device at its boundary."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from drivers.cameras import neuromorphic
from drivers.packets.cleaning import cleaned
from nire.errors import ConfigError, DeviceLost, DeviceNotFound, SdkMissing
from nire.install import pip_install
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger
from tests.drivers.cameras import stub_neuromorphic as stub
from tests.drivers.packets.made import UntilLost

nd = stub.nd


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(*cameras: tuple[str, list[stub.Step]], error: str | None = None) -> stub.StubPackage:
        by_serial = {f"S{n}": camera for n, camera in enumerate(cameras)}
        return stub.StubPackage(by_serial, error=error).install(monkeypatch)

    return make


def _all(**settings: Any) -> list[SourcePacket]:
    with UntilLost(neuromorphic.open_source(**settings)) as source:
        return list(source)


def _batches(packets: list[SourcePacket]) -> list[EventBatch]:
    return [packet for packet in packets if isinstance(packet, EventBatch)]


@pytest.mark.parametrize(
    ("kind", "size"),
    [("davis346", (346, 260)), ("dvxplorer", (640, 480)), ("evk3_hd", (1280, 720)), ("evk4", (1280, 720))],
)
def test_every_kind_opens_and_delivers(install: Any, kind: str, size: tuple[int, int]) -> None:
    install((kind, stub.moving_dot(kind)))
    with UntilLost(neuromorphic.open_source(device=kind)) as source:
        info = source.info
        packets = list(cleaned(source))
    assert (info.geometry.width, info.geometry.height) == size
    assert (info.has_frames, info.live) == (kind == "davis346", True)
    assert sum(len(batch) for batch in _batches(packets)) == 400
    assert len([p for p in packets if isinstance(p, Frame)]) == 4 * (kind == "davis346")
    assert source.loss is not None


def test_frames_of_the_davis_have_the_exposure_and_eight_bits(install: Any) -> None:
    install(("davis346", stub.moving_dot("davis346")))
    frames = [packet for packet in _all() if isinstance(packet, Frame)]
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert (frames[0].exposure_start_us, frames[0].exposure_end_us) == (8000, 12_000)
    assert frames[1].pixels.shape == (260, 346, 1)
    assert frames[1].pixels[0, 0, 0] == 19 * 64 >> 8


def test_frame_without_exposure_says_so(install: Any) -> None:
    lone = stub.packet_of("davis346", frames=[stub.frame_of(None, None, 9000, 100)])
    install(("davis346", [(9500, lone)]))
    [frame] = [packet for packet in _all() if isinstance(packet, Frame)]
    assert not frame.exposure_known
    assert frame.exposure_start_us == frame.exposure_end_us == 9000


def test_overflow_marks_become_gaps_before_the_event_after_them(install: Any) -> None:
    before = stub.packet_of("evk4", polarity_events=stub.events_of((1000, 1, 1, True)))
    middle = stub.packet_of(
        "evk4",
        polarity_events=stub.events_of((2000, 1, 1, True), (2500, 1, 1, True), (7000, 1, 1, False)),
        polarity_events_overflow_indices=np.array([2]),
    )
    start = stub.packet_of(
        "evk4", polarity_events=stub.events_of((9000, 1, 1, True)), polarity_events_overflow_indices=np.array([0])
    )
    empty = stub.packet_of("evk4", polarity_events_overflow_indices=np.array([0]))
    install(("evk4", [(1500, before), (8000, middle), (9500, start), (12_000, empty)]))
    packets = _all()
    gaps = [packet for packet in packets if isinstance(packet, Gap)]
    assert [(gap.t0_us, gap.t1_us) for gap in gaps] == [(2500, 7000), (8000, 9000), (9500, 12_000)]
    kinds = [type(p).__name__ for p in packets if not isinstance(p, EventBatch) or len(p)]
    assert kinds == ["EventBatch", "EventBatch", "Gap", "EventBatch", "Gap", "EventBatch", "Gap"]
    t_us = np.concatenate([batch.t_us for batch in _batches(packets)])
    assert not any(((gap.t0_us < t_us) & (t_us < gap.t1_us)).any() for gap in gaps)


def test_what_came_while_the_camera_was_opened_is_thrown_away(install: Any) -> None:
    package = install(("evk4", stub.moving_dot("evk4", steps=3)))
    with UntilLost(neuromorphic.open_source()) as source:
        old = stub.packet_of("evk4", polarity_events=stub.events_of((7, 1, 1, True)))
        package.opened[0].backlog.append((9, old))
        assert min(int(batch.t_us[0]) for batch in _batches(list(source)) if len(batch)) == 5000


def test_stub_has_no_method_that_the_package_does_not_have() -> None:
    mine = {name for name in vars(stub.StubDevice) if not name.startswith("_")}
    assert len(mine) >= 4
    assert mine <= set(dir(nd.device.Device))


def test_overflow_of_frames_leaves_a_hole_in_their_indices(install: Any) -> None:
    frames = [stub.frame_of(1000, 2000, 3000, 1), stub.frame_of(4000, 5000, 6000, 2)]
    packet = stub.packet_of("davis346", frames=frames, frames_overflow_indices=np.array([1]))
    install(("davis346", [(7000, packet)]))
    assert [p.index for p in _all() if isinstance(p, Frame)] == [0, 2]


def test_clock_goes_on_where_nothing_happens(install: Any) -> None:
    install(("evk4", [(1000 * n, stub.packet_of("evk4")) for n in range(1, 6)]))
    packets = _batches(_all())
    assert [packet.watermark_us for packet in packets] == [1000, 2000, 3000, 4000, 5000]
    assert not any(len(packet) for packet in packets)


def test_triggers_and_imu_are_passed_on(install: Any) -> None:
    edges = np.array([(1200, 0, True), (1900, 0, False)], stub.TRIGGERS)
    samples = np.array([(1100, 0, 9.8, 0, 0, 0, 1.5, 30)], stub.IMU)
    packet = stub.packet_of("davis346", trigger_events=edges, imu_events=samples)
    install(("davis346", [(2000, packet)]))
    packets = _all()
    assert [p for p in packets if isinstance(p, Trigger)] == [Trigger(1200, 0, True), Trigger(1900, 0, False)]
    [imu] = [p for p in packets if isinstance(p, ImuBatch)]
    assert imu.accelerometer_mps2.tolist() == [pytest.approx([0, 9.8, 0])]
    assert imu.gyroscope_radps.tolist() == [pytest.approx([0, 0, 1.5])]


def test_settings_reach_the_configuration_of_the_device(install: Any) -> None:
    package = install(("evk4", stub.moving_dot("evk4")))
    limit = {"reference_period_us": 1000, "maximum_events_per_period": 20_000}
    values = {"biases": {"diff_on": 20}, "rate_limiter": limit, "clock": "EXTERNAL"}
    source = neuromorphic.open_source(configuration=values)
    with source:
        first = package.opened[0].configurations[0]
        assert (first.biases.diff_on, first.clock) == (20, nd.prophesee_evk4.Clock.EXTERNAL)
        assert first.rate_limiter == nd.prophesee_evk4.RateLimiter(1000, 20_000)
        assert source.change({"configuration": {"biases": {"diff_off": 7}}})
        assert package.opened[0].configurations[1].biases.diff_off == 7
        assert not source.change({"serial": "other"})
    assert package.opened[0].closed


def test_exposure_of_a_davis_is_changed_while_it_runs(install: Any) -> None:
    package = install(("davis346", stub.moving_dot("davis346")))
    with neuromorphic.open_source(exposure_us=3000) as source:
        next(iter(source))
        assert source.change({"exposure_us": 500})
    assert [c.exposure_us for c in package.opened[0].configurations] == [3000, 500]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bias": {}}, "did you mean 'biases'"),
        ({"biases": {"diffon": 1}}, "did you mean 'diff_on'"),
        ({"biases": {"diff_on": "high"}}, "expected a value like 0"),
        ({"biases": {"diff_on": 99_999}}, "does not fit its field"),
        ({"clock": "OUTER"}, "expected one of INTERNAL"),
        ({"rate_limiter": {"period": 1}}, "rate_limiter"),
    ],
)
def test_values_that_the_device_does_not_have_are_refused(install: Any, values: Any, message: str) -> None:
    install(("evk4", []))
    with pytest.raises(ConfigError, match=message):
        neuromorphic.open_source(configuration=values).__enter__()


def test_two_cameras_are_told_apart(install: Any, caplog: pytest.LogCaptureFixture) -> None:
    install(("evk4", stub.moving_dot("evk4")), ("evk4", stub.moving_dot("evk4")), ("davis346", []))
    for serial in ("S0", "S1"):
        with neuromorphic.open_source(device="evk4", serial=serial) as source:
            assert source.info.name == f"Prophesee EVK4 {serial}"
    with neuromorphic.open_source(device="davis346") as source:
        assert source.info.name == "iniVation DAVIS 346 S2"
    with neuromorphic.open_source(device="evk4") as source:
        assert source.info.name.endswith("S0")
    assert "choose by 'device' and 'serial'" in caplog.text
    with pytest.raises(DeviceNotFound, match="'S9' is connected, but Prophesee EVK4 S0"):
        neuromorphic.open_source(device="evk4", serial="S9").__enter__()


def test_no_camera_no_permission_no_package_say_what_to_do(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    with pytest.raises(DeviceNotFound, match="no dvxplorer was found"):
        neuromorphic.open_source(device="dvxplorer").__enter__()
    install(("evk4", []), error="Access denied (insufficient permissions)")
    with pytest.raises(DeviceNotFound, match="Access denied"):
        neuromorphic.open_source().__enter__()
    monkeypatch.setitem(__import__("sys").modules, "neuromorphic_drivers", None)
    with pytest.raises(SdkMissing, match=re.escape(pip_install("neuromorphic"))):
        neuromorphic.open_source().__enter__()


def test_machine_without_usb_has_no_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("Other error")

    monkeypatch.setattr(nd, "list_devices", fail)
    assert neuromorphic.connected() == []
    with pytest.raises(DeviceNotFound):
        neuromorphic.open_source().__enter__()


def test_unplugged_camera_is_lost(install: Any) -> None:
    install(("evk4", stub.moving_dot("evk4", steps=2)))
    with neuromorphic.open_source() as source, pytest.raises(DeviceLost, match=r"went away.*disconnected"):
        list(source)


@pytest.mark.usefixtures("clock")
def test_stall_is_told_and_becomes_a_loss(install: Any) -> None:
    packet = stub.packet_of("evk4", polarity_events=stub.events_of((1000, 1, 1, True)))
    install(("evk4", [(2000, packet), 30.0]))
    packets = []
    with neuromorphic.open_source(stall_s=0.3) as source, pytest.raises(DeviceLost, match="sent nothing for 0"):
        packets.extend(source)
    assert [p.watermark_us for p in _batches(packets)] == [1000, 2000, *[2000] * (len(packets) - 2)]
    assert len(packets) > 5


def test_clock_that_begins_again_is_a_new_epoch(install: Any) -> None:
    install(("davis346", stub.moving_dot("davis346", steps=400) + stub.moving_dot("davis346", steps=400)))
    with UntilLost(neuromorphic.open_source()) as source:
        packets = list(cleaned(source))
    assert len([p for p in packets if isinstance(p, Gap)]) == 1
    for epoch in (0, 1):
        assert sum(len(p) for p in _batches(packets) if p.epoch == epoch) == 4000
        assert sum(isinstance(p, Frame) and p.epoch == epoch for p in packets) == 40
