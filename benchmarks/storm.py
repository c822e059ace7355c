"""A storm of kills: the processes of a recorded stream with a preview, one after another, and what that leaves behind.

It runs in rounds, because a supervisor gives up a process that dies too often, and because it is killed itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from nire.errors import WireError
from nire.types import EventBatch, Frame, Packet, WallClock
from stream.clock import now_ns
from stream.config_sections import RingConfig
from stream.processes.board import Board
from stream.processes.supervised import RESTARTS
from stream.rings.place import RingSpace
from stream.rings.ring import RingReader
from stream.sockets.subscriber import Subscriber

from .holes import Holes
from .ports import free_address
from .report import Result

_PROCESSES = ("consumer", "producer", "recorder", "preview")
_SPARE = "spare"
# What takes longer never happens, however busy the machine.
_PATIENCE_S = 180.0
_LONGEST_CALM_S = 0.5
_SEED = 3
_CAMERA = (
    'source.driver="synthetic"',
    "source.settings={width = 64, height = 48, noise = 'ideal'}",
    "plan.rate_hz=200",
    "publish.high_water_mark=100000",
)


@dataclass(slots=True)
class _Toll:
    """What all rounds together have cost."""

    kills: int = 0
    hangs: int = 0
    orphans: int = 0
    torn: int = 0
    left_files: int = 0
    told: int = 0
    unsent: int = 0
    uncounted: int = 0
    recoveries_s: list[float] = field(default_factory=list)

    def summary(self) -> str:
        """What matters, in a line."""
        return (
            f"{self.kills} kills; {self.hangs} hangs, {self.orphans} orphans, {self.torn} torn, "
            f"{self.uncounted} uncounted, {self.left_files} files left; {self.told} told, {self.unsent} unsent"
        )


class _Hang(Exception):
    """Something that should happen did not."""


def run(*, kills: int = 300, overrides: Sequence[str] = ()) -> list[Result]:
    """Kill that many processes.

    Args:
        kills: of consumer, producer, recorder, preview, spare and supervisor together.
        overrides: of the config, as --set takes them.
    """
    toll, dice = _Toll(), random.Random(_SEED)
    while toll.kills < kills and not toll.hangs:
        _round(toll, dice, kills, overrides)
        print(f"storm: {toll.summary()}", file=sys.stderr, flush=True)
    recoveries_s = toll.recoveries_s or [float("nan")]
    return [
        Result("kills", toll.kills, "processes", "by SIGKILL: " + ", ".join((*_PROCESSES, _SPARE, "supervisor"))),
        Result("hangs", toll.hangs, "", f"no new life, no images or no end within {_PATIENCE_S:g} s"),
        Result("orphans", toll.orphans, "processes", "that outlived their stream"),
        Result("torn", toll.torn, "packets", "of rings and sockets that make no sense"),
        Result("uncounted", toll.uncounted, "images", "missing without a counter that tells"),
        Result("left_files", toll.left_files, "files", "in shared memory and beside the sockets, after a stream"),
        Result("told", toll.told, "images", "missing, and counted"),
        Result("unsent", toll.unsent, "images", "that a killed consumer had not sent; `life` tells"),
        Result("recovery_s_p50", float(np.median(recoveries_s)), "s", "a consumer is killed -> the next one publishes"),
        Result("recovery_s_max", float(max(recoveries_s)), "s", f"of {len(toll.recoveries_s)}"),
    ]


def _round(toll: _Toll, dice: random.Random, kills: int, overrides: Sequence[str]) -> None:
    """Run one stream, and kill each process of it as often as its supervisor bears, in an order by chance."""
    victims = [name for name in (*_PROCESSES, _SPARE) for _ in range(RESTARTS)]
    dice.shuffle(victims)
    with tempfile.TemporaryDirectory() as folder, _Stream(Path(folder), toll, overrides) as stream:
        try:
            stream.settle()
            while victims and toll.kills + 1 < kills:
                stream.watch(dice.uniform(0, _LONGEST_CALM_S))
                # Now and then two at once.
                at_once = [victims.pop() for _ in range(min(len(victims), dice.choice((1, 1, 1, 2))))]
                stream.kill(at_once)
            stream.end(dice.choice((signal.SIGKILL, signal.SIGTERM)))
        except _Hang as hang:
            toll.hangs += 1
            print(f"{hang}; the stream has said:\n{stream.said()[-4000:]}", file=sys.stderr)


class _Stream:
    """One stream in real processes, a subscriber, and a reader of its rings. Leaving the block ends it."""

    def __init__(self, folder: Path, toll: _Toll, overrides: Sequence[str]) -> None:
        self._toll = toll
        self._name = f"storm-{uuid.uuid4().hex[:8]}"
        publish, control, preview = (free_address() for _ in range(3))
        config = folder / "storm.toml"
        config.write_text('[source]\ndriver = "synthetic"\n', encoding="utf-8")
        words = [sys.executable, "-m", "stream.cli", "record", str(config), str(folder / "storm.nire"), "--preview"]
        addresses = [f'publish.bind="{publish}"', f'control.bind="{control}"']
        preview = f'preview.bind="{preview.removeprefix("tcp://")}"'
        for override in [*_CAMERA, f'source.name="{self._name}"', *addresses, preview, *overrides]:
            words += ["--set", override]
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        self._subscriber = Subscriber(publish, ["frame/upsample"], high_water_mark=100_000)
        self._holes = Holes()
        self._newest: dict[str, Any] = {}
        self._left = contextlib.ExitStack()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()
        self._subscriber.close()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        """The log so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def settle(self) -> None:
        """Wait until images come and all processes run, and join the rings as a reader."""
        self._until(lambda: self._newest, "no image came")
        self._board = self._left.enter_context(Board.open(self._name))
        with self._telling_states():
            self._until(lambda: all(self._runs(name) for name in _PROCESSES), "not all processes run")
        self._reader = self._left.enter_context(RingReader(self._name, RingConfig()))
        self._until(lambda: self._spare() is not None, "no spare came")

    def watch(self, seconds: float) -> None:
        """Take what comes for a while."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._take()

    def kill(self, names: list[str]) -> None:
        """Kill processes together, and wait until all live again and images come."""
        lives = {name: self._board.row(name)["lives"] for name in names if name != _SPARE}
        killed_ns = now_ns()
        for name in names:
            spare = self._spare()
            pid = self._board.row(name)["pid"] if name != _SPARE else spare.pid if spare is not None else 0
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self._toll.kills += 1
        for name, before in lives.items():
            self._until(
                lambda name=name, before=before: self._board.row(name)["lives"] > before and self._runs(name),
                f"{name} did not come back",
            )
        expected = self._board.row("consumer")["lives"]
        self._until(
            lambda: self._newest["life"] == expected and self._newest["stamps"]["published_ns"] > killed_ns,
            f"no image came after {' and '.join(names)} had been killed",
        )
        if names == ["consumer"]:
            self._toll.recoveries_s.append((self._first_of_life_ns - killed_ns) * 1e-9)

    def end(self, number: signal.Signals) -> None:
        """End the stream by a signal to its supervisor, and look for what it leaves."""
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._left.close()
        self._process.send_signal(number)
        self._toll.kills += number == signal.SIGKILL
        try:
            code = self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise _Hang("the stream does not end") from None
        if code not in (0, -signal.SIGKILL):
            raise _Hang(f"the stream ended with code {code}")
        _, alive = psutil.wait_procs(family, timeout=_PATIENCE_S)
        for orphan in alive:
            orphan.kill()
        space = RingSpace.of(self._name)
        self._toll.orphans += len(alive)
        self._toll.left_files += len(space.leftovers()) + space.root.exists()
        for what in ("told", "unsent", "uncounted"):
            setattr(self._toll, what, getattr(self._toll, what) + getattr(self._holes, what))

    @contextlib.contextmanager
    def _telling_states(self) -> Iterator[None]:
        """Have a hang say what each process does instead."""
        try:
            yield
        except _Hang as hang:
            states = ", ".join(f"{name} {self._board.row(name).values()['state']}" for name in _PROCESSES)
            raise _Hang(f"{hang} ({states})") from hang

    def _runs(self, name: str) -> bool:
        return self._board.row(name).values()["state"] == "running"

    def _spare(self) -> psutil.Process | None:
        for process in psutil.Process(self._process.pid).children():
            with contextlib.suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(f"nire-live {_SPARE} {self._name}"):
                    return process
        return None

    def _until(self, what: Callable[[], object], otherwise: str) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        while not what():
            self._take()
            if time.monotonic() > end_s or self._process.poll() is not None:
                raise _Hang(f"{otherwise}; exit code of the stream: {self._process.poll()}")

    def _take(self) -> None:
        """Take images and packets for some milliseconds, and look at each."""
        for header in self._headers():
            self._holes.add(header)
            if header["life"] != self._newest.get("life"):
                self._first_of_life_ns = header["stamps"]["published_ns"]
            self._newest = header
        if hasattr(self, "_reader"):
            self._toll.torn += sum(not _makes_sense(packet) for packet in self._reader.read(0.0))

    def _headers(self) -> Iterator[dict[str, Any]]:
        timeout_ms = 20
        while True:
            try:
                message = self._subscriber.recv(timeout_ms=timeout_ms)
            except WireError:
                self._toll.torn += 1
                continue
            if message is None:
                return
            yield message.header
            timeout_ms = 0


def _makes_sense(packet: Packet) -> bool:
    """Tell whether a packet is one of the small camera's, whole."""
    if isinstance(packet, EventBatch):
        columns = packet.t_us, packet.x, packet.y, packet.p
        is_sorted = len(packet) == 0 or (
            bool(np.all(np.diff(packet.t_us) >= 0)) and packet.t_us[-1] <= packet.watermark_us
        )
        limits = zip(columns[1:], (64, 48, 2), strict=True)
        return is_sorted and all(not len(column) or int(column.max()) < limit for column, limit in limits)
    if isinstance(packet, Frame):
        return packet.pixels.shape == (48, 64, 1) and packet.exposure_start_us <= packet.exposure_end_us
    if isinstance(packet, WallClock):
        return packet.rate > 0 and packet.wall_ns > 0
    return packet.t0_us <= packet.t1_us
