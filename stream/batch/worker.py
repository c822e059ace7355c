"""What a worker of a batch does: one order after another in one process, so that what it imports and compiles stays."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue

import setproctitle

from nire.errors import NireError
from stream.commands import offline
from stream.config import Config
from stream.images import encode_png
from stream.progress import Progress
from stream.recording import session_of
from stream.run_folder import damage_of
from stream.session.part import Part
from stream.sources import SourceOrder, open_source

_TELL_EVERY_S = 0.2
_TRIAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do.

    Attributes:
        name: of the recording in the batch.
        recording: file or folder.
        out: folder of the run.
        config: of the run.
        outputs: what to make beside images and their lines.
        part: of the recording; None = the whole.
        whole: folder where the parts are joined.
        is_trial: write nothing, and measure what a second of the recording takes.
    """

    name: str
    recording: Path
    out: Path
    config: Config
    outputs: tuple[str, ...] = ()
    part: Part | None = None
    whole: Path = Path()
    is_trial: bool = False

    @property
    def label(self) -> str:
        """Name, and where it is a part, which; unlike all others of the batch."""
        return self.name if self.part is None else f"{self.name} {self.part.number + 1}/{self.part.count}"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far an order has come: 0 .. 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trial measured, for each second of the recording.

    Attributes:
        time_s: of work, seconds.
        disk_bytes: of images, bytes.
        duration_us: of the whole recording.
    """

    time_s: float
    disk_bytes: float
    duration_us: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How an order ended.

    Attributes:
        reason: why it failed; "" = it is done.
        is_usable: all that the recording gives was made, also where the reason is its damage.
        seconds: that it took.
        warnings: what was logged meanwhile.
        cost: of a trial; None also where the recording does not say how long it is, or is too short.
    """

    reason: str
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    cost: Cost | None = None
    is_usable: bool = True


def serve(orders: Connection) -> None:
    """Take orders until the other side is gone; answer each with `Reached`s and an `Ending`."""
    faulthandler.enable()
    setproctitle.setproctitle("nire-live batch")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            order: Order = orders.recv()
            setproctitle.setproctitle(f"nire-live batch {order.label}")
            orders.send(_carry_out(order, orders.send))


def carried_out(order: Order) -> Iterator[Reached | Ending]:
    """Carry out an order in a thread of its own; yield what is told of it meanwhile, and the ending last."""
    told: SimpleQueue[Reached | None] = SimpleQueue()
    with ThreadPoolExecutor(1, thread_name_prefix="order") as beside:
        ending = beside.submit(_carry_out, order, told.put)
        ending.add_done_callback(lambda _: told.put(None))
        while (reached := told.get()) is not None:
            yield reached
        yield ending.result()


def _carry_out(order: Order, tell: Callable[[Reached], None]) -> Ending:
    """Carry out an order; whatever a recording makes of it is an ending, the other side's death is not."""
    start_s = time.perf_counter()
    warnings = _Warnings()
    logging.getLogger().handlers[:] = [warnings]
    reason, cost, is_usable = "", None, True
    try:
        # What offline says to people is told by the batch, once for all recordings.
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            if order.is_trial:
                cost = _measured(order)
            else:
                reason = _exposed(order, tell)
    except NireError as error:
        reason, is_usable = str(error), False
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001 - the last door: the other recordings can still be done
        traceback.print_exc()
        reason, is_usable = f"unexpected {type(error).__name__}: {error}", False
    return Ending(reason, time.perf_counter() - start_s, tuple(warnings.texts), cost, is_usable)


def _exposed(order: Order, tell: Callable[[Reached], None]) -> str:
    @contextlib.contextmanager
    def progress(label: str) -> Iterator[Progress]:
        yield _Told(tell)

    code = offline.run(
        order.config, order.recording, order.out, outputs=order.outputs, progress=progress, part=order.part
    )
    if code == offline.DAMAGED:
        return f"damaged; everything before the damage was used: {damage_of(order.out)}"
    return ""


def _measured(order: Order) -> Cost | None:
    """Re-expose the first part of a recording into memory; the first image is not measured, it waits for engines."""
    with open_source(order.config.source, SourceOrder(order.recording, speed=math.inf)) as source:
        duration_us = source.info.duration_us
        session, reading = session_of(order.config, source)
        disk_bytes = 0
        began: tuple[float, float] | None = None
        for frame in session.feed(reading):
            size = len(encode_png(frame.pixels))
            now_s = time.perf_counter()
            if began is None:
                began = now_s, session.newest_us
                continue
            disk_bytes += size
            if now_s - began[0] > _TRIAL_S:
                break
        if began is None or duration_us is None or session.newest_us <= began[1]:
            return None
        recorded_s = (session.newest_us - began[1]) / 1e6
        return Cost((time.perf_counter() - began[0]) / recorded_s, disk_bytes / recorded_s, duration_us)


class _Told:
    """Progress that is told to the other side, now and then."""

    def __init__(self, tell: Callable[[Reached], None]) -> None:
        self._tell = tell
        self._next_s = 0.0

    def at(self, done: float, total: float | None) -> None:
        # Told also where the end is unknown: that nobody listens any more is learned by telling.
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _TELL_EVERY_S
            self._tell(Reached(min(1.0, done / total) if total else 0.0))


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
