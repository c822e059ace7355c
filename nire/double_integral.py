"""Event-based double integral as re-exposure: V(t) = K G(t), G = exp(c E), then Eq. 5 over any shutter.

E(t) is the signed sum of a pixel's events up to t and c its contrast thresholds, so each event multiplies the gain
G of its pixel by exp(+c) or exp(-c). A captured frame I fixes the constant: I is the mean of V over the frame's own
exposure (Eq. 5), so K = I / mean(G). With two frames the constant moves from the first frame's to the second's
between their exposures, at each pixel sooner or later by how many events lie between it and each frame.

Few pixels fire at a time, so G is never computed densely over time. One sweep per window leaves key planes of G and
of its integral; a query copies the last key plane before its time and applies the few events since. An instant is
exact to the event; an integral is made of trapezoids one bin wide (docs/clocks-and-exposure.md has the error).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch, Frame, Gap

# Light below which a pixel sees its dark current, in levels of 0..255: I + dark is what events are a logarithm of.
DARK_LEVEL = 1.0
# More light than this times that of the window's start, or less than its inverse, no 8-bit frame can show.
_GAIN_LIMIT = 300.0
# Events that a frame's estimate may be wrong by before any happened: frames are noisy too.
_FRAME_NOISE_EVENTS = 0.5
# A pixel whose events could multiply its gain by exp() of this has gone mad, and would overflow float32.
_MAD_LOG = 60.0
_BINS_PER_KEY = 4
_MOST_KEYS = 64

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Reach:
    """What of one frame matters for blending: its rows' exposures and the gap-free span around them, frame time."""

    start_us: Times
    end_us: Times
    reach_us: tuple[float, float]


class DoubleIntegral:
    """The content of one window, by physics alone. `build` makes it, `expose` asks it; `build` reuses the memory.

    Times given to it are frame time; the calibration's offset is added inside to reach the events.
    """

    def __init__(self, bin_us: int, device: torch.device | str = "cpu") -> None:
        """Choose the resolution of integrals and the torch device.

        Args:
            bin_us: width of a trapezoid, > 0.
            device: holds planes, events and images.
        """
        self._device = torch.device(device)
        self._bin_us = bin_us
        self._key_us = _BINS_PER_KEY * bin_us
        self._t0_us = 0
        self._offset_us = 0.0
        self._t_us: NDArray[np.int64] = np.empty(0, np.int64)
        self._rows: NDArray[np.uint16] = np.empty(0, np.uint16)
        self._columns: NDArray[np.uint16] = np.empty(0, np.uint16)
        self._cells = torch.empty(0, dtype=torch.int64, device=self._device)
        self._factors = torch.empty(0, device=self._device)
        self._ones = torch.empty(0, device=self._device)
        self._keys = 0
        self._gain = torch.empty((0, 0, 0), device=self._device)
        self._integral = torch.empty((0, 0, 0), device=self._device)
        self._count = torch.empty((0, 0, 0), device=self._device)
        self._count_ends: tuple[Tensor, Tensor] | None = None
        self._blended: Tensor | None = None
        self._constants: list[Tensor] = []
        self._reaches: list[_Reach] = []

    def build(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        """Integrate a window's events and anchor them to its frames (g of Eq. 7, by physics).

        Args:
            window: one or two frames, and the events from before the first exposure to after the last.
            light: float32 [C, H, W] for each frame, linear light in levels 0..255.

        Raises:
            ValueError: the window has no frame, or more than two.
        """
        if not 1 <= len(window.frames) <= 2:
            raise ValueError(f"the double integral needs one or two frames, got {len(window.frames)}")
        self._offset_us = window.calibration.time_offset_us
        self._take_events(window.events, window.calibration, width=window.geometry.width)
        self._sweep(window)
        self._blended = None
        self._reaches = [self._reach(frame, window.gaps) for frame in window.frames]
        if len(window.frames) == 2:
            first, second = (frame.shutter for frame in window.frames)
            self._count_ends = (self._state_at(first.t_a_us)[1], self._state_at(second.t_b_us)[1])
        self._constants = [
            (image + DARK_LEVEL).div_(self._mean_gain(frame.shutter))
            for frame, image in zip(window.frames, light, strict=True)
        ]

    def expose(self, shutter: Shutter, out: Tensor | None = None) -> Tensor:
        """Expose one shutter (Eq. 5).

        Args:
            shutter: rows or pixels, frame time, within the window.
            out: float32 [C, H, W] to write to; None = a new one.

        Returns:
            `out`: linear light in levels, >= 0, not clipped at 255.
        """
        if out is None:
            out = torch.empty_like(self._constants[0])
        opens, closes = shutter.t_a_us, shutter.t_b_us
        narrow = self._is_narrow(opens, closes)
        if narrow.all():
            self._expose_instant((opens + closes) / 2, out)
        else:
            self._expose_wide(opens, closes, out)
            if narrow.any():
                instant = torch.empty_like(out)
                self._expose_instant((opens + closes) / 2, instant)
                out.copy_(torch.where(self._laid_out(narrow), instant, out))
        return out.sub_(DARK_LEVEL).clamp_min_(0.0)

    def _expose_instant(self, t_us: Times, out: Tensor) -> None:
        gain, count = self._state_at(t_us)
        torch.mul(self._constant_at(t_us, count), gain, out=out)

    def _expose_wide(self, opens: Times, closes: Times, out: Tensor) -> None:
        width_us = self._field(np.maximum(closes - opens, 1.0))
        mean = self._between(self._integral, opens, closes).div_(width_us)
        torch.mul(self._constants[0], mean, out=out)
        if len(self._constants) == 2:
            out.addcmul_(self._constants[1] - self._constants[0], self._share(opens, closes, mean, width_us))

    def _share(self, opens: Times, closes: Times, mean: Tensor, width_us: Tensor) -> Tensor:
        """Mean of w G over a shutter; w never falls with time, so 0 or 1 at both ends it is that all along."""
        ramp, ramp_after = self._ramp(opens), self._ramp(closes)
        constant = ramp == ramp_after
        if constant.all():
            return mean * self._field(ramp)
        if self._blended is None:
            self._blended = self._blend()
        share = self._between(self._blended, opens, closes, blended=True).div_(width_us)
        return torch.where(self._laid_out(constant), mean * self._field(ramp), share)

    def _is_narrow(self, opens: Times, closes: Times) -> NDArray[np.bool_]:
        """Tell which rows or pixels are exposed for a bin or less: their middle stands for them (a delta, Eq. 4).

        A difference of prefix sums over so little time would drown in the rounding of float32.
        """
        narrow: NDArray[np.bool_] = closes - opens <= self._bin_us
        return narrow

    # Events

    def _take_events(self, events: EventBatch, calibration: Calibration, *, width: int) -> None:
        t_us, x, y, p = events.t_us, events.x, events.y, events.p
        if calibration.hot_pixels is not None:
            calm = ~calibration.hot_pixels[y, x]
            t_us, x, y, p = t_us[calm], x[calm], y[calm], p[calm]
        cells = np.multiply(y, width, dtype=np.int64)
        cells += x
        mad = np.bincount(cells) * max(calibration.threshold_positive, calibration.threshold_negative) > _MAD_LOG
        if mad.any():
            calm = ~mad[cells]
            t_us, x, y, p, cells = t_us[calm], x[calm], y[calm], p[calm], cells[calm]
        factor_of = np.exp([-calibration.threshold_negative, calibration.threshold_positive]).astype(np.float32)
        self._t_us, self._rows, self._columns = t_us, y, x
        self._cells = torch.from_numpy(cells).to(self._device)
        self._factors = torch.from_numpy(factor_of[p]).to(self._device)
        if len(self._ones) < len(p):
            self._ones = torch.ones(len(p), device=self._device)

    def _sweep(self, window: ContentWindow) -> None:
        """Run through the window once, bin by bin, and keep the gain and its integral at every key."""
        self._t0_us = window.t0_us // self._bin_us * self._bin_us
        bins = -(-(window.t1_us - self._t0_us) // self._bin_us)
        per_key = max(_BINS_PER_KEY, -(-bins // _MOST_KEYS))
        self._key_us = per_key * self._bin_us
        self._keys = -(-bins // per_key)
        height, width = window.geometry.height, window.geometry.width
        self._reserve(self._keys + 1, height, width)
        edges_us = self._t0_us + self._bin_us * np.arange(self._keys * per_key + 1)
        # An event at an edge counts from that edge on, as everywhere: G(t) includes the events up to and at t.
        edges = np.searchsorted(self._t_us, edges_us, side="right").tolist()
        gain = torch.ones((height, width), device=self._device)
        area, count = torch.zeros_like(gain), torch.zeros_like(gain)
        self._apply(gain, count, slice(0, edges[0]))
        half = self._bin_us / 2
        for k in range(self._keys * per_key):
            if k % per_key == 0:
                gain.clamp_(1 / _GAIN_LIMIT, _GAIN_LIMIT)
                self._gain[k // per_key].copy_(gain)
                self._integral[k // per_key].copy_(area)
                self._count[k // per_key].copy_(count)
            area.add_(gain, alpha=half)
            self._apply(gain, count, slice(edges[k], edges[k + 1]))
            area.add_(gain, alpha=half)
        self._gain[self._keys].copy_(gain.clamp_(1 / _GAIN_LIMIT, _GAIN_LIMIT))
        self._integral[self._keys].copy_(area)
        self._count[self._keys].copy_(count)

    def _blend(self) -> Tensor:
        """Integral of w G at every key, w being the second frame's share; made when first asked for."""
        blended = torch.zeros_like(self._integral[: self._keys + 1])
        for k in range(self._keys):
            end_us = np.array([self._t0_us + (k + 1) * self._key_us - self._offset_us])
            blended[k + 1] = self._prefix_at(blended, end_us, blended=True, key=k)
        return blended

    def _reserve(self, keys: int, height: int, width: int) -> None:
        if self._gain.shape[1:] != (height, width) or self._gain.shape[0] < keys:
            self._gain = torch.empty((keys, height, width), device=self._device)
            self._integral = torch.empty((keys, height, width), device=self._device)
            self._count = torch.empty((keys, height, width), device=self._device)

    def _apply(self, gain: Tensor, count: Tensor, events: slice | Tensor) -> None:
        """Let some events change the gain and the count of their pixels, both [H, W]."""
        cells = self._cells[events]
        gain.view(-1).scatter_reduce_(0, cells, self._factors[events], "prod")
        count.view(-1).scatter_add_(0, cells, self._ones[: len(cells)])

    def _advance(self, gain: Tensor, count: Tensor, from_us: Times, until_us: Times) -> None:
        """Apply the events after `from_us` up to and at `until_us`; event time per image [1], row [H] or pixel."""
        low, high = self._events_until(float(from_us.min())), self._events_until(float(until_us.max()))
        if until_us.size == 1:
            self._apply(gain, count, slice(low, high))
            return
        t_us = self._t_us[low:high]
        place = self._rows[low:high] if until_us.ndim == 1 else (self._rows[low:high], self._columns[low:high])
        chosen = np.flatnonzero((t_us > from_us[place]) & (t_us <= until_us[place]))
        self._apply(gain, count, torch.from_numpy(chosen + low).to(self._device))

    def _events_until(self, t_us: float) -> int:
        # Whole microseconds: a float key would make numpy convert all events first.
        return int(np.searchsorted(self._t_us, math.floor(t_us), side="right"))

    # Reading the planes; times below are frame time, shrunk to [1] where they are the same everywhere

    def _state_at(self, t_us: Times) -> tuple[Tensor, Tensor]:
        """Read G and the count of events so far at a time per image, row or pixel: float32 [H, W], the caller's."""
        at_us = self._event_time(t_us)
        key = self._key_of(at_us)
        gain, count = self._gather(self._gain, key), self._gather(self._count, key)
        self._advance(gain, count, self._time_of(key), at_us)
        return gain, count

    def _mean_gain(self, shutter: Shutter) -> Tensor:
        """Mean of G over a captured exposure: what its frame is divided by."""
        opens, closes = shutter.t_a_us, shutter.t_b_us
        if self._is_narrow(opens, closes).all():
            return self._state_at((opens + closes) / 2)[0]
        return self._between(self._integral, opens, closes).div_(self._field(closes - opens))

    def _between(self, prefix: Tensor, opens: Times, closes: Times, *, blended: bool = False) -> Tensor:
        return self._prefix_at(prefix, closes, blended=blended).sub_(self._prefix_at(prefix, opens, blended=blended))

    def _prefix_at(self, prefix: Tensor, t_us: Times, *, blended: bool, key: int | None = None) -> Tensor:
        """Read the integral of G (or w G) up to a time: the key's, and trapezoids of at most a bin since."""
        until_us = self._event_time(t_us)
        keys = self._key_of(until_us) if key is None else np.array([key])
        now_us = self._time_of(keys)
        area, gain, count = (self._gather(planes, keys) for planes in (prefix, self._gain, self._count))
        while (now_us < until_us).any():
            next_us = np.minimum(now_us + self._bin_us, until_us)
            half = self._field((next_us - now_us) / 2)
            area.addcmul_(gain * self._trust(now_us - self._offset_us, count) if blended else gain, half)
            self._advance(gain, count, now_us, next_us)
            area.addcmul_(gain * self._trust(next_us - self._offset_us, count) if blended else gain, half)
            now_us = next_us
        return area

    def _event_time(self, t_us: Times) -> Times:
        end_us = self._t0_us + self._keys * self._key_us
        at_us = np.clip(t_us + self._offset_us, float(self._t0_us), float(end_us))
        return at_us.reshape(-1)[:1] if _uniform(at_us) else at_us

    def _key_of(self, at_us: Times) -> NDArray[np.int64]:
        return np.minimum((at_us - self._t0_us) // self._key_us, self._keys - 1).astype(np.int64)

    def _time_of(self, key: NDArray[np.int64]) -> Times:
        return self._t0_us + self._key_us * key.astype(np.float64)

    def _gather(self, planes: Tensor, key: NDArray[np.int64]) -> Tensor:
        """Copy one plane, or put one together from the rows or pixels of several."""
        if key.size == 1:
            return planes[int(key.flat[0])].clone()
        chosen = torch.from_numpy(key).to(self._device)
        rows = torch.arange(planes.shape[1], device=self._device)
        if key.ndim == 1:
            return planes[chosen, rows]
        columns = torch.arange(planes.shape[2], device=self._device)
        return planes[chosen, rows[:, None], columns[None, :]]

    # Frames

    def _constant_at(self, t_us: Times, count: Tensor) -> Tensor:
        """Constant K at a time: the first frame's, the second's, or between, [C, H, W]."""
        if len(self._constants) == 1:
            return self._constants[0]
        ramp = self._ramp(t_us)
        if _uniform(ramp) and ramp.flat[0] in (0.0, 1.0):
            return self._constants[int(ramp.flat[0])]
        return torch.lerp(self._constants[0], self._constants[1], self._trust(t_us, count))

    def _trust(self, t_us: Times, count: Tensor) -> Tensor:
        """Share of the second frame at each pixel, [H, W] or broadcastable to it.

        Each event between a frame and now adds its error to that frame's estimate, so a frame counts for less the
        more of them there are: a pixel over which something passed long ago is the next frame's to tell.
        """
        assert self._count_ends is not None
        ramp = self._field(self._ramp(t_us))
        for_second = ramp * (count - self._count_ends[0]).clamp_min_(0.0).add_(_FRAME_NOISE_EVENTS)
        for_first = (1 - ramp) * (self._count_ends[1] - count).clamp_min_(0.0).add_(_FRAME_NOISE_EVENTS)
        return for_second.div_(for_first.add_(for_second))

    def _ramp(self, t_us: Times) -> Times:
        """How far time is from the first exposure (0) to the second (1), at [1], [H] or [H, W].

        Where a gap cuts one frame off, the other answers alone; where gaps cut both off, the nearer one does.
        """
        first, second = self._reaches
        end, start = first.end_us, second.start_us
        if t_us.ndim == 2:
            end, start = end[:, None], start[:, None]
        ramp = np.clip((t_us - end) / np.maximum(start - end, 1e-6), 0.0, 1.0)
        step = np.where(t_us - end < start - t_us, 0.0, 1.0)
        by_first = (t_us >= first.reach_us[0]) & (t_us <= first.reach_us[1])
        by_second = (t_us >= second.reach_us[0]) & (t_us <= second.reach_us[1])
        alone = np.where(by_first & ~by_second, 0.0, np.where(by_second & ~by_first, 1.0, step))
        return np.where(by_first & by_second, ramp, alone)

    def _reach(self, frame: Frame, gaps: Sequence[Gap]) -> _Reach:
        """Find the span around a frame's exposure that no gap interrupts, in frame time."""
        shutter = frame.shutter
        first_us, last_us = shutter.first_us, shutter.last_us
        before, after = -math.inf, math.inf
        for gap in gaps:
            t0_us, t1_us = gap.t0_us - self._offset_us, gap.t1_us - self._offset_us
            if t1_us <= first_us:
                before = max(before, t1_us)
            elif t0_us >= last_us:
                after = min(after, t0_us)
            else:
                # A hole inside the exposure: the frame is trusted within its own exposure only.
                before, after = max(before, first_us), min(after, last_us)
        return _Reach(shutter.t_a_us, shutter.t_b_us, (before, after))

    # Shapes

    def _field(self, values: Times) -> Tensor:
        """Lay values per image, row or pixel out against [C, H, W]."""
        tensor = torch.from_numpy(np.asarray(values, np.float32)).to(self._device)
        return tensor[:, None] if tensor.ndim == 1 else tensor

    def _laid_out(self, values: NDArray[np.bool_]) -> Tensor:
        tensor = torch.from_numpy(values).to(self._device)
        return tensor[:, None] if tensor.ndim == 1 else tensor


def _uniform(values: Times) -> bool:
    return bool((values == values.flat[0]).all())
