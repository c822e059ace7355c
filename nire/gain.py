"""The gain G(t) = exp(c E(t)) of every pixel: what its events have done to its light up to a time, and integrals of it.

E(t) is the signed sum of a pixel's events up to t and c its contrast thresholds, so each event multiplies the gain of
its pixel by exp(+c) or exp(-c). Few pixels fire at a time, so G is never computed densely over time. One sweep per
window (`nire.sweep`) leaves key planes; a reader copies the last key plane before its time and applies the few events
since. The first integral makes key planes of the integral too. An instant is exact to the event; an integral is made
of trapezoids one bin wide (docs/clocks-and-exposure.md has the error).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.shutter import Shutter
from nire.sweep import Sweep
from nire.types import ContentWindow

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
        self._sweep = Sweep(bin_us, self._device)
        self._offset_us = 0.0
        self._plain = torch.empty((0, 0, 0), device=self._device)
        self._plain_keys = 0

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window extends the one built last, so that `build` only goes on."""
        return self._sweep.leads_to(window)

    def build(self, window: ContentWindow, *, counting: bool) -> bool:
        """Take a window's events and sweep through those that are new.

        Args:
            window: its events, span, geometry and calibration.
            counting: without, the counts of events may stay 0.

        Returns:
            True where the window extends the one before it: what was read of that one would be read again.
        """
        self._offset_us = window.calibration.time_offset_us
        extends = self._sweep.take(window, counting=counting)
        if not extends:
            self._plain_keys = 0
        return extends

    def at(self, t_us: Times) -> tuple[Tensor, Tensor]:
        """Read G and the count of events so far.

        Args:
            t_us: float64 [H] or [H, W], frame time per row or pixel; [1] for all.
        """
        at_us = self._event_time(t_us)
        key = self._key_of(at_us)
        gain, count = self._gather(self._sweep.gain, key), self._gather(self._sweep.count, key)
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
        edge_us = self._sweep.t0_us + (begin_us - self._sweep.t0_us) // self._bin_us * self._bin_us
        gain, count = self.at(np.array([edge_us - self._offset_us]))
        before, area = torch.zeros_like(gain), torch.zeros_like(gain)
        self._integrate_flat(before, gain.clone(), count, edge_us, begin_us)
        self._integrate_flat(area, gain, count, edge_us, float(self._event_time(closes)[0]))
        return area.sub_(before).div_(float(closes.flat[0] - opens.flat[0]))

    def area(self, opens: Times, closes: Times) -> Tensor:
        """Integral of G from `opens` to `closes`, us: a difference of two prefix integrals."""
        if self._plain.shape != self._sweep.gain.shape:
            self._plain = torch.empty_like(self._sweep.gain)
        self._extend(self._plain, self._plain_keys, None)
        self._plain_keys = self._sweep.keys
        return self.between(self._plain, opens, closes)

    def prefix(self, weight: Weight) -> Tensor:
        """Integral of w G from the window's start to every key: float32 [keys, H, W], us."""
        prefix = torch.empty_like(self._sweep.gain[: self._sweep.keys])
        self._extend(prefix, 0, weight)
        return prefix

    def between(self, prefix: Tensor, opens: Times, closes: Times, weight: Weight | None = None) -> Tensor:
        """Integral from `opens` to `closes` by a `prefix` of the same weight, us."""
        return self._prefix_at(prefix, closes, weight).sub_(self._prefix_at(prefix, opens, weight))

    def field(self, values: Times | NDArray[np.bool_]) -> Tensor:
        """Lay values per image [1], row [H] or pixel [H, W] out against [C, H, W]; float32, or bool as it is."""
        kept = values if values.dtype == np.bool_ else values.astype(np.float32)
        tensor = torch.from_numpy(kept).to(self._device)
        return tensor[:, None] if tensor.ndim == 1 else tensor

    def _advance(self, gain: Tensor, count: Tensor, from_us: Times, until_us: Times) -> None:
        """Apply the events after `from_us` up to and at `until_us`; event time per image [1], row [H] or pixel."""
        low, high = self._events_until(float(from_us.min())), self._events_until(float(until_us.max()))
        if until_us.size == 1:
            self._sweep.apply(gain, count, slice(low, high))
            return
        t_us = self._sweep.t_us[low:high]
        rows, columns = self._sweep.rows[low:high], self._sweep.columns[low:high]
        place = rows if until_us.ndim == 1 else (rows, columns)
        chosen = np.flatnonzero((t_us > from_us[place]) & (t_us <= until_us[place]))
        self._sweep.apply(gain, count, torch.from_numpy(chosen + low).to(self._device))

    def _events_until(self, t_us: float) -> int:
        # Whole microseconds: a float key would make numpy convert all events first.
        return int(np.searchsorted(self._sweep.t_us, math.floor(t_us), side="right"))

    # Integrals; times below are event time, shrunk to [1] where they are the same everywhere

    def _extend(self, prefix: Tensor, known: int, weight: Weight | None) -> None:
        """Integrate from key to key, where so many are known; in the steps of the sweep, with its limits."""
        sweep = self._sweep
        if known == 0:
            prefix[0].zero_()
        for k in range(max(known, 1), sweep.keys):
            area = prefix[k].copy_(prefix[k - 1])
            gain, count = sweep.gain[k - 1].clone(), sweep.count[k - 1].clone()
            key_us = self._time_of(np.array([k - 1]))
            for begin_us in range(0, sweep.key_us, sweep.step_us):
                span_us = (key_us + begin_us, key_us + (begin_us + sweep.step_us))
                self._integrate(area, gain, count, span_us=span_us, weight=weight)
                sweep.limit(gain)

    def _prefix_at(self, prefix: Tensor, t_us: Times, weight: Weight | None) -> Tensor:
        until_us = self._event_time(t_us)
        key = self._key_of(until_us)
        area, gain, count = (self._gather(planes, key) for planes in (prefix, self._sweep.gain, self._sweep.count))
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
            edge_us = self._sweep.t0_us + ((now_us - self._sweep.t0_us) // self._bin_us + 1) * self._bin_us
            next_us = np.minimum(edge_us, until_us)
            half = self.field(np.maximum(next_us - now_us, 0.0) / 2)
            area.addcmul_(self._weighted(gain, count, now_us, weight), half)
            self._advance(gain, count, now_us, next_us)
            area.addcmul_(self._weighted(gain, count, next_us, weight), half)
            now_us = np.maximum(now_us, next_us)

    def _integrate_flat(self, area: Tensor, gain: Tensor, count: Tensor, now_us: float, until_us: float) -> None:
        """Do the same as `_integrate` where all pixels share the span: one search for all its bins."""
        first = math.floor((now_us - self._sweep.t0_us) / self._bin_us) + 1
        last = math.ceil((until_us - self._sweep.t0_us) / self._bin_us)
        inner_us = [float(self._sweep.t0_us + k * self._bin_us) for k in range(first, last)]
        edges_us = [now_us, *inner_us, until_us]
        whole_us = np.floor(edges_us).astype(np.int64)
        edges = np.searchsorted(self._sweep.t_us, whole_us, side="right").tolist()
        # The gain at an edge counts for half the bin before it and half the bin after it.
        halves_us = [0.0, *(np.diff(edges_us) / 2).tolist(), 0.0]
        area.add_(gain, alpha=halves_us[0] + halves_us[1])
        for k in range(1, len(edges_us)):
            self._sweep.apply(gain, count, slice(edges[k - 1], edges[k]))
            area.add_(gain, alpha=halves_us[k] + halves_us[k + 1])

    def _weighted(self, gain: Tensor, count: Tensor, at_us: Times, weight: Weight | None) -> Tensor:
        return gain if weight is None else gain * weight(at_us - self._offset_us, count)

    def _event_time(self, t_us: Times) -> Times:
        end_us = self._sweep.t0_us + self._sweep.keys * self._sweep.key_us
        at_us = np.clip(t_us + self._offset_us, float(self._sweep.t0_us), float(end_us))
        return at_us.reshape(-1)[:1] if is_uniform(at_us) else at_us

    def _key_of(self, at_us: Times) -> NDArray[np.int64]:
        return np.minimum((at_us - self._sweep.t0_us) // self._sweep.key_us, self._sweep.keys - 1).astype(np.int64)

    def _time_of(self, key: NDArray[np.int64]) -> Times:
        return self._sweep.t0_us + self._sweep.key_us * key.astype(np.float64)

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
