"""A running stream from outside: its frames and its control socket in one, for programs and robots."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
import zmq
from numpy.typing import NDArray

from nire.errors import ConfigError, NireError, ShutterOutsideWindow
from nire.types import ExposedFrame
from stream.config_sections import PlanName
from stream.sockets import wire
from stream.sockets.control import ControlClient
from stream.sockets.endpoint import Endpoint
from stream.sockets.keys import ClientKeys
from stream.sockets.subscriber import Subscriber

_TAG = "expose"
_PLANNED = [wire.frame_topic(plan) for plan in get_args(PlanName)]
_KEPT = 1024  # messages while the reader is busy: a second at 1,000 frames a second
# A frame is published before its answer is sent. One that has not come this long after was published before our
# subscription had arrived: asking again, each time with twice the patience, costs less than to wait for a status first,
# because what is asked for is covered for a few windows only.
_FOLLOWS_S = 0.05
# Where nothing comes for so long, the stream is asked whether it has the camera.
_SILENT_MS = 1000
_WARMING_UP_S = 0.05


class Connection:
    """Receives frames and asks for others; not for use by several threads at once."""

    def __init__(
        self,
        address: str,
        control: str,
        *,
        keys: ClientKeys | None = None,
        timeout_s: float = 10.0,
        wait_s: float = 1.0,
        camera: str = "",
    ) -> None:
        """Connect to a stream; it may go and come back.

        Args:
            address: where it publishes.
            control: where it takes requests.
            keys: of this client and of the stream, if the stream has keys.
            timeout_s: how long an answer or a frame may take, seconds.
            wait_s: how long the stream may take to be there, seconds.
            camera: its name, where the stream is of several.

        Raises:
            ConfigError: an address is none that ZMQ knows.
            NireError: no stream is at either address in time.
        """
        self._address, self._keys, self._timeout_s, self._camera = address, keys, timeout_s, camera
        with ExitStack() as opened:
            client = ControlClient(control, keys, timeout_ms=round(timeout_s * 1000), camera=camera)
            self._client = opened.enter_context(client)
            # Both connect now, so that they hear the stream by the time of the first question.
            self._newest = opened.enter_context(self._subscriber(_PLANNED, newest_only=True))
            self._answers = opened.enter_context(self._subscriber([wire.frame_topic(_TAG)]))
            _require_stream(address, control, keys, within_ms=round(wait_s * 1000))
            self._opened = opened.pop_all()

    def newest(self) -> ExposedFrame:
        """Wait until there is a frame of the plan that you did not get yet, and return the newest one.

        Returns:
            The frame, its pixels uint8 [H, W, C], read-only.

        Raises:
            NireError: none comes in time.
            ConfigError: the stream has no such camera, or several of which none is named; says which there are.
        """
        newest = wire.frame_of(self._wait_for_message(self._newest))
        while (message := self._newest.recv(0)) is not None:
            frame = wire.frame_of(message)
            if frame.stamps.published_ns > newest.stamps.published_ns:
                newest = frame
        return newest

    def __iter__(self) -> Iterator[ExposedFrame]:
        """Yield every further frame of the plan, without end; a hole in `index` is a lost frame."""
        every = self._subscriber(_PLANNED)
        self._opened.enter_context(every)
        try:
            while True:
                message = every.recv(_SILENT_MS)
                if message is None:
                    self._require_camera()
                else:
                    yield wire.frame_of(message)
        finally:
            every.close()

    @property
    def cameras(self) -> list[str]:
        """Names of the stream's cameras; empty for a stream of one camera, which has no name.

        Raises:
            NireError: nobody answers.
        """
        return list(self.ask("status", camera=None).get("cameras", ()))

    @property
    def newest_us(self) -> float:
        """Device time of the newest moment that can be exposed, us; waits if the stream is still starting.

        Raises:
            NireError: nobody answers, or no frames arrive in time.
        """
        end_s = time.monotonic() + self._timeout_s
        while (covered_us := self._own_status().get("covered_us")) is None:
            if time.monotonic() > end_s:
                raise NireError("the stream has no window to answer from: do frames arrive?")
            time.sleep(_WARMING_UP_S)
        return float(covered_us[1])

    def expose(
        self,
        t_a_us: float | None = None,
        t_b_us: float | None = None,
        row_delay_us: float = 0.0,
        *,
        wall_ns: int | None = None,
        for_us: float = 0.0,
    ) -> NDArray[np.uint8]:
        """Ask for one image and wait for it.

        Args:
            t_a_us: start of the first row's exposure, device time.
            t_b_us: its end; None = the instant `t_a_us`.
            row_delay_us: row y is exposed that many microseconds later than row y - 1; 0 = a global shutter.
            wall_ns: instead of `t_a_us` and `t_b_us`: middle of the middle row's exposure, CLOCK_REALTIME, ns since
                1970, as ROS and PTP machines have it.
            for_us: with `wall_ns`: length of the exposure; 0 = an instant.

        Returns:
            uint8 [H, W], or [H, W, 3] in colour (RGB); read-only.

        Raises:
            ShutterOutsideWindow: the stream does not cover it, any more or yet.
            NireError: nobody answers, or the image does not come in time.
            ConfigError: no wall time is known of the stream's source.
            ValueError: neither or both of the times are given.
        """
        frame = self.expose_frame(t_a_us, t_b_us, row_delay_us, wall_ns=wall_ns, for_us=for_us)
        return frame.pixels[..., 0] if frame.pixels.shape[2] == 1 else frame.pixels

    def expose_frame(
        self,
        t_a_us: float | None = None,
        t_b_us: float | None = None,
        row_delay_us: float = 0.0,
        *,
        wall_ns: int | None = None,
        for_us: float = 0.0,
    ) -> ExposedFrame:
        """Do as `expose` does, and return the image with its times: `shutter`, `wall_ns`, `wall_uncertainty_us`."""
        asked: dict[str, Any] = {"row_delay_us": float(row_delay_us)}
        if t_a_us is not None and wall_ns is None:
            end_us = t_a_us if t_b_us is None else t_b_us
            asked |= {"t_us": float(t_a_us), "for_us": float(end_us) - float(t_a_us)}
        elif wall_ns is not None and t_a_us is None and t_b_us is None:
            asked |= {"wall_ns": int(wall_ns), "for_us": float(for_us)}
        else:
            raise ValueError("give either device time, t_a_us and if wanted t_b_us, or robot time, wall_ns and for_us")
        while self._answers.recv(0) is not None:
            pass  # answers to other clients, which would fill the queue
        answers: dict[int, float] = {}
        end_s, wait_s = time.monotonic() + self._timeout_s, _FOLLOWS_S
        while time.monotonic() < end_s:
            answer = self.ask("expose", **asked, tag=_TAG)
            answers[answer["index"]] = asked["t_us"] if "t_us" in asked else answer["t_a_us"]
            frame = self._answer(answers, wait_s)
            if frame is not None:
                return frame
            wait_s *= 2
        raise NireError(
            f"the stream answers, but no image came from {self._address} within {self._timeout_s:g} s: is that its "
            "publishing address?"
        )

    def set_plan(self, **changes: Any) -> dict[str, Any]:
        """Change the plan from the next window on, for all subscribers.

        Args:
            changes: keys of [plan]: name, rate_hz, exposure_us, row_delay_us, offset_us, time_budget_ms.

        Returns:
            The whole plan, with the changes.

        Raises:
            ConfigError: a key is unknown or a value out of range; nothing is changed.
            NireError: nobody answers.
        """
        plan: dict[str, Any] = self.ask("set_plan", plan=changes)["plan"]
        return plan

    def status(self) -> dict[str, Any]:
        """Ask for rates, latencies, losses, calibration and plan (docs/wire-format.md).

        Where the stream has several cameras and none is named: of all, by their names, under `cameras`.

        Raises:
            NireError: nobody answers.
        """
        return self.ask("status")

    def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """Send any command of the control socket (docs/wire-format.md).

        Returns:
            The answer's fields.

        Raises:
            ShutterOutsideWindow: the stream does not cover what was asked for.
            ConfigError: it refuses, and says why.
            NireError: nobody answers, or carrying it out failed.
        """
        reply = self._client.ask(command, **fields)
        if reply.pop("ok"):
            return reply
        hint = str(reply.get("hint", reply.get("error")))
        if reply.get("error") == "not_covered":
            first_us, last_us = reply["covered_us"]
            raise ShutterOutsideWindow(hint, (first_us, last_us))
        if reply.get("error") in ("refused", "bad_request"):
            raise ConfigError(hint)
        raise NireError(hint)

    def close(self) -> None:
        """Disconnect; safe to call twice."""
        self._opened.close()

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()

    def _subscriber(self, topics: Sequence[str], *, newest_only: bool = False) -> Subscriber:
        return Subscriber(
            self._address,
            topics,
            newest_only=newest_only,
            keys=self._keys,
            high_water_mark=_KEPT,
            camera=self._camera,
        )

    def _own_status(self, within_ms: int | None = None) -> dict[str, Any]:
        """The status of the camera.

        Args:
            within_ms: how long to wait for it; None = as long as for any answer.

        Raises:
            ConfigError: the stream has several, and none is named, or one that is not there.
            NireError: nobody answers.
        """
        status = self.ask("status", within_ms=within_ms)
        if "cameras" in status:
            there = ", ".join(status["cameras"])
            raise ConfigError(f"the stream is of several cameras: say which, connect(camera=...); there are {there}")
        return status

    def _require_camera(self, within_ms: int = _SILENT_MS) -> None:
        """Where nothing comes, see whether that is because of the camera's name; raises as `_own_status` if so."""
        try:
            self._own_status(within_ms)
        except ConfigError:
            raise
        except NireError:
            pass  # nobody answers: it may come, or come back

    def _answer(self, answers: Mapping[int, float], wait_s: float) -> ExposedFrame | None:
        """Wait for one of the images that are to come: index -> start of its exposure."""
        end_s = time.monotonic() + wait_s
        while (left_s := end_s - time.monotonic()) > 0:
            message = self._answers.recv(math.ceil(left_s * 1000))
            # Other clients ask too, and a consumer that was restarted counts from zero again.
            if message and answers.get(message.header["index"]) == message.header["t_a_us"]:
                return wire.frame_of(message)
        return None

    def _wait_for_message(self, subscriber: Subscriber) -> wire.Message:
        end_s = time.monotonic() + self._timeout_s
        message = subscriber.recv(min(_left_ms(end_s), _SILENT_MS))
        if message is None:
            self._require_camera(min(_left_ms(end_s), _SILENT_MS))
            message = subscriber.recv(_left_ms(end_s))
        if message is None:
            raise NireError(f"nothing came within {self._timeout_s:g} s: is a stream running at {self._address}?")
        return message


def _left_ms(end_s: float) -> int:
    return max(0, math.ceil((end_s - time.monotonic()) * 1000))


def _require_stream(address: str, control: str, keys: ClientKeys | None, *, within_ms: int) -> None:
    """Wait until one of a stream's sockets is met; it need not answer yet, and where one is known that is enough.

    Raises:
        NireError: neither is there in time.
    """
    with Endpoint() as endpoint:
        poller = zmq.Poller()
        for kind, place in ((zmq.REQ, control), (zmq.SUB, address)):
            socket = endpoint.socket(kind)
            poller.register(endpoint.watch(socket), zmq.POLLIN)
            endpoint.connect(socket, place, keys)
        if not poller.poll(within_ms):
            raise NireError(
                f"no stream answers at {control}: start one with 'nire-live replay RECORDING' or 'nire-live live "
                "CONFIG'. Where one runs, is this its control address, and, where it has keys, is this client's key on "
                "its list?"
            )
