"""The preview's view of a stream: what belongs to the newest moment, the numbers, and the stream's own status."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nire.errors import WireError
from stream.display import Tone
from stream.preview.moments import Album, Moment, Picture
from stream.preview.numbers import Numbers
from stream.preview.questions import Questions
from stream.sockets.keys import ClientKeys
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import Message

KINDS = {"exposed": "frame/", "captured": "captured", "events": "events", "status": "status"}
"""What the page knows -> the topic it comes from."""
_NEWEST_ONLY = {"exposed", "status"}
# Of what is kept until its moment has come, so many messages are taken at once, and so many may wait.
_AT_ONCE = 64
_SILENT_S = 2.5
# Without an exposed frame for so long (the stream is paused, say) captured frames are shown as they come.
_ALONE_S = 3.0


@dataclass(slots=True)
class _Slot:
    """A topic that is followed, and its newest message."""

    subscriber: Subscriber
    message: Message | None = None


class Feed:
    """Follows a stream for all browsers at once; subscribes only to what one of them shows.

    Attributes:
        publish_address: of the stream.
        keys: where it has keys.
        camera: that is followed, of several; "" = the only one, or what is told of all.
        numbers: rates and latencies of what was seen.
        tone: makes its images visible.
        problem: with the newest message, in words; "" = none.
    """

    def __init__(self, publish_address: str, control_address: str, keys: ClientKeys | None, camera: str = "") -> None:
        """Prepare; nothing is connected before `follow`.

        Args:
            publish_address: of the stream.
            control_address: of the stream; "" = as its status says.
            keys: where the stream has keys.
            camera: to follow, where the stream is of several.
        """
        self.camera = camera
        self.publish_address = reachable(publish_address, "tcp://127.0.0.1:0")
        self.keys = keys
        self.numbers = Numbers()
        self.tone = Tone()
        self.problem = ""
        self._control_address = reachable(control_address, self.publish_address)
        self._questions = Questions(keys)
        self._slots: dict[str, _Slot] = {}
        self._album = Album()
        self._exposed: Picture | None = None
        self._exposed_s = -1e9
        self._moment = Moment()
        self._heard_s = -1e9
        self._ended = False

    def follow(self, kinds: Iterable[str]) -> None:
        """Subscribe to exactly these kinds."""
        wanted = set(kinds)
        for kind in self._slots.keys() - wanted:
            self._slots.pop(kind).subscriber.close()
            self._album.forget(kind)
            if kind == "exposed":
                self._exposed = None
        for kind in wanted - self._slots.keys():
            subscriber = Subscriber(
                self.publish_address,
                [KINDS[kind]],
                newest_only=kind in _NEWEST_ONLY,
                keys=self.keys,
                high_water_mark=_AT_ONCE,
                camera=self.camera,
            )
            self._slots[kind] = _Slot(subscriber)

    def drain(self) -> None:
        """Take what has come, without waiting; what cannot be understood is a `problem`."""
        for kind, slot in self._slots.items():
            for _ in range(1 if kind in _NEWEST_ONLY else _AT_ONCE):
                try:
                    message = slot.subscriber.recv(0)
                    if message is None:
                        break
                    self._take(kind, slot, message)
                    self.problem = ""
                except Exception as error:  # noqa: BLE001 - whoever publishes there must not end the page
                    self.problem = str(error) if isinstance(error, WireError) else f"a message of {kind!r} is damaged"
        self._moment = self._newest_moment()
        self.numbers.tick(time.monotonic())

    def moment(self) -> Moment:
        """What belongs to the newest exposed frame; what was drained last."""
        return self._moment

    def state(self) -> dict[str, Any]:
        """What the page shows beside the images: link, numbers and the stream's own status."""
        live = time.monotonic() - self._heard_s < _SILENT_S
        status = self._status()
        self._ended = status.get("state") == "ended" or (self._ended and not live)
        if not live:
            self._forget()
        return {
            "type": "state",
            "address": self.publish_address,
            "live": live,
            "ended": self._ended,
            "problem": self.problem,
            "numbers": self.numbers.summary(),
            "status": self._status() | self._questions.answered,
        }

    async def ask(self, command: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Ask the stream, without stopping the images; what fails becomes {"ok": false, "error", "hint"}."""
        address = self._control_address or reachable(str(self._status().get("control", "")), self.publish_address)
        own = {"camera": self.camera} if self.camera else {}
        return await self._questions.ask(address, command, {**fields, **own})

    async def close(self) -> None:
        """Disconnect from everything, once the last question is answered or given up."""
        self.follow(())
        await self._questions.close()

    def _take(self, kind: str, slot: _Slot, message: Message) -> None:
        slot.message = message
        self._heard_s = time.monotonic()
        if kind == "status":
            self._questions.status_came()
            self.numbers.add_status(message.header)
            return
        picture = Picture(kind, message)
        if kind == "exposed":
            self._exposed, self._exposed_s = picture, self._heard_s
            self.numbers.add_exposed(message.header)
        else:
            self._album.add(picture)
            if kind == "captured":
                self.numbers.add_captured(message.header)

    def _newest_moment(self) -> Moment:
        exposed = self._exposed if time.monotonic() - self._exposed_s < _ALONE_S else None
        moment = self._album.moment(exposed)
        seen = moment.exposed or moment.captured
        if seen is not None and seen is not (self._moment.exposed or self._moment.captured):
            pixels = seen.message.pixels
            if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.size:
                self.tone.learn(pixels, seen.mid_us)
        return moment

    def _status(self) -> dict[str, Any]:
        slot = self._slots.get("status")
        return dict(slot.message.header) if slot and slot.message else {}

    def _forget(self) -> None:
        """A stream that is gone has no figures any more, and the next one has its own."""
        self.numbers = Numbers()
        self._questions.answered.clear()
        if slot := self._slots.get("status"):
            slot.message = None


def reachable(address: str, neighbour: str) -> str:
    """Replace "every interface" in an address by the host of another address of the same stream.

    >>> reachable("tcp://0.0.0.0:5557", "tcp://camera.local:5556")
    'tcp://camera.local:5557'
    """
    for everywhere in ("tcp://0.0.0.0:", "tcp://*:", "tcp://[::]:"):
        if address.startswith(everywhere) and neighbour.startswith("tcp://"):
            return f"{neighbour.rpartition(':')[0]}:{address.rpartition(':')[2]}"
    return address
