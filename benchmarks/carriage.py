"""What arrives at a reader, from a real producer through the real rings: counted, digested, and when."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from nire.types import EventBatch, Gap
from stream.config import Config, load_config
from stream.losses import Losses
from stream.processes import supervisor
from stream.processes.board import Board, State
from stream.processes.child import Child
from stream.processes.joining import join, note_progress, read
from stream.processes.supervised import Job
from stream.sources import SourceOrder

COLUMNS = ("t_us", "x", "y", "p")
_READ_S = 0.1
_QUIET_S = 3.0


@dataclass(slots=True)
class Digest:
    """Of a stream of events, whatever batches it comes in: their number, and a CRC-32 of each column."""

    events: int = 0
    columns: list[int] = field(default_factory=lambda: [0] * len(COLUMNS))

    def add(self, batch: EventBatch) -> None:
        """Take the next events."""
        self.events += len(batch)
        self.columns = [zlib.crc32(getattr(batch, name), crc) for name, crc in zip(COLUMNS, self.columns, strict=True)]


@dataclass(slots=True)
class Carried:
    """What a reader took.

    Attributes:
        digest: of the events.
        seconds: from the first batch to the last, on the clock of the reader.
        first_events: of the first batch, which came in no time.
        lost: events that were overwritten in the rings.
        gaps: reasons.
        behind_ms: how much later than the quickest of them the latest batch came, against its device time.
        cores: of each process, time on a core over `seconds`.
    """

    digest: Digest = field(default_factory=Digest)
    seconds: float = math.nan
    first_events: int = 0
    lost: int = 0
    gaps: list[str] = field(default_factory=list)
    behind_ms: float = math.nan
    cores: dict[str, float] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """Of those after the first batch."""
        return (self.digest.events - self.first_events) / self.seconds

    @property
    def shares(self) -> str:
        """The cores, in words."""
        return ", ".join(f"{name} {share:.2f}" for name, share in sorted(self.cores.items()))

    @property
    def losses(self) -> str:
        """The gaps, in words, without their numbers."""
        return ", ".join(sorted({re.sub(r"\d+", "N", reason) for reason in self.gaps})) or "none"


def carry(
    overrides: Sequence[str],
    order: SourceOrder,
    *,
    events: int,
    watched: Mapping[str, int] | None = None,
    on_running: Callable[[], None] = lambda: None,
) -> Carried:
    """Run a producer process and a reader process until the source has ended, or is silent for three seconds.

    Args:
        overrides: of the configuration, as for `--set`.
        order: what the producer plays.
        events: that the source has; the reader leaves when it has them all.
        watched: name and process id of others whose time on a core is wanted.
        on_running: called once, when the producer has begun to deliver.

    Raises:
        RuntimeError: a process could not go on; it has said why on standard error.
    """
    config = load_config(None, [f'source.name="bench-{os.getpid()}"', *overrides])
    begun: list[None] = []

    def on_tick(board: Board) -> None:
        if not begun and board.row("producer").state == State.RUNNING:
            begun.append(on_running())

    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "carried.json"
        jobs = [
            Job("consumer", f"{__package__}.carriage:take", (config, events, dict(watched or {}), told), holds_go=True),
            Job("producer", "stream.processes.producer:main", (config, order)),
        ]
        code = supervisor.run(config, order, table=jobs, on_tick=on_tick)
        if code or not told.exists():
            raise RuntimeError(f"the processes ended with exit code {code} before all was carried")
        values = json.loads(told.read_text())
    return Carried(**values | {"digest": Digest(**values["digest"])})


def take(child: Child, config: Config, events: int, watched: dict[str, int], told: Path) -> int:
    """Be the reader: take what comes and write down what it was. The job of a process of `child.live`.

    Returns:
        Exit code 0.
    """
    carried = Carried()
    with join(child, config) as reader:
        child.beat(State.READY)
        processes = {name: psutil.Process(pid) for name, pid in watched.items()} | {"reader": psutil.Process()}
        before: dict[str, float] = {}
        first_s = last_s = 0.0
        late_us: list[float] = []
        losses = Losses()
        while not (reader.ended or child.stopping or carried.digest.events >= events):
            child.orders()
            packets = read(child, reader, _READ_S)
            now_s = time.monotonic()
            for packet in packets:
                losses.add(packet)
                if isinstance(packet, Gap):
                    carried.gaps.append(packet.reason)
                if not isinstance(packet, EventBatch) or not len(packet):
                    continue
                if not before:
                    processes["producer"] = psutil.Process(child.board.row("producer")["pid"])
                    before = _cpu_s(processes)
                    first_s, carried.first_events = now_s, len(packet)
                carried.digest.add(packet)
                late_us.append(now_s * 1e6 - float(packet.t_us[-1]))
                last_s = now_s
            note_progress(child, reader, packets, losses)
            child.beat(State.RUNNING if packets else None)
            if before and now_s > last_s + _QUIET_S:
                break
        carried.lost = losses.events
        if before:
            carried.seconds = last_s - first_s
            spent = _cpu_s(processes)
            carried.cores = {name: (spent[name] - before[name]) / (time.monotonic() - first_s) for name in processes}
            carried.behind_ms = (max(late_us) - min(late_us)) * 1e-3
    told.write_text(json.dumps(asdict(carried)))
    return 0


def _cpu_s(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    times = {name: process.cpu_times() for name, process in processes.items()}
    return {name: spent.user + spent.system for name, spent in times.items()}
