"""The preview page beside a live stream: moments a second, the core that it takes, and windows that come late of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from nire.errors import NireError
from stream.sockets.control import ControlClient

from .material import write_recording
from .pipeline import Pipeline, running
from .ports import free_address
from .report import Result

_RECORDED_S = 4.0
# Many short ones, because other work on the machine comes and goes.
_STRETCHES = 12
_STRETCH_S = 5.0
_SETTLE_S = 1.0
_PATIENCE_S = 60.0
_ANSWER_MS = 20_000  # on a machine that does much else
# At the live edge images come one by one; those of a pair of frames come at once, and a page shows the newest of them.
_STREAM = ('reconstructor.backend="edi"', 'plan.name="upsample"', 'window.policy="live_edge"')
# Twice what a page shows, so that it is the page that limits what is shown.
_ASKED_HZ = 60.0
_SHOWN_HZ = 30.0


@dataclass(slots=True)
class Stream:
    """What the stream did in some stretches of time: windows built, windows skipped because they came late, images."""

    built: int = 0
    late: int = 0
    exposed: int = 0

    @property
    def late_share(self) -> float:
        """Of all windows."""
        return self.late / max(1, self.built + self.late)


@dataclass(frozen=True, slots=True)
class Server:
    """The process that serves the page, and its host:port."""

    process: psutil.Process
    bind: str


@dataclass(slots=True)
class Shown:
    """What a page was sent: moments, their bytes, and the processor time of its server, over `seconds`."""

    moments: int = 0
    size: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0


def run(*, recording: Path | None = None, overrides: Sequence[str] = ()) -> list[Result]:
    """Replay a recording at its own speed, in turns with a page that is looked at and without one.

    The page is served by its own process, as for any running stream, which is suspended in the stretches without it. A
    client looks at it that takes each moment at once, so that no browser's speed is measured.

    Args:
        recording: with frames; None = 4 s of the synthetic camera.
        overrides: of the config, as --set takes them.
    """
    without, beside, shown = Stream(), Stream(), Shown()
    with tempfile.TemporaryDirectory() as folder:
        source = recording or write_recording(Path(folder) / "bench.nire", _RECORDED_S)
        asked = (*_STREAM, f"plan.rate_hz={_ASKED_HZ}", *overrides)
        with (
            running(source, asked, ["--loop"]) as pipeline,
            ControlClient(pipeline.control, timeout_ms=_ANSWER_MS) as control,
            served(pipeline) as server,
        ):
            wait_for(control)
            for _ in range(_STRETCHES):
                asyncio.run(look(server, control, beside, shown))
                with _suspended(server), _counted(control, without):
                    time.sleep(_STRETCH_S)
    note = f"in {_STRETCHES} stretches of {_STRETCH_S:g} s, in turns; {{}} of {{}} windows"
    moment_s = shown.cpu_s / max(1, shown.moments)
    could = min(beside.exposed, _SHOWN_HZ * shown.seconds)
    return [
        Result("shown_fps", shown.moments / shown.seconds, "moments/s", f"captured and exposed; {_SHOWN_HZ:g} at most"),
        Result("shown_share", shown.moments / max(1.0, could), "", "of the images there were, and of 30 a second"),
        Result("cores", shown.cpu_s / shown.seconds, "cores", "that its server takes, of 1"),
        Result("ms_per_moment", 1000 * moment_s, "ms", "processor time of its server"),
        Result("kilobytes_per_moment", shown.size / max(1, shown.moments) / 1000, "kB"),
        *(
            Result(f"late_share_{name}", each.late_share, "", note.format(each.late, each.built + each.late))
            for name, each in (("without", without), ("beside", beside))
        ),
        Result("late_share_more", max(0.0, beside.late_share - without.late_share), "", "beside a page than without"),
    ]


def wait_for(control: ControlClient) -> None:
    """Wait until the stream builds windows, and settle."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            if control.ask("status").get("windows", 0) > 0:
                break
        except NireError:
            pass  # it starts
        if time.monotonic() > until:
            raise RuntimeError(f"the stream builds no window within {_PATIENCE_S:g} s")
        time.sleep(0.2)
    time.sleep(_SETTLE_S)


@contextmanager
def _counted(control: ControlClient, stream: Stream) -> Iterator[None]:
    """Add what the stream does in a stretch."""
    before = control.ask("status")
    yield
    after = control.ask("status")
    stream.built += after["windows"] - before["windows"]
    stream.late += after["late_windows"] - before["late_windows"]
    stream.exposed += after["exposed"] - before["exposed"]


@contextmanager
def served(pipeline: Pipeline) -> Iterator[Server]:
    """Serve the page in a process of its own."""
    bind = free_address().removeprefix("tcp://")
    words = [sys.executable, "-m", "stream.cli", "preview", pipeline.address, "--bind", bind, "--no-open-browser"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        yield Server(psutil.Process(process.pid), bind)
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)


@contextmanager
def _suspended(server: Server) -> Iterator[None]:
    """Hold the server, once it has let go of the stream's images."""
    time.sleep(_SETTLE_S)
    server.process.suspend()
    try:
        yield
    finally:
        server.process.resume()


async def look(server: Server, control: ControlClient, stream: Stream, shown: Shown) -> None:
    """Look at a page for a stretch, once it shows something."""
    async with aiohttp.ClientSession() as session:
        socket = await _connected(session, server.bind)
        await asyncio.wait_for(_take(socket, _SETTLE_S, Shown()), _PATIENCE_S)
        before = server.process.cpu_times()
        with _counted(control, stream):
            await _take(socket, _STRETCH_S, shown)
        after = server.process.cpu_times()
        shown.cpu_s += after.user + after.system - before.user - before.system
        await socket.close()


async def _connected(session: aiohttp.ClientSession, bind: str) -> aiohttp.ClientWebSocketResponse:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await session.ws_connect(f"ws://{bind}/ws", max_msg_size=0)
        except aiohttp.ClientError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.2)  # it starts


async def _take(socket: aiohttp.ClientWebSocketResponse, seconds: float, shown: Shown) -> None:
    """Take moments for so long from the first one on, and say of each that it is shown."""
    start = None
    async for message in socket:
        if message.type is not aiohttp.WSMsgType.BINARY:
            continue
        await socket.send_str(json.dumps({"type": "ack"}))
        now = time.perf_counter()
        if start is None:
            start = now
            continue
        shown.moments += 1
        shown.size += len(message.data)
        if now - start >= seconds:
            shown.seconds += now - start
            return
    raise RuntimeError("the page's server ended the connection")
