"""What the stream itself tells of its sensor: contrast thresholds, frame/event time offset, hot pixels, misfit.

Two frames and the events between them hold one equation per pixel. With V = K exp(c E) the mean of log V over an
exposure is log K + c mean(E), so

    log I2 - log I1 = c_plus dP - c_minus dN,    dP = mean of P(t) over exposure 2 - mean over exposure 1,

P and N being the running counts of positive and negative events, with ramps as the double integral has them
(`nire.ramps`). Every event enters dP or dN with a weight, in the mean over its ramp: 0 before the first exposure,
rising through it, 1 until the second, falling through that. The thresholds are the robust solution over all pixels that
moved; the offset is the shift of the events that explains the frames best. It holds what else delays the events: other
clocks, and slow pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nire.hot_pixels import HotPixels
from nire.light import decode_table
from nire.ramps import RAMP_SHARE, ramp_lengths
from nire.types import Calibration, EventBatch, Frame, Gap

DEFAULT_THRESHOLD = 0.25
GOOD_MISFIT = 0.15
"""Up to this `Calibration.misfit` events tell what frames show as those of a good sensor do, with its noise."""
# A pixel changed if frames show so many thresholds, and events miss that by so many; a threshold counts as at least so
# many standard deviations of what frames show where nothing happened.
_CHANGED, _MISSED, _NOISE_OF_THRESHOLD = 2.0, 1.5, 3.0
_LEAST_CHANGED, _LEAST_SHARE, _MISFIT_STEP = 50, 0.005, 0.05
SEARCH_US = 10_000
"""Half width of the search for the time offset."""
_STEP_US = 1_000
_LEARNING_PAIRS = 8
_FOLLOW_EVERY = 16
_FORGET = 0.9
# What changed while events were missing is taken for the work of the others: thresholds come out too large where the
# scene went on, too small where it came back. A pair that misses a twelfth of its span counts half, one that misses
# half of it 1/256: pairs with long gaps matter only where there are no others.
_WHOLE_POWER = 8
_LIMITS = (0.05, 1.0)
_DARK, _BRIGHT = 8.0, 245.0
_MIN_PIXELS = 200
# Thresholds and offset are learned from every so many-th row where there are more pixels or events, other rows at each
# pair: a few numbers do not get better by a million pixels, and frames do not wait. Drift is followed by a quarter.
_MOST_PIXELS, _MOST_EVENTS = 100_000, 300_000
_FOLLOWED = 4
# Weighted events of a pixel that tells thresholds.
_LEAST_EVENTS = 0.5
# Correlation that an offset must win per pair over no offset: slow scenes have a flat, wandering maximum.
_LEAST_GAIN = 0.005
# A pair that misses more than this part of its events' span teaches no offset: what changed meanwhile has no time.
_MOST_MISSING = 0.05

Field = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Two frames, the events from the first's start to the second's end, and the change of log light between.

    Attributes:
        first, second: frames.
        events: [N]
        ramps_us: [N], how long the ramp towards each event is.
        change: [H, W]
        usable: bool [H, W], pixels that tell.
    """

    first: Frame
    second: Frame
    events: EventBatch
    ramps_us: Field
    change: Field
    usable: NDArray[np.bool_]


class Calibrator:
    """Running estimate over frame pairs; deterministic in the sequence of pairs, whatever their delivery.

    It looks at the first pairs all, then at every sixteenth: thresholds drift slowly with light and temperature.
    A pair is used before its own window is built while learning, so the very first window is calibrated too.
    """

    def __init__(self, *, thresholds: tuple[float, float] | None = None, time_offset_us: float | None = None) -> None:
        """Start from what is known.

        Args:
            thresholds: (positive, negative) to fix them; None = estimate.
            time_offset_us: events minus frames to fix it; None = estimate.
        """
        self._fixed_thresholds = thresholds is not None
        self._fixed_offset = time_offset_us is not None
        positive, negative = thresholds or (DEFAULT_THRESHOLD, DEFAULT_THRESHOLD)
        self.current = Calibration(positive, negative, time_offset_us or 0.0)
        self._pairs_seen = 0
        self._pairs_used = 0
        self._normal = np.zeros((2, 2))
        self._right = np.zeros(2)
        # Pixels that changed, first those whose events miss it.
        self._missed = np.zeros(2)
        self._shifts_us = np.arange(-SEARCH_US, SEARCH_US + 1, _STEP_US, dtype=np.float64)
        self._agreement = np.zeros(len(self._shifts_us))
        self._hot_pixels = HotPixels()

    @property
    def learning(self) -> bool:
        """True during the first pairs: `observe` belongs before the window is built."""
        return self._pairs_used < _LEARNING_PAIRS

    @property
    def knows_thresholds(self) -> bool:
        """True where they are fixed, and once a pair has taught them."""
        return self._fixed_thresholds or bool(self._normal.any())

    @property
    def knows_offset(self) -> bool:
        """True where it is fixed, and once a pair has been searched for it."""
        return self._fixed_offset or bool(self._agreement.any())

    @property
    def guard_us(self) -> tuple[int, int]:
        """How far (before, after) a window events are needed to know all of it in frame time."""
        if self._fixed_offset or not self.learning:
            offset_us = self.current.time_offset_us
            return max(0, math.ceil(-offset_us)), max(0, math.ceil(offset_us))
        return SEARCH_US, SEARCH_US

    def wants(self) -> bool:
        """Count a pair of consecutive frames and tell whether to observe it."""
        self._pairs_seen += 1
        return self.learning or self._pairs_seen % _FOLLOW_EVERY == 0

    def observe(self, frames: Sequence[Frame], events: EventBatch, gaps: Sequence[Gap] = ()) -> None:
        """Learn from two consecutive frames and all events from the first's start to the second's end.

        Static scenes and frames without usable pixels teach nothing. A pair with a long gap teaches no offset; it does
        teach thresholds, but the less the longer the gap is.
        """
        height, width = frames[0].pixels.shape[:2]
        self.current = replace(self.current, hot_pixels=self._hot_pixels.among(events, (height, width)))
        part = 1 if self.learning else _FOLLOWED
        (first, second), events = _with_fewer_rows(frames, events, self._pairs_used, part=part)
        stand_for = height / first.pixels.shape[0]
        missing = _missing_share(gaps, first.first_us, second.last_us)
        change, usable = _log_change(first, second)
        if min(usable.sum(), len(events)) * stand_for < _MIN_PIXELS:
            return
        reach_us = RAMP_SHARE * (second.last_us - first.first_us)
        ramps_us = ramp_lengths(events, change.shape[1], reach_us, gaps)
        pair = _Pair(first, second, events, ramps_us, change, usable)
        if self.learning and not self._fixed_offset and missing <= _MOST_MISSING:
            self._learn_offset(pair)
        counted = _events_by_sign(pair, self.current.time_offset_us)
        if not self._fixed_thresholds:
            self._learn_thresholds(pair, *counted, trust=stand_for * (1 - missing) ** _WHOLE_POWER)
        if missing <= _MOST_MISSING:
            self._learn_misfit(pair, *counted, trust=stand_for)
        self._pairs_used += 1

    def observe_alone(self, events: EventBatch, shape: tuple[int, int]) -> None:
        """Learn what events without frames tell, which pixels are hot.

        Args:
            events: all of a window.
            shape: H, W of the sensor.
        """
        self.current = replace(self.current, hot_pixels=self._hot_pixels.among(events, shape))
        self._pairs_used += 1

    # Time offset

    def _learn_offset(self, pair: _Pair) -> None:
        change, usable, events = pair.change, pair.usable, pair.events
        target = change[usable] - change[usable].mean()
        target_power = (target**2).sum()
        # What does not change with the shift is worked out once, and for usable pixels only.
        place = np.cumsum(usable.reshape(-1)) - 1
        cells = _cells(events, change.shape[1])
        counted = np.flatnonzero(usable.reshape(-1)[cells])
        places, sign = place[cells[counted]], np.where(events.p[counted] > 0, 1.0, -1.0)
        t_us, ramps_us = events.t_us[counted].astype(np.float64), pair.ramps_us[counted]
        delay_us = events.y[counted] * pair.first.row_delay_us
        for k, shift_us in enumerate(self._shifts_us):
            share = _share(t_us - (delay_us + shift_us), ramps_us, pair)
            share *= sign
            signed = np.bincount(places, share, minlength=len(target))
            signed -= signed.mean()
            norm = np.sqrt((signed**2).sum() * target_power)
            if norm > 0:
                self._agreement[k] += float((signed * target).sum() / norm)
        best_us = _peak(self._shifts_us, self._agreement, least_gain=_LEAST_GAIN * (self._pairs_used + 1))
        self.current = replace(self.current, time_offset_us=best_us)

    # Thresholds

    def _learn_thresholds(self, pair: _Pair, up: Field, down: Field, *, trust: float) -> None:
        if trust == 0 or not np.any(np.abs(up) + np.abs(down) > _LEAST_EVENTS):
            return
        normal, right = _robust_normal_equations(up, -down, pair.change[pair.usable])
        self._normal = _FORGET * self._normal + trust * normal
        self._right = _FORGET * self._right + trust * right
        positive, negative = _solve(self._normal, self._right)
        self.current = replace(self.current, threshold_positive=positive, threshold_negative=negative)

    # Misfit

    def _learn_misfit(self, pair: _Pair, up: Field, down: Field, *, trust: float) -> None:
        positive, negative = self.current.threshold_positive, self.current.threshold_negative
        # A camera that sets its gain itself changes all pixels.
        shown = pair.change[pair.usable] - np.median(pair.change[pair.usable])
        untold = np.abs(shown - positive * up + negative * down)
        still = np.abs(up) + np.abs(down) <= _LEAST_EVENTS
        noise = 1.4826 * float(np.median(np.abs(shown[still]))) if still.any() else 0.0
        threshold = max((positive + negative) / 2, noise * _NOISE_OF_THRESHOLD)
        changed = np.abs(shown) > _CHANGED * threshold
        if changed.mean() < _LEAST_SHARE:
            return  # noise alone, which is more in the dark, does as much
        missed = changed & (untold > _MISSED * threshold)
        self._missed = _FORGET * self._missed + (trust * missed.sum(), trust * changed.sum())
        if self._missed[1] >= _LEAST_CHANGED:
            share = float(self._missed[0] / self._missed[1])
            # In steps, so that work that was done ahead mostly stays good.
            self.current = replace(self.current, misfit=round(round(share / _MISFIT_STEP) * _MISFIT_STEP, 2))


def _with_fewer_rows(
    frames: Sequence[Frame], events: EventBatch, which: int, *, part: int = 1
) -> tuple[Sequence[Frame], EventBatch]:
    """Give what a camera with fewer rows would have seen: every so many-th where there is much to see, else all.

    Args:
        frames, events: of a pair.
        which: of the rows; another one for each pair.
        part: of what is too much, one over this is too much already.
    """
    height, width = frames[0].pixels.shape[:2]
    much = max(height * width / _MOST_PIXELS, len(events) / _MOST_EVENTS)
    step = min(max(math.ceil(much * part), 1), height)
    if step == 1:
        return frames, events
    first = which % step
    fewer = [
        replace(
            frame,
            pixels=frame.pixels[first::step],
            exposure_start_us=frame.exposure_start_us + round(first * frame.row_delay_us),
            exposure_end_us=frame.exposure_end_us + round(first * frame.row_delay_us),
            row_delay_us=step * frame.row_delay_us,
        )
        for frame in frames
    ]
    seen = events.part(events.y % step == first)
    return fewer, replace(seen, y=seen.y // step)


def _events_by_sign(pair: _Pair, offset_us: float) -> tuple[Field, Field]:
    """Count the events of each usable pixel that the frames saw, the brighter and the darker ones."""
    events = pair.events
    delay_us = events.y * pair.first.row_delay_us + offset_us
    share = _share(events.t_us - delay_us, pair.ramps_us, pair)
    signs = (share * (events.p > 0), share * (events.p == 0))
    up, down = (_sum_per_pixel(events, sign, pair.change.shape)[pair.usable] for sign in signs)
    return up, down


def _missing_share(gaps: Sequence[Gap], first_us: float, last_us: float) -> float:
    """Part of a span whose events are missing, 0 to 1."""
    spans = sorted((max(gap.t0_us, first_us), min(gap.t1_us, last_us)) for gap in gaps)
    missing_us, reached_us = 0.0, first_us
    for t0_us, t1_us in spans:
        missing_us += max(0.0, t1_us - max(t0_us, reached_us))
        reached_us = max(reached_us, t1_us)
    return missing_us / max(last_us - first_us, 1.0)


def _share(at_us: Field, ramps_us: Field, pair: _Pair) -> Field:
    """Weight of each event in dP or dN: the trapezoid of the module's first lines, in the mean over its ramp.

    Args:
        at_us: of the events, frame time of the first row.
        ramps_us: how long the ramps that end there are.
        pair: of frames.
    """
    share = _past(at_us, ramps_us, pair.second)
    share -= _past(at_us, ramps_us, pair.first)
    return share


def _past(at_us: Field, ramps_us: Field, frame: Frame) -> Field:
    """Part of a frame's exposure that lies after each ramp, in the mean over it: how much of an event the frame saw."""
    start_us, length_us = frame.exposure_start_us, frame.exposure_end_us - frame.exposure_start_us
    least_us = np.maximum(ramps_us, 1.0)
    past = _past_until(at_us - start_us, length_us)
    past -= _past_until(at_us - start_us - least_us, length_us)
    past /= least_us
    return past


def _past_until(since_us: Field, length_us: float) -> Field:
    """Integrate what lies after, from the start of an exposure until some time since then: before it all of it does."""
    area = np.minimum(since_us, 0.0)
    if length_us > 0:
        within = np.clip(since_us, 0.0, length_us)
        area += within
        within *= within
        within /= 2 * length_us
        area -= within
    return area


def _cells(events: EventBatch, width: int) -> NDArray[np.int64]:
    """Pixels of the events, y W + x."""
    return events.y.astype(np.int64) * width + events.x


def _sum_per_pixel(events: EventBatch, weight: Field, shape: tuple[int, ...]) -> Field:
    total: Field = np.bincount(_cells(events, shape[1]), weight, minlength=shape[0] * shape[1]).astype(np.float64)
    return total.reshape(shape[0], shape[1])


def _log_change(first: Frame, second: Frame) -> tuple[Field, NDArray[np.bool_]]:
    """Change of log light per pixel, and where both frames are neither dark nor clipped."""
    before, after = (decode_table(f.transfer)[f.pixels].mean(axis=2, dtype=np.float64) for f in (first, second))
    usable = (np.minimum(before, after) > _DARK) & (np.maximum(before, after) < _BRIGHT)
    return np.log(np.maximum(after, 1.0)) - np.log(np.maximum(before, 1.0)), usable


def _robust_normal_equations(up: Field, down: Field, change: Field) -> tuple[Field, Field]:
    active = np.abs(up) + np.abs(down) > _LEAST_EVENTS
    features = np.stack([up[active], down[active]], axis=1)
    target = change[active]
    weight = np.ones(len(target))
    for _ in range(4):
        normal = features.T @ (features * weight[:, None])
        right = features.T @ (target * weight)
        residual = np.abs(target - features @ np.array(_solve(normal, right)))
        scale = 1.4826 * float(np.median(residual)) + 1e-3
        weight = np.minimum(1.0, 1.5 * scale / np.maximum(residual, 1e-9))
    return normal, right


def _solve(normal: Field, right: Field) -> tuple[float, float]:
    """Thresholds of weighted normal equations, drawn towards being equal as far as the data leaves that open."""
    bond = 0.05 * np.trace(normal) / 2 + 1e-9
    bonded = normal + bond * np.array([[1.0, -1.0], [-1.0, 1.0]])
    positive, negative = np.linalg.lstsq(bonded, right, rcond=None)[0]
    return float(np.clip(positive, *_LIMITS)), float(np.clip(negative, *_LIMITS))


def _peak(at: Field, score: Field, *, least_gain: float) -> float:
    """Position of the maximum, refined by a parabola; 0 unless it beats the score at 0 clearly and lies inside."""
    k = int(np.argmax(score))
    if k in (0, len(score) - 1) or score[k] < score[len(score) // 2] + least_gain:
        return 0.0
    left, mid, right = score[k - 1 : k + 2]
    bend = left - 2 * mid + right
    part = 0.0 if bend >= 0 else 0.5 * (left - right) / bend
    return float(np.round((at[k] + part * (at[1] - at[0])) / 100) * 100)
