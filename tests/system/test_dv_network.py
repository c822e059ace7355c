"""A real network writer of dv-processing in a process of its own, replaying a real recording at its own speed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivers.cameras import dv_network
from drivers.detect import open_recording
from drivers.packets.cleaning import cleaned
from nire.errors import ConfigError, DeviceNotFound
from nire.types import EventBatch, Frame, Gap, ImuBatch, SourcePacket, Trigger
from tests.drivers.packets.made import UntilLost, column_digests
from tests.system.live_stream import ROOT, LiveStream, free_ports

dv = pytest.importorskip("dv_processing", reason="dv-processing is not installed")
pytestmark = pytest.mark.system
KINDS = ("events", "frames", "triggers", "imu")


@pytest.fixture
def recording(shared_data: Path) -> Path:
    return shared_data / "recordings" / "emlb_demo-01_davis346.aedat4"


@pytest.fixture(params=["tcp", "unix"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "unix":
        return {kind: str(tmp_path / f"{kind}.sock") for kind in KINDS}
    return _tcp()


def _tcp() -> dict[str, str]:
    return {kind: f"tcp://127.0.0.1:{port}" for kind, port in zip(KINDS, free_ports(4), strict=True)}


@contextlib.contextmanager
def _served(
    recording: Path, addresses: dict[str, str], *, passes: int = 0, pause_s: float = 1.0
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.system.dv_writer", str(recording), str(passes), str(pause_s)]
    command += [f"{kind}={address}" for kind, address in addresses.items()]
    writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        yield writer
    finally:
        writer.kill()
        writer.communicate()


class Passes:
    """What came, by life of the clock: events and frames by epoch, the rest in order of arrival."""

    def __init__(self, packets: Iterable[SourcePacket]) -> None:
        self.timed: dict[int, list[SourcePacket]] = {}
        self.triggers: list[Trigger] = []
        self.samples: list[ImuBatch] = []
        self.gaps: list[Gap] = []
        for packet in packets:
            if isinstance(packet, Trigger):
                self.triggers.append(packet)
            elif isinstance(packet, ImuBatch):
                self.samples.append(packet)
            elif isinstance(packet, Gap):
                self.gaps.append(packet)
            else:
                self.timed.setdefault(packet.epoch, []).append(packet)

    def digests(self, epoch: int) -> dict[str, str]:
        """Digests of the columns of a pass; the indices of its frames count from 0."""
        packets = self.timed[epoch]
        frames = [packet for packet in packets if isinstance(packet, Frame)]
        alone = {id(frame): replace(frame, index=n, epoch=0) for n, frame in enumerate(frames)}
        return column_digests(alone.get(id(packet), packet) for packet in packets)

    def imu(self) -> list[list[list[float]]]:
        columns = [[b.t_us[:, None], b.accelerometer_mps2, b.gyroscope_radps] for b in self.samples if b.t_us.size]
        return [np.concatenate(column).tolist() for column in zip(*columns, strict=True)]


def _three_whole_passes(packets: Iterable[SourcePacket]) -> Iterator[SourcePacket]:
    """Take whole rounds, slower and slower, until three of them have lost nothing, or there were twenty."""
    epoch = 0
    gaps: list[Gap] = []
    for packet in packets:
        epoch = max(epoch, getattr(packet, "epoch", 0))
        if epoch == 20 or len([before for before in range(epoch) if before not in _cut(gaps)]) == 3:
            return
        if isinstance(packet, Gap):
            gaps.append(packet)
        yield packet


def _cut(gaps: list[Gap]) -> set[int]:
    """The rounds in which something was lost; a hole may reach into the next one."""
    lost = [gap.epoch for gap in gaps if "queue" in gap.reason or "too late" in gap.reason]
    return {epoch + more for epoch in lost for more in (0, 1)}


def test_each_pass_over_the_network_has_the_digests_of_the_file(recording: Path, addresses: dict[str, str]) -> None:
    with open_recording(recording, gaps="none") as file:
        expected = Passes(file)
    # The writer has a thread for each address that never rests: on a busy machine one is soon a second behind another.
    settings = {**addresses, "slack_us": 1_000_000}
    with _served(recording, addresses), dv_network.open_source(**settings) as source:
        assert source.info.name == "DAVIS346_00000391 over the network"
        assert (source.info.geometry.width, source.info.geometry.height) == (346, 260)
        got = Passes(_three_whole_passes(cleaned(source)))
    # A machine so busy that a process was kept from running for a second loses packets, and says so. The writer plays
    # slower and slower until three passes are whole.
    cut = _cut(got.gaps)
    whole = [epoch for epoch in sorted(got.timed) if epoch not in cut]
    assert len(whole) == 3, (
        f"only {len(whole)} of {len(got.timed)} passes are whole, the last ones at a twentieth of the speed"
    )
    assert [got.digests(epoch) for epoch in whole] == [expected.digests(0)] * 3
    if cut:
        return
    count = len(expected.triggers)
    assert got.triggers[: 3 * count] == expected.triggers * 3
    for mine, theirs in zip(got.imu(), expected.imu(), strict=True):
        assert mine[: 3 * len(theirs)] == theirs * 3
    assert len(got.gaps) == 2


def test_connection_that_ends_is_a_lost_device(recording: Path) -> None:
    addresses = {kind: address for kind, address in _tcp().items() if kind in ("events", "frames")}
    with _served(recording, addresses) as writer, dv_network.open_source(**addresses) as opened:
        source = UntilLost(opened)
        for packet in source:
            if isinstance(packet, Frame):
                writer.kill()
    assert source.loss is not None
    assert "is DV still running?" in str(source.loss)


def test_what_a_reader_that_slept_has_lost_is_a_gap(recording: Path) -> None:
    addresses = {"events": _tcp()["events"]}
    with _served(recording, addresses, passes=4, pause_s=0.05) as writer, dv_network.open_source(**addresses) as source:
        assert writer.stdout is not None
        while writer.stdout.readline() != "pass 3\n":  # about 1500 packets
            pass
        events, reason = 0, ""
        for packet in source:
            events += len(packet) if isinstance(packet, EventBatch) else 0
            if isinstance(packet, Gap):
                reason = packet.reason
                break
    assert reason == "the queue of the reader was full"
    assert 319_512 < events < 3 * 319_512


def test_stream_goes_on_with_a_gap_when_dv_was_closed_and_started_again(recording: Path) -> None:
    addresses = {kind: address for kind, address in _tcp().items() if kind in ("events", "frames")}
    settings = ", ".join(f"{kind} = '{address}'" for kind, address in addresses.items())
    with contextlib.ExitStack() as stack:
        with _served(recording, addresses):
            config = ("source.driver=dv_network", f"source.settings={{{settings}}}", "plan.name=deblur")
            stream = stack.enter_context(LiveStream(*config))
            stream.until(lambda: stream.row("consumer")["exposed"] >= 5)
        stream.until(lambda: stream.row("producer").get("reopened"))
        exposed = stream.row("consumer")["exposed"]
        with _served(recording, addresses):
            stream.until(lambda: stream.row("consumer")["exposed"] >= exposed + 5)
            assert stream.row("producer")["lives"] == 1
            assert stream.row("consumer")["gaps"] >= 1
            code, log = stream.end()
    assert code == 0, log
    assert stream.is_clean()


def test_nobody_serves_there(tmp_path: Path) -> None:
    [port] = free_ports(1)
    for address in (f"127.0.0.1:{port}", str(tmp_path / "none.sock")):
        with pytest.raises(DeviceNotFound, match=f"nobody serves events at {address}.*Is DV running"):
            dv_network.open_source(events=address).__enter__()


def test_swapped_addresses_are_told(recording: Path) -> None:
    addresses = {kind: address for kind, address in _tcp().items() if kind in ("events", "triggers")}
    with _served(recording, addresses), pytest.raises(ConfigError, match="serves triggers, expected events"):
        dv_network.open_source(events=addresses["triggers"], triggers=addresses["events"]).__enter__()
