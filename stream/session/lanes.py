"""Windows answered beside one another: each by a copy of the method, in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nire.types import Content, ContentWindow, FallsBack, Query, Reconstructor, WorksBeside
from stream.session.ahead import Ahead
from stream.session.batches import MOST_TOGETHER, Batches

# Images that are made before anybody takes them: those of a usual window and more, but not gigabytes of a large one.
_WAITING_BYTES = 64_000_000

_T = TypeVar("_T")


@dataclass(slots=True)
class Built:
    """A content that is there.

    Attributes:
        content: of the method.
        name, engine: of the method that built it.
        at_ns: when.
        taken_ns: how long it took.
    """

    content: Content
    name: str
    engine: str
    at_ns: int
    taken_ns: int


@dataclass(slots=True)
class Exposed:
    """Images that are there.

    Attributes:
        images: uint8 [H, W, C] each, nobody else's.
        at_ns: when.
        taken_ns: how long they took.
    """

    images: list[NDArray[np.uint8]]
    at_ns: int
    taken_ns: int


class _Later(Generic[_T]):
    """Work of a lane's thread; or of whoever takes it, when it is taken."""

    def __init__(self, work: Callable[[], _T], thread: ThreadPoolExecutor | None) -> None:
        self._work = work
        self._future: Future[_T] | None = thread.submit(work) if thread is not None else None

    @property
    def is_there(self) -> bool:
        """To take it does not wait for others."""
        return self._future is None or self._future.done()

    def wait(self, seconds: float) -> None:
        """Wait until it is there, for so long at most."""
        if self._future is not None:
            wait([self._future], seconds)

    def take(self) -> _T:
        return self._work() if self._future is None else self._future.result()


class Lane:
    """One copy of the method; answers one window after the other.

    Attributes:
        reconstructor: the copy.
        ahead: what it has begun of windows that are still arriving.
        batches: of its films.
    """

    def __init__(self, reconstructor: Reconstructor, clock: Callable[[], int], *, refused: int = 0) -> None:
        """Begin with no window; `refused` as for `Batches`."""
        self.reconstructor = reconstructor
        self.ahead = Ahead(reconstructor)
        self.batches = Batches(reconstructor, refused=refused)
        self._clock = clock
        self._built: tuple[ContentWindow, Content] | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def works_beside(self) -> bool:
        """There may be another one for the same stream."""
        return isinstance(self.reconstructor, WorksBeside) and self.reconstructor.works_beside

    def beside(self) -> Lane:
        """Make another one for the same stream, where there may be."""
        assert isinstance(self.reconstructor, WorksBeside)
        return Lane(self.reconstructor.beside(), self._clock)

    def use(self, *, fallback: bool) -> None:
        """Say which of its methods a `FallsBack` builds the next window by."""
        if isinstance(self.reconstructor, FallsBack):
            self.reconstructor.falls_back = fallback

    def expect(self, window: ContentWindow) -> int:
        """Tell the method of a window that it builds next, in the order of windows.

        Returns:
            1 where the window was begun ahead, else 0.
        """
        if isinstance(self.reconstructor, WorksBeside):
            self.reconstructor.expect(window)
        return 0 if self._has(window) else int(self.ahead.took(window))

    def build(self, window: ContentWindow) -> Built:
        """Build the content of a window, unless it is there."""
        began_ns = self._clock()
        if not self._has(window):
            self._built = None
            self._built = (window, self.reconstructor.build(window))
        assert self._built is not None
        now_ns = self._clock()
        return Built(self._built[1], self.reconstructor.name, self.reconstructor.engine, now_ns, now_ns - began_ns)

    def expose(self, content: Content, queries: Sequence[Query]) -> Exposed:
        """Expose films of the content built last; errors are the method's."""
        began_ns = self._clock()
        images: list[NDArray[np.uint8]] = []
        while len(images) < len(queries):
            images += map(np.array, self.batches.expose(content, queries[len(images) :]))
        now_ns = self._clock()
        return Exposed(images, now_ns, now_ns - began_ns)

    def thread(self) -> ThreadPoolExecutor:
        """Give its thread."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="window")
        return self._thread

    def _has(self, window: ContentWindow) -> bool:
        return self._built is not None and self._built[0] is window


class Answer(Generic[_T]):
    """A window that is being answered: its content first, and then its images as they are taken.

    Attributes:
        lane: that answers it.
        window: calibrated.
        wanted: how many images were asked for.
    """

    def __init__(
        self, lane: Lane, window: ContentWindow, queries: Sequence[tuple[Query, _T]], *, in_thread: bool
    ) -> None:
        """Begin: in the lane's thread, or bit by bit as it is taken.

        Args:
            lane: that has nothing else to do.
            window: that it was told of.
            queries: each with what belongs to it.
            in_thread: whether it is answered while the caller does something else.
        """
        self.lane, self.window, self.wanted = lane, window, len(queries)
        self._thread = lane.thread() if in_thread else None
        self._build = _Later(partial(lane.build, window), self._thread)
        self._built: Built | None = None
        self._waiting = deque(queries[n : n + MOST_TOGETHER] for n in range(0, len(queries), MOST_TOGETHER))
        film = window.film
        part_bytes = MOST_TOGETHER * film.height * film.width * film.channels
        self._most_parts = max(1, _WAITING_BYTES // part_bytes)
        self._parts: deque[tuple[Sequence[tuple[Query, _T]], _Later[Exposed]]] = deque()
        self._go_on()

    @property
    def is_over(self) -> bool:
        """All of it was taken."""
        return self._built is not None and not self._parts

    @property
    def is_there(self) -> bool:
        """There is a part that can be taken without waiting for others."""
        return self._parts[0][1].is_there if self._built is not None else self._build.is_there

    def wait(self, seconds: float) -> None:
        """Wait until there is such a part, for so long at most."""
        (self._build if self._built is None else self._parts[0][1]).wait(seconds)

    def built(self) -> Built:
        """Give the content; waits for it."""
        if self._built is None:
            self._built = self._build.take()
        return self._built

    def part(self) -> tuple[Sequence[tuple[Query, _T]], Exposed]:
        """Give the next images, with what they were asked for; waits for them. Only after `built`, until it is over."""
        queries, later = self._parts.popleft()
        exposed = later.take()
        self._go_on()
        return queries, exposed

    def _go_on(self) -> None:
        while self._waiting and len(self._parts) < self._most_parts:
            queries = self._waiting.popleft()
            self._parts.append((queries, _Later(partial(self._exposed, queries), self._thread)))

    def _exposed(self, queries: Sequence[tuple[Query, _T]]) -> Exposed:
        # It is there, unless another window was asked for between two parts, of a method that has one content.
        content = self.lane.build(self.window).content
        return self.lane.expose(content, [query for query, _ in queries])


class Lanes:
    """The copies of a method that answer a stream: one, and others once they are needed."""

    def __init__(self, reconstructor: Reconstructor, clock: Callable[[], int], *, refused: int = 0) -> None:
        """Begin with the one; `refused` as for `Batches`."""
        self._lanes = [Lane(reconstructor, clock, refused=refused)]
        self._apart: Lane | None = None

    @property
    def backend(self) -> str:
        """Name of the method."""
        return self._lanes[0].reconstructor.name

    @property
    def work_beside(self) -> bool:
        """Several windows may be answered beside one another."""
        return self._lanes[0].works_beside

    @property
    def out_of_memory(self) -> int:
        """As `Batches.out_of_memory`, of all."""
        apart = [] if self._apart is None else [self._apart]
        return sum(lane.batches.out_of_memory for lane in [*self._lanes, *apart])

    def free(self, window: ContentWindow, busy: Sequence[Lane], *, at_once: int) -> Lane | None:
        """Give a lane that has nothing to do: the one that has begun a window, if there is such; None where all work.

        Args:
            window: the next one.
            busy: those that work.
            at_once: how many may.
        """
        if len(busy) >= at_once:
            return None
        idle = [lane for lane in self._lanes if lane not in busy]
        if not idle:
            idle = [self._lanes[0].beside()]
            self._lanes += idle
        return next((lane for lane in idle if lane.ahead.has_begun(window)), idle[0])

    def apart(self, busy: Sequence[Lane]) -> Lane:
        """Give a lane for what is asked beside the plan: the first, unless it works and there may be others."""
        first = self._lanes[0]
        if first not in busy or not first.works_beside:
            return first
        self._apart = self._apart or first.beside()
        return self._apart
