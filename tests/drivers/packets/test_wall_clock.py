"""Wall time of a camera, from when its packets arrive: simulated clocks, whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from drivers.packets.arrivals import ArrivalLine
from drivers.packets.wall_clock import HostClocks, host_clocks, wall_shared, wall_timed
from drivers.source import SourceInfo
from nire.types import EventBatch, Frame, Geometry, SourcePacket, WallClock
from nire.wall_time import WallTimes

INFO = SourceInfo("camera", Geometry(4, 3), live=True)
WALL_NS = 1_700_000_000_000_000_000
PERIOD_US = 5000
DELAYS = {
    "none": lambda rng, n: np.zeros(n),
    "USB": lambda rng, n: 150 + rng.exponential(300, n),
    "busy": lambda rng, n: rng.exponential(5000, n),
    "spread": lambda rng, n: rng.uniform(0, 8000, n),
    "two humps": lambda rng, n: 100 + rng.exponential(100, n) + 10_000 * (rng.random(n) < 0.5),
}


@dataclass
class Host:
    """A machine and a camera, whose clocks are told by a perfect one, us.

    Attributes:
        drift: of the device's clock against the perfect one.
        set_at_us, set_by_us: when the wall clock is set, and by how much.
        sleeps_at_us, sleeps_us: when the machine sleeps, and how long; the camera goes on.
        jumps_at_us, jumps_us: when the device's clock leaves out so much (less than 0: stands still for so long).
    """

    drift: float = 1e-4
    set_at_us: float = np.inf
    set_by_us: float = 0
    sleeps_at_us: float = np.inf
    sleeps_us: float = 0
    jumps_at_us: float = np.inf
    jumps_us: float = 0
    now_us: float = 0.0

    def device_us(self, true_us: float) -> int:
        jumped_us = self.jumps_us if self.jumps_us > 0 else max(self.jumps_us, self.jumps_at_us - true_us)
        return int(777_000 + true_us * (1 + self.drift) + (jumped_us if true_us >= self.jumps_at_us else 0))

    def wall_ns(self, true_us: float) -> int:
        return WALL_NS + round(1000 * (true_us + (self.set_by_us if true_us >= self.set_at_us else 0)))

    def monotonic_ns(self, true_us: float) -> int:
        slept_us = min(max(0.0, true_us - self.sleeps_at_us), self.sleeps_us)
        return round(1000 * (5e6 + true_us - slept_us))

    def clocks(self) -> HostClocks:
        boot_ns = round(1000 * (5e6 + self.now_us))
        return HostClocks(boot_ns - self.monotonic_ns(self.now_us), self.wall_ns(self.now_us) - boot_ns)

    def packets(self, delays_us: np.ndarray, *, epoch: int = 0, first_us: float = 0.0) -> Iterator[EventBatch]:
        """Heartbeats every 5 ms of perfect time, in the order of their arrival, which `clocks` follows."""
        arrived_us = 0.0
        for k, delay_us in enumerate(delays_us.tolist()):
            true_us = first_us + k * PERIOD_US
            arrived_us = max(arrived_us, true_us + delay_us)
            if self.sleeps_at_us <= arrived_us < self.sleeps_at_us + self.sleeps_us:
                arrived_us = self.sleeps_at_us + self.sleeps_us  # the machine wakes up
            self.now_us = arrived_us + 20
            yield EventBatch.empty(self.device_us(true_us), received_ns=self.monotonic_ns(arrived_us), epoch=epoch)


def followed(host: Host, packets: Iterator[EventBatch], **settings: float) -> list[tuple[float, float, float]]:
    """For each packet: seconds, error of the wall time that is told of it, and the uncertainty told, us."""
    times, rows = WallTimes(), []
    for packet in wall_timed(packets, INFO, clocks=host.clocks, **settings):
        if isinstance(packet, WallClock):
            times.add(packet)
            continue
        assert isinstance(packet, EventBatch)
        k = len(rows)
        told = times.at(packet.watermark_us, packet.epoch)
        assert told is not None
        assert told.uncertainty_us is not None
        error_us = (told.wall_ns - host.wall_ns(k * PERIOD_US)) / 1000
        rows.append((k * PERIOD_US / 1e6, error_us, told.uncertainty_us))
    return rows


@pytest.mark.parametrize("drift", [1e-4, -1e-4, 0.0, 3e-4])
@pytest.mark.parametrize("kind", DELAYS)
def test_wall_time_is_right_within_its_uncertainty_under_drift_and_jitter(kind: str, drift: float) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        host = Host(drift)
        rows = np.array(followed(host, host.packets(DELAYS[kind](rng, 4000))))
        outside = np.abs(rows[:, 1]) > rows[:, 2]
        assert outside[rows[:, 0] > 5].mean() == 0
        assert outside.mean() < 0.01
        settled = rows[rows[:, 0] > 10]
        assert np.median(settled[:, 2]) < {"busy": 2500, "spread": 2500}.get(kind, 1000)


def test_known_delay_leaves_what_jitter_leaves() -> None:
    host = Host()
    delays = 400 + np.random.default_rng(1).exponential(200, 4000)
    rows = np.array(followed(host, host.packets(delays), arrival_us=400.0))
    settled = rows[rows[:, 0] > 10]
    assert np.all(np.abs(settled[:, 1]) <= settled[:, 2])
    assert settled[:, 2].max() < 100


def test_hundred_ppm_of_drift_are_found() -> None:
    line = ArrivalLine()
    rng = np.random.default_rng(3)
    for k in range(4000):
        true_us = k * 5000.0
        line = line.add(true_us / (1 + 1e-4), 9e9 + true_us + rng.exponential(1000))
    assert line.drift == pytest.approx(1e-4, abs=5e-6)
    assert line.drift_doubt < 1e-4


def test_clock_that_was_set_is_followed_at_once() -> None:
    for by_us in (3_600e6, -250_000.0, 5000.0):
        host = Host(set_at_us=12e6, set_by_us=by_us)
        rows = np.array(followed(host, host.packets(DELAYS["USB"](np.random.default_rng(0), 4000))))
        rows = rows[(rows[:, 0] > 5) & (np.abs(rows[:, 0] - 12) > 0.006)]  # what is on its way is told by the old one
        assert np.all(np.abs(rows[:, 1]) <= rows[:, 2]), by_us


def test_sleep_of_the_machine_is_no_drift() -> None:
    host = Host(sleeps_at_us=10e6, sleeps_us=7e6)
    rows = np.array(followed(host, host.packets(DELAYS["USB"](np.random.default_rng(0), 5000))))
    assert np.all(np.abs(rows[:, 1]) <= rows[:, 2])
    assert rows[-1, 2] < 1000


def test_camera_that_slept_with_its_machine_is_doubted_and_found_again() -> None:
    host = Host(sleeps_at_us=10e6, sleeps_us=7e6, jumps_at_us=10e6, jumps_us=-7e6)
    rows = np.array(followed(host, host.packets(DELAYS["USB"](np.random.default_rng(0), 5000))))
    awake = (rows[:, 0] <= 10) | (rows[:, 0] > 17.01)
    assert np.all(np.abs(rows[awake, 1]) <= rows[awake, 2])
    assert rows[-1, 2] < 1000


@pytest.mark.parametrize("jumps_us", [40_000.0, 3e6, -40_000.0, -900_000.0])
def test_device_clock_that_jumps_is_found_again(jumps_us: float) -> None:
    host = Host(jumps_at_us=10e6, jumps_us=jumps_us)
    rows = np.array(followed(host, host.packets(DELAYS["USB"](np.random.default_rng(0), 6000))))
    stood_s = max(0.0, -jumps_us / 1e6)
    during = (rows[:, 0] > 9.99) & (rows[:, 0] < 10.55 + stood_s)  # it is noticed within two buckets
    assert np.all(np.abs(rows[~during & (rows[:, 0] > 5), 1]) <= rows[~during & (rows[:, 0] > 5), 2])
    assert rows[-1, 2] < 1000


def test_machine_that_cannot_keep_up_says_so_and_recovers() -> None:
    rng = np.random.default_rng(0)
    delays = DELAYS["USB"](rng, 6000)
    delays[2400:3000] += np.concatenate([np.linspace(0, 80_000, 300), np.linspace(80_000, 0, 300)])
    host = Host()
    rows = np.array(followed(host, host.packets(delays)))
    rows = rows[rows[:, 0] > 5]
    assert np.all(np.abs(rows[:, 1]) <= rows[:, 2])
    assert rows[-1, 2] < 1000


def test_what_is_told_never_goes_back() -> None:
    host = Host()
    told: list[int] = []
    times = WallTimes()
    delays = DELAYS["busy"](np.random.default_rng(5), 3000)
    for packet in wall_timed(host.packets(delays), INFO, clocks=host.clocks):
        if isinstance(packet, WallClock):
            times.add(packet)
        elif isinstance(packet, EventBatch):
            span = range(packet.watermark_us - PERIOD_US, packet.watermark_us, 500)
            told += [wall.wall_ns for t_us in span if (wall := times.at(t_us, 0))]
    # The first times are those before the first packet, which the later ones repeat in part.
    assert np.all(np.diff(told[20:]) > 0)


def test_line_that_was_too_late_is_left_without_going_back() -> None:
    host = Host()
    delays = np.full(2000, 200.0)
    delays[:100] = 300_000  # the first half second waited in the driver
    told: list[int] = []
    times, out = WallTimes(), 0
    for packet in wall_timed(host.packets(delays), INFO, clocks=host.clocks):
        if isinstance(packet, WallClock):
            times.add(packet)
        elif isinstance(packet, EventBatch):
            wall = times.at(packet.watermark_us, 0)
            assert wall is not None
            out += abs(wall.wall_ns - host.wall_ns(len(told) * PERIOD_US)) > 1000 * (wall.uncertainty_us or 0)
            told.append(wall.wall_ns)
    assert np.all(np.diff(told) > 0)
    assert out <= 165  # those that waited, and those that came behind them: nothing tells it yet


def test_new_epoch_has_a_clock_of_its_own() -> None:
    host = Host()
    calm = np.full(400, 100.0)

    def packets() -> Iterator[EventBatch]:
        yield from host.packets(calm)
        for packet in host.packets(calm, epoch=1, first_us=2e6):
            yield replace(packet, watermark_us=packet.watermark_us - 500_000_000)

    records = [p for p in wall_timed(packets(), INFO, clocks=host.clocks) if isinstance(p, WallClock)]
    times = WallTimes()
    for record in records:
        times.add(record)
    assert {record.epoch for record in records} == {0, 1}
    for epoch, true_us, shift_us in ((0, 1e6, 0), (1, 3e6, 500_000_000)):
        told = times.at(host.device_us(true_us) - shift_us, epoch)
        assert told is not None
        assert abs(told.wall_ns - host.wall_ns(true_us)) / 1000 <= told.uncertainty_us  # type: ignore[operator]
    assert times.at(0, 7) is None


def test_frames_alone_tell_the_time_too() -> None:
    host = Host(drift=0)
    pixels = np.zeros((3, 4, 1), np.uint8)

    def packets() -> Iterator[SourcePacket]:
        for n in range(100):
            host.now_us = 40_000.0 * n + 21_000
            start_us = host.device_us(40_000.0 * n)
            yield Frame(n, pixels, start_us, start_us + 20_000, received_ns=host.monotonic_ns(host.now_us))

    times = WallTimes()
    for packet in wall_timed(packets(), INFO, clocks=host.clocks):
        if isinstance(packet, WallClock):
            times.add(packet)
    told = times.at(host.device_us(3.6e6), 0)
    assert told is not None
    assert abs(told.wall_ns - host.wall_ns(3.6e6)) <= 1000 * (told.uncertainty_us or 0)


@pytest.mark.parametrize("info", [replace(INFO, live=False), replace(INFO, replayed=True)])
def test_recording_says_nothing_of_wall_time_by_being_played(info: SourceInfo) -> None:
    host = Host()
    packets = list(wall_timed(host.packets(np.zeros(10)), info, clocks=host.clocks))
    assert not [packet for packet in packets if isinstance(packet, WallClock)]
    assert len(packets) == 10


def test_cameras_of_one_trigger_share_a_clock() -> None:
    host = Host()
    first = list(wall_timed(host.packets(np.full(2000, 90.0)), INFO, clocks=host.clocks))
    told = iter([p for p in first if isinstance(p, WallClock)])
    newest: list[WallClock] = []

    def read() -> WallClock | None:
        newest.extend(record for _, record in zip(range(1), told, strict=False))
        return newest[-1] if newest else None

    other = list(wall_shared(host.packets(np.full(2000, 4000.0), epoch=3), read))
    shared = [packet for packet in other if isinstance(packet, WallClock)]
    assert shared == [replace(record, epoch=3) for record in newest[: len(shared)]]
    assert len(shared) > 5
    assert len(other) == 2000 + len(shared)


def test_clocks_of_this_machine_are_read() -> None:
    import time

    clocks = host_clocks()
    before_ns = time.time_ns()
    wall_ns = time.monotonic_ns() + clocks.boot_minus_monotonic_ns + clocks.wall_minus_boot_ns
    assert before_ns - 1_000_000 < wall_ns < time.time_ns() + 1_000_000


def test_clocks_that_are_read_with_a_pause_in_between_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    truth, pauses = [10**12], [0, 7_000_000, 0, 0, 0]

    def read(offset_ns: int) -> int:
        truth[0] += 1000 + (pauses.pop(0) if pauses else 0)
        return truth[0] + offset_ns

    monkeypatch.setattr(time, "monotonic_ns", lambda: read(0))
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: read(5 * 10**9))
    monkeypatch.setattr(time, "time_ns", lambda: read(10**18))
    clocks = host_clocks()
    assert abs(clocks.boot_minus_monotonic_ns - 5 * 10**9) < 10_000
    assert abs(clocks.wall_minus_boot_ns - (10**18 - 5 * 10**9)) < 10_000


def test_times_and_their_wall_times_are_each_others_inverse() -> None:
    times = WallTimes()
    times.add(WallClock(1_000_000, WALL_NS, 1.0001, 10.0, 1e-6))
    times.add(WallClock(2_000_000, WALL_NS + 1_000_100_000, 0.9999, 20.0))
    for t_us in (0, 1_500_000, 2_000_000, 9_000_000):
        told = times.at(t_us, 0)
        assert told is not None
        assert times.device_us(told.wall_ns) == pytest.approx(t_us, abs=0.01)
    assert times.at(1_500_000, 0).uncertainty_us == pytest.approx(10.5)  # type: ignore[union-attr]


def test_time_that_a_clock_showed_twice_is_the_later_one() -> None:
    times = WallTimes()
    times.add(WallClock(0, WALL_NS))
    times.add(WallClock(10_000_000, WALL_NS + 4_000_000_000))  # set back by 6 s
    assert times.device_us(WALL_NS + 5_000_000_000) == pytest.approx(11_000_000)
    assert times.device_us(WALL_NS + 1_000_000_000) == pytest.approx(1_000_000)


def test_time_that_a_clock_left_out_is_when_it_was_set() -> None:
    times = WallTimes()
    times.add(WallClock(0, WALL_NS))
    times.add(WallClock(10_000_000, WALL_NS + 60_000_000_000))
    assert times.device_us(WALL_NS + 30_000_000_000) == pytest.approx(10_000_000)
