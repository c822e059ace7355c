"""The plan: which film/shutter pairs are asked of a window."""

from __future__ import annotations

import math
from collections.abc import Iterator

from drivers.source import SourceInfo
from nire.errors import ConfigError, SourceError
from nire.shutter import Shutter
from nire.types import ContentWindow, Frame, Query, Reconstructor
from stream.config_sections import PlanConfig, WindowConfig
from stream.session.tally import Place
from stream.windows.cut import Cut

_PER_FRAME = ("deblur", "unroll")


def policy_of(plan: PlanConfig, policy: str, *, has_frames: bool) -> str:
    """Resolve `auto`: what the plan wants; without frames, `span`."""
    if policy != "auto":
        return policy
    if not has_frames:
        return "span"
    return "single" if plan.name in _PER_FRAME else "pair"


def require_grid(plan: PlanConfig, policy: str) -> None:
    """Check that windows without frames are not asked for an image of each frame.

    Raises:
        ConfigError: they are, and would never answer.
    """
    if policy == "span" and plan.name in _PER_FRAME:
        raise ConfigError(
            f"plan.name = {plan.name!r} asks for one image of each captured frame, and these windows have no frames; "
            "use plan.name = 'upsample' or 'reshutter'"
        )


def require_together(policy: str, info: SourceInfo, reconstructor: Reconstructor | type[Reconstructor]) -> None:
    """Check that source, windows and method go together.

    Raises:
        SourceError: the method needs frames and the source has none.
        ConfigError: the windows have frames that the source has not, or lack those that the method needs.
    """
    if reconstructor.needs_frames and not info.has_frames:
        raise SourceError(
            f"{info.name} has events but no frames, and the backend {reconstructor.name!r} needs frames to start "
            "from. Use a recording with frames, a frame camera beside the event camera, or the backend that "
            "guesses from events alone, reconstructor.backend = 'events_only'"
        )
    if reconstructor.needs_frames and policy == "span":
        raise ConfigError(
            f"window.policy = 'span' gives windows without frames, and the backend {reconstructor.name!r} needs "
            "them; use window.policy = 'auto'"
        )
    if not info.has_frames and policy != "span":
        raise ConfigError(
            f"window.policy = {policy!r} cuts windows around frames, and {info.name} has none; use "
            "window.policy = 'auto'"
        )


def grid_us(plan: PlanConfig) -> tuple[float, float]:
    """Period and phase of the absolute grid that a plan's shutters are centred on, us."""
    return 1e6 / plan.rate_hz, float(plan.offset_us) if plan.name == "reshutter" else 0.0


def reach_us(plan: PlanConfig, *, height: int, margin_us: int) -> int:
    """How long after the newest frame's exposure events are needed for the plan's shutters, at most the margin."""
    half_us = plan.exposure_us / 2
    if plan.name in _PER_FRAME:
        return min(margin_us, math.ceil(max(0.0, plan.offset_us + half_us)))
    tilt_us = abs(plan.row_delay_us) * height / 2 if plan.name == "reshutter" else 0.0
    return min(margin_us, math.ceil(half_us + tilt_us))


def cut_of(
    plan: PlanConfig, window: WindowConfig, *, height: int, has_frames: bool, fixed_reach_us: int | None = None
) -> Cut:
    """Tell how windows are cut for a plan.

    Args:
        plan: what will be asked of them.
        window: the configuration's section.
        height: of the sensor, pixels.
        has_frames: whether the source has frames and the method uses them.
        fixed_reach_us: answered after a window's last exposure, where the plan does not decide it.
    """
    step_us, phase_us = grid_us(plan)
    return Cut(
        policy=policy_of(plan, window.policy, has_frames=has_frames),
        margin_us=window.margin_us,
        reach_us=reach_us(plan, height=height, margin_us=window.margin_us)
        if fixed_reach_us is None
        else fixed_reach_us,
        step_us=step_us,
        phase_us=phase_us,
        span_us=window.span_us,
    )


def queries_of(window: ContentWindow, plan: PlanConfig) -> list[Query]:
    """List what the plan asks of a window, in the order of time; shutters that are not covered are left out."""
    return asked_of(window, plan)[0]


def asked_of(window: ContentWindow, plan: PlanConfig) -> tuple[list[Query], list[Shutter]]:
    """List what the plan asks of a window, and the shutters that are left out because the window does not cover them.

    Both are in the order of time.
    """
    film = window.film
    first_us, last_us = window.covered_us
    queries: list[Query] = []
    uncovered: list[Shutter] = []
    for shutter in _shutters_of(window, plan):
        if shutter.first_us >= first_us and shutter.last_us <= last_us:
            queries.append(Query(film, shutter, plan.name))
        else:
            uncovered.append(shutter)
    return queries, uncovered


def has_shutters(window: ContentWindow, plan: PlanConfig) -> bool:
    """Tell whether shutters of a plan lie in a window, covered or not."""
    return next(_shutters_of(window, plan), None) is not None


def why_none(window: ContentWindow, plan: PlanConfig) -> str:
    """Say why a plan asks nothing of a window, `queries_of`."""
    first_us, last_us = window.covered_us
    shutter = next(_shutters_of(window, plan), None)
    if shutter is not None:
        covers, width_us = f"[{first_us:.0f}, {last_us:.0f}]", shutter.last_us - shutter.first_us
        if width_us > last_us - first_us:
            return (
                f"with all its rows an image takes {width_us:.0f} us, and a window covers {last_us - first_us:.0f} us; "
                "lower plan.exposure_us or plan.row_delay_us"
            )
        return (
            f"the shutter [{shutter.first_us:.0f}, {shutter.last_us:.0f}] us is asked of a window that covers {covers} "
            "us; lower plan.offset_us"
        )
    answers = f"a window answers for [{window.answers_us[0]:.0f}, {window.answers_us[1]:.0f}] us"
    if plan.name in _PER_FRAME:
        return f"{answers}, and the middle of no captured frame lies there"
    period_us, phase_us = grid_us(plan)
    beyond = f" + {phase_us:.0f} us" if phase_us else ""
    return f"{answers}, and no multiple of {period_us:.0f} us{beyond} lies there; raise plan.rate_hz"


def _shutters_of(window: ContentWindow, plan: PlanConfig) -> Iterator[Shutter]:
    return _per_frame(window, plan) if plan.name in _PER_FRAME else _on_grid(window, plan, window.film.height)


def place_of(plan: PlanConfig, window: ContentWindow, query: Query) -> Place:
    """Tell where a query that a plan asks of a window lies."""
    at_us = query.shutter.mid_us
    if not window.frames:
        return Place(at_us, -1, window.events.epoch)
    frame = min(window.frames, key=lambda frame: abs(frame.mid_us + plan.offset_us - at_us))
    return Place(at_us, frame.index, window.events.epoch)


def left_out(plan: PlanConfig, last: Place, first: Place) -> int:
    """Count the plan's shutters between two that lie in one life of the device clock.

    Returns:
        0 where `first` follows `last`; below 0 where it is `last` itself, or lies before it.
    """
    if plan.name in _PER_FRAME:
        return first.frame - last.frame - 1
    period_us, _ = grid_us(plan)
    return round((first.at_us - last.at_us) / period_us) - 1


def _per_frame(window: ContentWindow, plan: PlanConfig) -> Iterator[Shutter]:
    for frame in window.frames:
        first_us, last_us = window.answers_us
        if not first_us <= frame.mid_us < last_us:
            continue
        yield _deblurred(frame, plan) if plan.name == "deblur" else _unrolled(frame, plan)


def _deblurred(frame: Frame, plan: PlanConfig) -> Shutter:
    """Keep the frame's own row delay; only the blur goes."""
    mid_us = (frame.exposure_start_us + frame.exposure_end_us) / 2 + plan.offset_us
    half_us = plan.exposure_us / 2
    return Shutter.rolling(
        mid_us - half_us, mid_us + half_us, row_delay_us=frame.row_delay_us, height=frame.pixels.shape[0]
    )


def _unrolled(frame: Frame, plan: PlanConfig) -> Shutter:
    """Expose all rows together, at the middle of the middle row's exposure."""
    mid_us, half_us = frame.mid_us + plan.offset_us, plan.exposure_us / 2
    return Shutter.flat(mid_us - half_us, mid_us + half_us, frame.pixels.shape[0])


def _on_grid(window: ContentWindow, plan: PlanConfig, height: int) -> Iterator[Shutter]:
    """Centre shutters on multiples of 1 / rate, so that windows tile without hole or repeat."""
    period_us, phase_us = grid_us(plan)
    row_delay_us = plan.row_delay_us if plan.name == "reshutter" else 0.0
    first_us, last_us = window.answers_us
    half_us, middle_us = plan.exposure_us / 2, row_delay_us * (height // 2)
    k = math.ceil((first_us - phase_us) / period_us) - 1  # one early: the product below decides, not this quotient
    while (centre_us := k * period_us + phase_us) < last_us:
        if centre_us >= first_us:
            start_us = centre_us - half_us - middle_us
            yield Shutter.rolling(start_us, start_us + plan.exposure_us, row_delay_us=row_delay_us, height=height)
        k += 1
