"""One browser at the other end of a WebSocket: what it is sent, and what it may ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import WSMsgType, web

from stream.preview import slow
from stream.preview.choices import choices
from stream.preview.feed import Feed
from stream.preview.images import COLOURS, Look, envelope, facts
from stream.preview.moments import Moment
from stream.preview.reel import Reel
from stream.sockets.control import refusal

LOOKS = frozenset({"status"})
"""What whoever looks may ask of the stream."""
OPERATES = LOOKS | {
    *("set_plan", "pause", "resume", "set_source", "set_reconstructor", "set_events", "play", "record", "record_stop")
}
"""What whoever operates may ask: anything but to end it."""
_STATE_EVERY_S = 0.25
# A browser that does not say within this time that it has shown an image is sent the next one anyway.
_PATIENCE_S = 2.0
_TASKS_MOST = 32


class Browser:
    """Gets what belongs to the newest moment once it has shown the one before.

    Attributes:
        name: says which browser is meant in the addresses of what it downloads; cannot be guessed.
        socket: its WebSocket.
        feed: of the camera that it shows.
        wake: set when there may be something new.
        kinds: what it shows.
        shown: the moment that it was sent last.
        reel: the last seconds of what it was sent.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        feed: Feed,
        period_s: float,
        *,
        operates: bool,
        is_alone: Callable[[], bool],
    ) -> None:
        """Take over a connection.

        Args:
            socket: prepared.
            feed: of the camera.
            period_s: of the images, for slow motion.
            operates: may change the stream for everyone; else it only looks.
            is_alone: tells whether it is the only browser, and on this machine.
        """
        self.name = secrets.token_urlsafe(16)
        self.socket = socket
        self.wake = asyncio.Event()
        self.kinds = {"exposed", "captured", "status"}
        self.shown = Moment()
        self.reel = Reel()
        self.feed = feed
        self._period_s = period_s
        self._operates = operates
        self._is_alone = is_alone
        self._look = Look()
        self._probe: tuple[int, int] | None = None
        self._held = False
        self._slow = False
        self._on_its_way: asyncio.Event | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Send and listen until the browser leaves."""
        hello = {"type": "hello", "name": self.name, "operates": self._operates, "choices": choices()}
        await self._send_text(hello)
        self._start(self._send())
        try:
            await self._listen()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def tell_state(self) -> None:
        """Send the numbers."""
        await self._send_text(self.feed.state() | {"alone": self._is_alone()})

    async def _send(self) -> None:
        """Send moments and, four times a second, the numbers."""
        loop = asyncio.get_running_loop()
        state_s = 0.0
        while not self.socket.closed:
            await self.wake.wait()
            self.wake.clear()
            if not self._held and not self._slow and self._on_its_way is None:
                await self._send_moment(self.feed.moment())
            if loop.time() >= state_s:
                state_s = loop.time() + _STATE_EVERY_S
                await self.tell_state()

    async def _send_slowly(self) -> None:
        """Record a piece, play it, and again, until slow motion is switched off."""
        while self._slow and not self.socket.closed:
            piece = await slow.record(self.feed.publish_address, self.feed.keys, self.feed.camera)
            await slow.play(piece, self._send_in_turn, self._period_s, lambda: self._slow)

    async def _listen(self) -> None:
        """Serve what the browser says; anything that is not understood ends the connection."""
        async for message in self.socket:
            if message.type is not WSMsgType.TEXT or not self._hear(message.data):
                await self.socket.close(code=1003, message=b"not understood")

    def _hear(self, text: str) -> bool:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return False
        match said:
            case {"type": "ack"}:
                shown, self._on_its_way = self._on_its_way, None
                if shown is not None:
                    shown.set()
            case {"type": "hold", "on": bool(on)}:
                self._held = on
            case {"type": "events", "on": bool(on)}:
                self.kinds = self.kinds | {"events"} if on else self.kinds - {"events"}
            case {"type": "look", "levelled": bool(levelled), "colours": str(colours)} if colours in COLOURS:
                self._look = Look(levelled, colours)
                self._start(self._send_moment(self.shown, again=True))  # of a held picture too
            case {"type": "probe", "x": int(x), "y": int(y)}:
                self._probe = (x, y)
                self._start(self._send_text({"type": "values", **self._values(self.shown)}))
            case {"type": "probe"}:
                self._probe = None
            case {"type": "slow", "on": bool(on)}:
                if on and not self._slow:
                    self._start(self._send_slowly())
                self._slow = on
            case {"type": "ask", "id": int(number), "command": str(command), "fields": dict(fields)}:
                self._start(self._answer(number, command, fields))
            case _:
                return False
        return len(self._tasks) <= _TASKS_MOST  # more than any page of ours has under way

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, command: str, fields: dict[str, Any]) -> None:
        if command in (OPERATES if self._operates else LOOKS):
            reply = await self.feed.ask(command, fields)
        elif command in OPERATES:
            reply = refusal("read_only", "this page only looks: open the operator's address to change the stream")
        else:
            reply = refusal("bad_request", f"the page may only ask for {', '.join(sorted(OPERATES))}")
        await self._send_text({"type": "reply", "id": number, "command": command, **reply})

    async def _send_moment(self, moment: Moment, *, again: bool = False) -> None:
        """Send what the browser does not show yet; all of it `again` where it is to look in another way."""
        wanted = [each for each in moment.pictures if each.kind in self.kinds]
        new = [each for each in wanted if again or each not in self.shown.pictures]
        files = {each.kind: each.file(self._look, self.feed.tone) for each in wanted}
        parts = [(finite(facts(each.kind, each.message.header)), file) for each in new if (file := files[each.kind])]
        self.shown = moment
        if not parts:
            return
        self.reel.add(files.get("captured", files.get("events")), files.get("exposed"))
        self._on_its_way = asyncio.Event()
        head = {"alone": moment.exposed is None, "apart_us": moment.apart_us, "values": self._values(moment)}
        # A browser may leave at any moment; `_listen` notices.
        with contextlib.suppress(ConnectionError):
            await self.socket.send_bytes(envelope(finite(head), parts))

    async def _send_in_turn(self, moment: Moment) -> None:
        if (shown := self._on_its_way) is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(shown.wait(), _PATIENCE_S)
        while self._held and self._slow:
            await asyncio.sleep(self._period_s)
        await self._send_moment(moment)

    def _values(self, moment: Moment) -> dict[str, Any]:
        """What the pixel under the cursor holds: nothing where there is no cursor."""
        if self._probe is None:
            return {}
        x, y = self._probe
        return {"x": x, "y": y, **moment.values(x, y)}

    async def _send_text(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            await self.socket.send_str(json.dumps(finite(message), default=str))


def finite(value: Any) -> Any:
    """Replace what JSON cannot say (infinite, not a number) by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return value
