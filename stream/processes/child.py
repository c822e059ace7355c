"""What every process of a stream does at birth, while it lives, and at its end."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import logging
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, cast

import psutil
import setproctitle

from nire.errors import NireError
from nire.threads import let_go_of_cores
from stream.clock import now_ns
from stream.disk import is_full, refused
from stream.processes import log
from stream.processes.background import is_anything_made
from stream.processes.board import Board, State, private_kb
from stream.processes.orders import Orders
from stream.rings import ring

_PR_SET_PDEATHSIG = 1
# mallopt of glibc: blocks from this size on are the kernel's own, and go back to it when they are freed; and what may
# be free at the end of the heap before that goes back. glibc would have that be twice the size, too.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_LARGE_BYTES, _LARGEST_BYTES = 1 << 20, 1 << 25
# Of a pixel, in the largest planes of a sensor: two numbers of float32, or one of float64.
_PLANE_BYTES = 8
# Of a pixel, in a stack of planes: of two frames at five key times, float32, and what lies around them. Stacks of a
# small sensor, up to so many bytes, are kept too.
_STACK_BYTES, _LARGEST_STACK_BYTES = 48, 1 << 23
_PARENT_CHECK_S = 0.5
_AT_ONCE = 64
_FOR_THE_SUPERVISOR = frozenset({signal.SIGINT, signal.SIGHUP})
_LAST_WORDS_S = 5.0
_AFTERWARDS_S = 30.0
_MEMORY_EVERY_NS = 1_000_000_000
_SPARE_LISTENS_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Post:
    """What the supervisor hands to a child.

    Attributes:
        name: of the process, its row on the board.
        stream_name: of the stream; the first one's, for a process of several.
        orders: two-way: orders in, wishes out.
        lines: what the child prints goes here.
        parent_pid: of the supervisor.
        log_level: for `logging`.
        kept: what a life before this one wanted to be known (`Seat.keep`), by the name of the stream.
        others: further streams that the process serves.
        spare: "module:function" that makes ready what takes long, for a process that waits to take over; "" = begin.
    """

    name: str
    stream_name: str
    orders: Orders
    lines: Connection
    parent_pid: int
    log_level: str = "INFO"
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    spare: str = ""

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of all streams that the process serves."""
        return (self.stream_name, *self.others)


class Seat:
    """A process's place in one stream: its row on that stream's board, and what it tells the supervisor about it.

    Attributes:
        stream_name: of the stream.
        board: all rows.
        row: its own.
        before: the row as a killed predecessor left it, from which totals go on; all zero in the first life.
        kept: what a life before this one wanted to be known.
    """

    def __init__(self, post: Post, stream_name: str) -> None:
        """Begin the row's life."""
        self.stream_name = stream_name
        self.board = Board.open(stream_name)
        self.row = self.board.row(post.name)
        self.before = self.row.values()
        self.row.begin()
        self.kept = post.kept.get(stream_name, {})
        self._orders = post.orders
        self._measured_ns = 0

    def beat(self, state: State | None = None) -> None:
        """Give a sign of life; also measures private memory once a second."""
        self.row.beat(state)
        now = now_ns()
        if now - self._measured_ns >= _MEMORY_EVERY_NS:
            self._measured_ns = now
            self.row["private_kb"] = private_kb()

    def tell(self, wish: dict[str, Any]) -> bool:
        """Send a wish to the supervisor, for example {"order": "stop"}; never waits.

        Returns:
            Whether it is on its way; a supervisor that does not listen refuses it.
        """
        is_sent = self._orders.send({"stream": self.stream_name, **wish})
        self.row["refused_orders"] = self.before["refused_orders"] + self._orders.refused
        return is_sent

    def keep(self, kept: dict[str, Any]) -> bool:
        """Have the next life of this process know something, in place of what was kept before; as `tell`."""
        return self.tell({"order": "keep", "kept": kept})


class Child(Seat):
    """A process's own view of its life; as a seat, that in its stream, or in the first one of several.

    Attributes:
        ready: what it has made ready while it waited as a spare; None where it did not.
        stopping: it was asked to end.
        seats: in all its streams, itself first.
    """

    def __init__(self, post: Post, ready: Any = None) -> None:
        """Begin the life, in every stream."""
        super().__init__(post, post.stream_name)
        self.ready = ready
        self.stopping = False
        self.seats: list[Seat] = [self, *(Seat(post, name) for name in post.others)]

    def orders(self, timeout_s: float = 0.0) -> list[dict[str, Any]]:
        """Take what the supervisor said; "stop", and the supervisor's death, set `stopping`."""
        taken: list[dict[str, Any]] = []
        try:
            while len(taken) < _AT_ONCE and (order := self._orders.receive(0.0 if taken else timeout_s)) is not None:
                if order["order"] == "stop":
                    self.stopping = True
                taken.append(order)
        except EOFError:
            self.stopping = True
        return taken


def give_large_blocks_back(pixels: int = 0) -> None:
    """Have memory of windows and images go back to the kernel when it is freed.

    glibc begins like that, but whenever a large block is freed, blocks up to its size (of 32 MB at most) belong into
    its heap from then on. There small blocks come to lie between them, and the heap stays as large as it ever was: a
    quarter of it unused in a stream under load, and more with every longer queue.

    Planes of a sensor are not among them, nor stacks of small ones. They all have a few sizes and fit where the ones
    before them were; from the kernel they would come page by page, zeroed, which takes longer than what is computed in
    them.

    Args:
        pixels: of the sensor; 0 where it is not known.
    """
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        stack = min(_STACK_BYTES * pixels, _LARGEST_STACK_BYTES)
        large = min(max(_LARGE_BYTES, stack, _PLANE_BYTES * pixels + mmap.PAGESIZE), _LARGEST_BYTES)
        with contextlib.suppress(AttributeError):  # another library than glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_THRESHOLD, large)
            mallopt(_M_TRIM_THRESHOLD, 2 * large)


def live(post: Post, job: str, arguments: tuple[Any, ...]) -> None:
    """Be a child: the target of every spawned process.

    Args:
        post: from the supervisor.
        job: "module:function"; it is imported here, so that only the process that needs a module loads it. Called
            with the `Child` and `arguments`, it returns the exit code.
        arguments: picklable.
    """
    os.dup2(post.lines.fileno(), 1)
    os.dup2(post.lines.fileno(), 2)
    # A supervisor that is held up must not hold up us: what it does not take is left out.
    sys.stdout = sys.stderr = log.Unblocked(2)
    faulthandler.enable()
    give_large_blocks_back()
    # OpenCV's threads spin while they wait: for a process of small images that is a core lost to the others.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    let_go_of_cores()
    log.configure(post.log_level, plain=True)
    setproctitle.setproctitle(f"nire-live {'spare' if post.spare else post.name} {' '.join(post.streams)}")
    finished = threading.Event()
    _die_with_parent(post.parent_pid, finished)
    if _is_orphan(post.parent_pid):  # it died while we started, and the kernel sends nothing after the fact
        _sweep_as_orphan(post.streams)
        sys.exit(0)
    # Ctrl-C and a terminal's end reach the whole group; the supervisor alone decides the order in which processes end.
    for number in _FOR_THE_SUPERVISOR:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FOR_THE_SUPERVISOR)
    signal.signal(signal.SIGTERM, _on_term)
    code = _exit_code(post, job, arguments)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    finished.set()
    if _is_orphan(post.parent_pid):
        _sweep_as_orphan(post.streams)
    if is_anything_made():
        # A compiler cannot be told to stop, and an interpreter that ends around one aborts.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def spawn(post: Post, job: str, arguments: tuple[Any, ...]) -> multiprocessing.process.BaseProcess:
    """Start a child. Never by fork: that hangs once torch has run, and copies sockets and mappings."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=live, args=(post, job, arguments), name=post.name)
    resource_tracker.ensure_running()  # started by the first child otherwise, and then it would clear the mask
    # The mask is inherited: Ctrl-C does not reach the child until it has said that it ignores it (`live`).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_SUPERVISOR)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _exit_code(post: Post, job: str, arguments: tuple[Any, ...]) -> int:
    try:
        ready = None
        if post.spare:
            ready = _named(post.spare)(*arguments)
            post = _await_begin(post)
        child = Child(post, ready)
        code: int = _named(job)(child, *arguments)
        for seat in child.seats:
            seat.beat(State.ENDED)
        return code
    except NireError as error:
        _log.error("%s", error)
        return error.exit_code
    except OSError as error:
        if not is_full(error):
            traceback.print_exc()
            return 1
        full = refused(error, error.filename or "any further")
        _log.error("%s", full)
        return full.exit_code
    except SystemExit as end:  # SIGTERM
        return end.code if isinstance(end.code, int) else 0
    except Exception:  # noqa: BLE001 - the last door: told in full, and the supervisor decides what follows
        traceback.print_exc()
        return 1


def _named(function: str) -> Callable[..., Any]:
    """Import "module:function"."""
    module, _, name = function.partition(":")
    return cast(Callable[..., Any], getattr(importlib.import_module(module), name))


def _await_begin(post: Post) -> Post:
    """Wait until the process that this one is the spare of has died.

    Raises:
        SystemExit: the supervisor has gone, or says stop.
    """
    try:
        while (order := post.orders.receive(_SPARE_LISTENS_S)) is None:
            pass
    except EOFError:
        sys.exit(0)
    if order["order"] != "begin":
        sys.exit(0)
    setproctitle.setproctitle(f"nire-live {post.name} {' '.join(post.streams)}")
    return replace(post, kept=order["kept"])


def _on_term(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def _is_orphan(parent_pid: int) -> bool:
    """Tell whether the supervisor has gone, or goes.

    The kernel sends its signal when the main thread ends. Where cores are busy, other threads of a killed process live
    on a while, and so do its files and its number.
    """
    try:
        return os.getppid() != parent_pid or psutil.Process(parent_pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _sweep_as_orphan(streams: Sequence[str]) -> None:
    """Do what the supervisor would have done: wait for the other orphans to end, and leave nothing behind."""
    gc.collect()  # a ring held by a cycle would still count as in use
    deadline = time.monotonic() + _LAST_WORDS_S + _AFTERWARDS_S
    while not all(list(map(ring.sweep, streams))) and time.monotonic() < deadline:
        time.sleep(0.1)


def _die_with_parent(parent_pid: int, finished: threading.Event) -> None:
    """End when the supervisor dies, however it dies: the kernel sends SIGTERM, and a thread sees to the rest."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    threading.Thread(target=_watch_parent, args=(parent_pid, finished), daemon=True, name="parent watch").start()


def _watch_parent(parent_pid: int, finished: threading.Event) -> None:
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_S)
    if not finished.wait(_LAST_WORDS_S):
        os.kill(os.getpid(), signal.SIGKILL)
