"""The session in force: made for a source by a method, and made anew when either of them changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from drivers.source import SourceInfo
from nire.errors import ConfigError, NireError
from nire.threads import windows_at_once
from nire.types import ExposedFrame
from stream.clock import now_ns
from stream.config import Config, changed
from stream.processes.background import Background
from stream.processes.child import Seat
from stream.processes.method import Method
from stream.processes.status import Change, StatusKeeper, replay_speed
from stream.session.session import Session
from stream.session.tally import Tally
from stream.sockets.control import Pending

_log = logging.getLogger(__name__)


class CurrentSession:
    """Holds the session, and what clients have asked of it: that goes on in the next one.

    Attributes:
        session: in force; another one after `follow` and `change_method`.
    """

    def __init__(
        self,
        seat: Seat,
        keeper: StatusKeeper,
        tally: Tally,
        publish: Callable[[Iterable[ExposedFrame]], None],
        method: Method | None = None,
        *,
        share: Callable[[], float] = lambda: 1.0,
        is_alone: bool = True,
    ) -> None:
        """Make the first session.

        Args:
            seat: the consumer's.
            keeper: of the status; its `config` and `info` are those of the session.
            tally: that all sessions count on.
            publish: takes the last frames of a session that is replaced.
            method: that is ready; None = one is made.
            share: tells what part of the time there is for it, in (0, 1].
            is_alone: no other camera shares the time: its windows may take all cores.

        Raises:
            ConfigError: method, source and plan do not go together.
        """
        self._seat = seat
        self._keeper = keeper
        self._tally = tally
        self._publish = publish
        self._share = share
        self._is_alone = is_alone
        self._other: tuple[Config, Background[Method]] | None = None
        """Another method that is being made, and its configuration."""
        self.session = self._opened(keeper.config, keeper.info, method)

    def follow(self, info: SourceInfo) -> bool:
        """Go on with what is now known of the source; where a new producer brings another sensor, by a new session.

        Returns:
            Whether the sensor is another one.
        """
        before, self._keeper.info = self._keeper.info, info
        if (info.geometry, info.has_frames) == (before.geometry, before.has_frames):
            return False
        _log.warning("the source is now %s, %s; starting over", info.name, info.geometry)
        self._publish(self.session.finish())
        self.session = self._opened(self._keeper.config, info)
        if self._other is not None:
            self._other = None  # it was for the other sensor
            self._keeper.method_change = Change(self._keeper.method_change.number, "failed", "the sensor changed")
        return True

    def set_plan(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change keys of the plan, from here on and in later sessions; give the whole plan.

        Raises:
            ConfigError: it is not one.
        """
        plan = self.session.set_plan(wanted).model_dump(mode="json")
        self._keep(plan=plan)
        return plan

    def pause(self, paused: bool) -> None:
        """Stop asking the plan, or go on."""
        self.session.paused = paused
        self._keep(paused=paused)

    def set_reconstructor(self, settings: dict[str, Any]) -> Pending:
        """Make another method beside the one in force, which goes on until the other is ready (`change_method`).

        Raises:
            NireError: another one is being made.
            ConfigError: the settings are wrong.
        """
        if self._other is not None:
            raise NireError("another method is being made already; ask again when it is there")
        plan = self.session.plan.model_dump()
        config = changed(self._keeper.config, {"reconstructor": settings, "plan": plan})
        number = now_ns()
        self._other = config, Background(partial(Method.opened, config, self._keeper.info), name="other method")
        self._keeper.method_change = Change(number)
        return Pending(partial(self._method_outcome, number), {"number": number, "state": "pending"})

    def change_method(self) -> None:
        """Take over another method once it is made; where it cannot be, the present one stays."""
        if self._other is None or not self._other[1].is_done:
            return
        (config, other), self._other = self._other, None
        number, info = self._keeper.method_change.number, self._keeper.info
        try:
            method = other.result()
            self._opened(config, info, method)  # where it cannot answer this plan, the present one goes on
        except Exception as error:  # noqa: BLE001 - a wish that cannot be carried out must not end the stream of frames
            words = str(error) if isinstance(error, NireError) else f"{type(error).__name__}: {error}"
            _log.error("the method stays as it is: %s", words)
            self._keeper.method_change = Change(number, "failed", words)
            return
        self._publish(self.session.finish())
        wall = self.session.wall
        self._keeper.config = config
        self.session = self._opened(config, info, method)
        self.session.wall = wall
        self._keeper.made_by = ("", "")
        self._keeper.method_change = Change(number, "done")
        _log.info("the method is now %s", config.reconstructor.backend)

    def status(self) -> dict[str, Any]:
        """All that the stream says about itself."""
        session = self.session
        return self._keeper.status(
            plan=session.plan,
            calibration=session.calibration,
            backend_reason=session.backend_reason,
            covered_us=session.covered_us,
            paused=session.paused,
            clock=session.wall.newest,
            now_ns=now_ns(),
        )

    def _opened(self, config: Config, info: SourceInfo, method: Method | None = None) -> Session:
        """Make a session by a method that is ready or a new one; what was asked for holds."""
        if method is None or not method.suits(info):
            method = Method.opened(config, info)
        # What keeps time prefers the newest; what is read as fast as we are answers everything.
        session = Session(
            config,
            info,
            method.reconstructor,
            freshest=info.live,
            clock=now_ns,
            tally=self._tally,
            share=self._share,
            speed=lambda: replay_speed(self._seat.board),
            at_once=windows_at_once(config.reconstructor.threads) if self._is_alone else 1,
        )
        try:
            session.set_plan(self._seat.kept.get("plan", {}))
        except NireError as error:
            _log.warning("the plan that was asked for cannot be kept: %s", error)
        session.paused = self._seat.kept.get("paused", False)
        return session

    def _keep(self, **asked: Any) -> None:
        """Have what was asked for hold in the next session too, in this process and in the next."""
        self._seat.kept |= asked
        if not self._seat.keep(self._seat.kept):
            _log.warning("the supervisor takes no orders at present: a consumer after this one would forget %s", asked)

    def _method_outcome(self, number: int) -> Mapping[str, Any] | None:
        outcome = self._keeper.method_change
        if outcome.number == number and outcome.state == "pending":
            return None
        if outcome.state == "failed":
            raise ConfigError(outcome.error)
        reconstructor = self._keeper.config.reconstructor
        return {"number": number, "state": outcome.state, "reconstructor": reconstructor.model_dump()}
