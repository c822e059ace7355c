"""The gain G(t) = exp(c E(t)) of every pixel: what its events have done to its light up to a time, and integrals of it.

E(t) is the signed sum of a pixel's events up to t and c its contrast thresholds, so each event multiplies the gain of
its pixel by exp(+c) or exp(-c). Few pixels fire at a time, so G is never computed densely over time. One sweep per
window leaves key planes; a reader copies the last key plane before its time and applies the few events since. The
first integral makes key planes of the integral too. An instant is exact to the event; an integral is made of
trapezoids one bin wide (docs/clocks-and-exposure.md has the error).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.shutter import Shutter
from nire.types import Calibration, ContentWindow, EventBatch

# More light than this times that of the window's start, or less than its inverse, no 8-bit frame can show.
_GAIN_LIMIT = 300.0
# A pixel whose events could multiply its gain by exp() of this has gone mad, and would overflow float32.
_MAD_LOG = 60.0
_BINS_PER_KEY = 4
_MOST_KEYS = 64

Times = NDArray[np.float64]
Weight = Callable[[Times, Tensor], Tensor]
"""Of time [1], [H] or [H, W] and the count of events so far [H, W]: a factor broadcastable to [H, W]."""


class Gain:
    """Gain of one window at a time; `build` reuses the memory.

    Times given to it are frame time; the calibration's offset is added inside to reach the events. Tensors that it
    returns are float32 [H, W] and the caller's to change.
    """

    def __init__(self, bin_us: int, device: torch.device | str = "cpu") -> None:
        """Choose the resolution of integrals and the torch device.

        Args:
            bin_us: width of a trapezoid, > 0.
            device: holds planes and events.
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
        self._counting = True
        self._gain = torch.empty((0, 0, 0), device=self._device)
        self._count = torch.empty((0, 0, 0), device=self._device)
        self._plain: Tensor | None = None

    def build(self, window: ContentWindow, *, counting: bool) -> None:
        """Take a window's events and sweep through them once; without `counting` the counts of events stay 0."""
        self._offset_us = window.calibration.time_offset_us
        self._counting = counting
        self._take_events(window.events, window.calibration, width=window.geometry.width)
        self._sweep(window)
        self._plain = None

    def at(self, t_us: Times) -> tuple[Tensor, Tensor]:
        """Read G and the count of events so far.

        Args:
            t_us: float64 [H] or [H, W], frame time per row or pixel; [1] for all.
        """
        at_us = self._event_time(t_us)
        key = self._key_of(at_us)
        gain, count = self._gather(self._gain, key), self._gather(self._count, key)
        self._advance(gain, count, self._time_of(key), at_us)
        return gain, count

    def is_narrow(self, shutter: Shutter) -> NDArray[np.bool_]:
        """Tell which rows or pixels are exposed for a bin or less: their middle stands for them (a delta, Eq. 4).

        A difference of prefix integrals over so little time would drown in the rounding of float32.
        """
        narrow: NDArray[np.bool_] = shutter.t_b_us - shutter.t_a_us <= self._bin_us
        return narrow

    def mean(self, shutter: Shutter) -> Tensor:
        """Mean of G over a shutter (Eq. 5 for V = G), without any prefix integral where it is flat."""
        opens, closes = shutter.t_a_us, shutter.t_b_us
        if self.is_narrow(shutter).all():
            return self.at((opens + closes) / 2)[0]
        if not shutter.is_flat:
            return self.area(opens, closes).div_(self.field(closes - opens))
        # From the bin edge before the exposure, as the prefix integrals go, so that rounding is all that differs.
        begin_us = float(self._event_time(opens)[0])
        edge_us = self._t0_us + (begin_us - self._t0_us) // self._bin_us * self._bin_us
        gain, count = self.at(np.array([edge_us - self._offset_us]))
        before, area = torch.zeros_like(gain), torch.zeros_like(gain)
        self._integrate_flat(before, gain.clone(), count, edge_us, begin_us)
        self._integrate_flat(area, gain, count, edge_us, float(self._event_time(closes)[0]))
        return area.sub_(before).div_(float(closes.flat[0] - opens.flat[0]))

    def area(self, opens: Times, closes: Times) -> Tensor:
        """Integral of G from `opens` to `closes`, us: a difference of two prefix integrals."""
        if self._plain is None:
            self._plain = self.prefix()
        return self.between(self._plain, opens, closes)

    def prefix(self, weight: Weight | None = None) -> Tensor:
        """Integral of G, or of w G, from the window's start to every key: float32 [keys + 1, H, W], us."""
        prefix = torch.zeros_like(self._gain[: self._keys + 1])
        for k in range(self._keys):
            begin_us, end_us = (self._time_of(np.array([key])) for key in (k, k + 1))
            area = prefix[k + 1].copy_(prefix[k])
            self._integrate(
                area, self._gain[k].clone(), self._count[k].clone(), span_us=(begin_us, end_us), weight=weight
            )
        return prefix

    def between(self, prefix: Tensor, opens: Times, closes: Times, weight: Weight | None = None) -> Tensor:
        """Integral from `opens` to `closes` by a `prefix` of the same weight, us."""
        return self._prefix_at(prefix, closes, weight).sub_(self._prefix_at(prefix, opens, weight))

    def field(self, values: Times | NDArray[np.bool_]) -> Tensor:
        """Lay values per image [1], row [H] or pixel [H, W] out against [C, H, W]; float32, or bool as it is."""
        kept = values if values.dtype == np.bool_ else values.astype(np.float32)
        tensor = torch.from_numpy(kept).to(self._device)
        return tensor[:, None] if tensor.ndim == 1 else tensor

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
        """Run through the window once and keep the gain, and the count of events, at every key."""
        self._t0_us = window.t0_us // self._bin_us * self._bin_us
        bins = -(-(window.t1_us - self._t0_us) // self._bin_us)
        per_key = max(_BINS_PER_KEY, -(-bins // _MOST_KEYS))
        self._key_us = per_key * self._bin_us
        self._keys = -(-bins // per_key)
        self._reserve(self._keys + 1, window.geometry.height, window.geometry.width)
        # An event at an edge counts from that edge on, as everywhere: G(t) includes the events up to and at t.
        edges_us = self._t0_us + self._key_us * np.arange(self._keys + 1)
        edges = [0, *np.searchsorted(self._t_us, edges_us, side="right").tolist()]
        gain, count = torch.ones_like(self._gain[0]), torch.zeros_like(self._gain[0])
        for k in range(self._keys + 1):
            self._apply(gain, count, slice(edges[k], edges[k + 1]))
            self._gain[k].copy_(gain.clamp_(1 / _GAIN_LIMIT, _GAIN_LIMIT))
            self._count[k].copy_(count)

    def _reserve(self, keys: int, height: int, width: int) -> None:
        if self._gain.shape[1:] != (height, width) or self._gain.shape[0] < keys:
            self._gain = torch.empty((keys, height, width), device=self._device)
            self._count = torch.empty((keys, height, width), device=self._device)

    def _apply(self, gain: Tensor, count: Tensor, events: slice | Tensor) -> None:
        """Let some events change the gain and the count of their pixels, both [H, W]."""
        cells = self._cells[events]
        gain.view(-1).scatter_reduce_(0, cells, self._factors[events], "prod")
        if self._counting:
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

    # Integrals; times below are event time, shrunk to [1] where they are the same everywhere

    def _prefix_at(self, prefix: Tensor, t_us: Times, weight: Weight | None) -> Tensor:
        until_us = self._event_time(t_us)
        key = self._key_of(until_us)
        area, gain, count = (self._gather(planes, key) for planes in (prefix, self._gain, self._count))
        self._integrate(area, gain, count, span_us=(self._time_of(key), until_us), weight=weight)
        return area

    def _integrate(
        self, area: Tensor, gain: Tensor, count: Tensor, *, span_us: tuple[Times, Times], weight: Weight | None
    ) -> None:
        """Add the integral of G (or w G) over a span of event time to `area`, in trapezoids that end at bin edges.

        `gain` and `count` are those of the span's start and become those of its end.
        """
        now_us, until_us = span_us
        if now_us.size == 1 and until_us.size == 1 and weight is None:
            self._integrate_flat(area, gain, count, float(now_us.flat[0]), float(until_us.flat[0]))
            return
        while (now_us < until_us).any():
            edge_us = self._t0_us + ((now_us - self._t0_us) // self._bin_us + 1) * self._bin_us
            next_us = np.minimum(edge_us, until_us)
            half = self.field(np.maximum(next_us - now_us, 0.0) / 2)
            area.addcmul_(self._weighted(gain, count, now_us, weight), half)
            self._advance(gain, count, now_us, next_us)
            area.addcmul_(self._weighted(gain, count, next_us, weight), half)
            now_us = np.maximum(now_us, next_us)

    def _integrate_flat(self, area: Tensor, gain: Tensor, count: Tensor, now_us: float, until_us: float) -> None:
        """Do the same as `_integrate` where all pixels share the span: one search for all its bins."""
        first = math.floor((now_us - self._t0_us) / self._bin_us) + 1
        last = math.ceil((until_us - self._t0_us) / self._bin_us)
        inner_us = [float(self._t0_us + k * self._bin_us) for k in range(first, last)]
        edges_us = [now_us, *inner_us, until_us]
        whole_us = np.floor(edges_us).astype(np.int64)
        edges = np.searchsorted(self._t_us, whole_us, side="right").tolist()
        for k in range(len(edges_us) - 1):
            half = (edges_us[k + 1] - edges_us[k]) / 2
            area.add_(gain, alpha=half)
            self._apply(gain, count, slice(edges[k], edges[k + 1]))
            area.add_(gain, alpha=half)

    def _weighted(self, gain: Tensor, count: Tensor, at_us: Times, weight: Weight | None) -> Tensor:
        return gain if weight is None else gain * weight(at_us - self._offset_us, count)

    def _event_time(self, t_us: Times) -> Times:
        end_us = self._t0_us + self._keys * self._key_us
        at_us = np.clip(t_us + self._offset_us, float(self._t0_us), float(end_us))
        return at_us.reshape(-1)[:1] if is_uniform(at_us) else at_us

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


def is_uniform(values: Times) -> bool:
    """Tell whether all values are the same."""
    return bool((values == values.flat[0]).all())
