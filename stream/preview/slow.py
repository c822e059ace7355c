"""Slow motion: a short piece of the stream with every exposed frame, played at the pace of a screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from nire.errors import WireError
from stream.preview.moments import Album, Moment, Picture
from stream.sockets.keys import ClientKeys
from stream.sockets.subscriber import Subscriber
from stream.sockets.wire import CAPTURED_TOPIC, Message

_FRAMES = 60
_LONGEST_S = 2.0
_LOOK_S = 0.005


async def record(address: str, keys: ClientKeys | None, camera: str = "") -> list[Message]:
    """Receive every exposed and captured frame for a short while.

    Args:
        address: of the stream.
        keys: where it has keys.
        camera: whose frames, where the stream is of several.

    Returns:
        At most 60 exposed frames of one tag, with the captured ones among them, in the order of device time.
    """
    messages: list[Message] = []
    exposed = 0
    end_s = time.monotonic() + _LONGEST_S
    with Subscriber(address, ["frame/", CAPTURED_TOPIC], keys=keys, camera=camera) as subscriber:
        while exposed < _FRAMES and time.monotonic() < end_s:
            await asyncio.sleep(_LOOK_S)
            for message in _waiting(subscriber):
                messages.append(message)
                exposed += message.topic != CAPTURED_TOPIC
    return in_order(messages)


def in_order(messages: list[Message]) -> list[Message]:
    """Sort by device time; of several tags only the newest one stays, for a plan may have changed in between."""
    tags = [message.topic for message in messages if message.topic != CAPTURED_TOPIC]
    kept = [message for message in messages if message.topic in (CAPTURED_TOPIC, *tags[-1:])]
    return sorted(kept, key=lambda message: float(message.header["stamps"].get("device_us", 0.0)))


async def play(
    messages: list[Message], send: Callable[[Moment], Awaitable[None]], period_s: float, going: Callable[[], bool]
) -> None:
    """Send every exposed frame with the captured one of its moment, one each period, while `going()`.

    Args:
        messages: as from `record`.
        send: takes a moment; waits until the browser has shown the one before.
        period_s: seconds, > 0.
        going: False = leave the rest.
    """
    album, exposed = Album(), []
    for message in messages:
        if message.topic == CAPTURED_TOPIC:
            album.add(Picture("captured", message))
        else:
            exposed.append(Picture("exposed", message))
    for picture in exposed:
        if not going():
            return
        await send(album.moment(picture))
        await asyncio.sleep(period_s)


def _waiting(subscriber: Subscriber) -> list[Message]:
    """Everything that has arrived; damaged messages are left out, the live view reports them."""
    messages = []
    for _ in range(2 * _FRAMES):
        try:
            message = subscriber.recv(0)
        except WireError:
            continue
        if message is None:
            break
        messages.append(message)
    return messages
