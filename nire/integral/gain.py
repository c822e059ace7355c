"""The gain G(t) = exp(c E(t)) of every pixel: what its events have done to its light up to a time, and integrals of it.

E(t) is the signed sum of a pixel's events up to t and c its contrast thresholds, so each event multiplies the gain of
its pixel by exp(+c) or exp(-c). Few pixels fire at a time, so G is never computed densely over time. One sweep per
window (`sweep.py`) leaves key planes; a reader copies the last key plane before its time and applies the few events
since. The first integral makes key planes of the integral too. Between two events of a pixel G goes on a ramp. Instants
and integrals of G are exact to the event; integrals of w G are made of trapezoids one bin wide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.integral.sweep import Sweep, Times, field
from nire.shutter import Shutter
from nire.types import ContentWindow

Weighing = Callable[[Tensor, tuple[Tensor, Tensor], Times, Times], None]
"""Adds w G times a width to an area [H, W], from gain and count of events [H, W] at a time, frame time, and the width,
us; both [1], [H] or [H, W]."""


class Gain:
    """Gain of one window at a time; `build` reuses the memory.

    Times given to it are frame time; the calibration's offset is added inside to reach the events. Tensors that it
    returns are float32 [H, W] and the caller's to change.
    """

    def __init__(self, bin_us: int, device: torch.device | str = "cpu") -> None:
        """Choose the resolution of integrals and the torch device.

        Args:
            bin_us: width of a trapezoid of weighed integrals, > 0.
            device: holds planes and events.
        """
        self._device = torch.device(device)
        self._bin_us = bin_us
        self._sweep = Sweep(bin_us, self._device)
        self._offset_us = 0.0
        self._plain = torch.empty((0, 0, 0), device=self._device)
        self._plain_keys = 0
        self._plain_reach_us = 0.0

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window extends the one built last, so that `build` only goes on."""
        return self._sweep.leads_to(window)

    def build(self, window: ContentWindow) -> bool:
        """Take a window's events and sweep through those that are new.

        Args:
            window: its events, span, geometry and calibration.

        Returns:
            True where the window extends the one before it: what was read of that one would be read again.
        """
        self._offset_us = window.calibration.time_offset_us
        extends = self._sweep.take(window)
        if not extends or self._sweep.reach_us != self._plain_reach_us:
            self._plain_keys = 0
        self._plain_reach_us = self._sweep.reach_us
        return extends

    def at(self, t_us: Times, *, shared: bool = False) -> tuple[Tensor, Tensor]:
        """Read G and the count of events so far.

        Args:
            t_us: float64 [H] or [H, W], frame time per row or pixel; [1] for all.
            shared: count a share of the event that a pixel is on its way to.
        """
        at_us = self._event_time(t_us)
        gain, count = self._stairs(at_us)
        self._sweep.ramp(gain, at_us, count if shared else None)
        return gain, count

    def is_narrow(self, shutter: Shutter) -> NDArray[np.bool_]:
        """Tell which rows or pixels are exposed for a bin or less: their middle stands for them (a delta, Eq. 4).

        A difference of prefix integrals over so little time would drown in the rounding of float32.
        """
        narrow: NDArray[np.bool_] = shutter.t_b_us - shutter.t_a_us <= self._bin_us
        return narrow

    def mean(self, shutter: Shutter) -> Tensor:
        """Mean of G over a shutter (Eq. 5 for V = G)."""
        opens, closes = shutter.t_a_us, shutter.t_b_us
        if self.is_narrow(shutter).all():
            return self.at((opens + closes) / 2)[0]
        if not shutter.is_flat:
            return self.area(opens, closes).div_(self.field(closes - opens))
        return self._flat_mean(shutter)[0]

    def anchor(self, shutter: Shutter) -> tuple[Tensor, Tensor, Tensor]:
        """Give what a frame is anchored by: the mean of G over its shutter, and the events until it opens and closes.

        One pass over the events of the exposure gives all three where it is flat and wide.
        """
        if shutter.is_flat and not self.is_narrow(shutter).all():
            return self._flat_mean(shutter)
        opened, closed = (self._stairs(self._event_time(t_us))[1] for t_us in (shutter.t_a_us, shutter.t_b_us))
        return self.mean(shutter), opened, closed

    def _flat_mean(self, shutter: Shutter) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of G over a flat shutter, without any prefix integral, and the events until its start and its end."""
        opens, closes = shutter.t_a_us, shutter.t_b_us
        begin_us, end_us = self._event_time(opens), self._event_time(closes)
        gain, count = self._stairs(begin_us)
        opened, area = count.clone(), torch.zeros_like(gain)
        self._sweep.integrate(area, gain, count, begin_us, end_us)
        return area.div_(float(closes.flat[0] - opens.flat[0])), opened, count

    def area(self, opens: Times, closes: Times) -> Tensor:
        """Integral of G from `opens` to `closes`, us: a difference of two prefix integrals."""
        if self._plain.shape != self._sweep.gain.shape:
            self._plain = torch.empty_like(self._sweep.gain)
        self._extend(self._plain, self._plain_keys, None)
        self._plain_keys = self._sweep.keys
        return self.between(self._plain, opens, closes)

    def prefix(self, weigh: Weighing) -> Tensor:
        """Integral of w G from the window's start to every key: float32 [keys, H, W], us."""
        prefix = torch.empty_like(self._sweep.gain[: self._sweep.keys])
        self._extend(prefix, 0, weigh)
        return prefix

    def between(self, prefix: Tensor, opens: Times, closes: Times, weigh: Weighing | None = None) -> Tensor:
        """Integral from `opens` to `closes` by a `prefix` that was weighed alike, us."""
        return self._prefix_at(prefix, closes, weigh).sub_(self._prefix_at(prefix, opens, weigh))

    def span(self, from_us: Times, until_us: Times) -> tuple[tuple[Tensor, Tensor], tuple[Times, Times]]:
        """Give gain and count of the events up to a span's start, without ramps, and the span in event time."""
        begin_us, end_us = self._event_time(from_us), self._event_time(until_us)
        if begin_us.shape != end_us.shape:
            shape = np.broadcast_shapes(begin_us.shape, end_us.shape)
            begin_us, end_us = (np.ascontiguousarray(np.broadcast_to(t_us, shape)) for t_us in (begin_us, end_us))
        return self._stairs(begin_us), (begin_us, end_us)

    @property
    def sweep(self) -> Sweep:
        """The events behind it."""
        return self._sweep

    def field(self, values: Times | NDArray[np.bool_]) -> Tensor:
        """Lay values per image [1], row [H] or pixel [H, W] out against [C, H, W]; float32, or bool as it is."""
        return field(values, self._device)

    # Integrals; times below are event time, shrunk to [1] where they are the same everywhere

    def _extend(self, prefix: Tensor, known: int, weigh: Weighing | None) -> None:
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
                self._integrate(area, gain, count, span_us=span_us, weigh=weigh)
                sweep.limit(gain)

    def _prefix_at(self, prefix: Tensor, t_us: Times, weigh: Weighing | None) -> Tensor:
        until_us = self._event_time(t_us)
        key = self._key_of(until_us)
        area, gain, count = (self._gather(planes, key) for planes in (prefix, self._sweep.gain, self._sweep.count))
        self._integrate(area, gain, count, span_us=(self._time_of(key), until_us), weigh=weigh)
        return area

    def _integrate(
        self, area: Tensor, gain: Tensor, count: Tensor, *, span_us: tuple[Times, Times], weigh: Weighing | None
    ) -> None:
        """Add the integral of G over a span of event time to `area`, or of w G in trapezoids that end at bin edges.

        `gain` and `count` are those of the span's start and become those of its end.
        """
        from_us, until_us = span_us
        if weigh is None:
            self._sweep.integrate(area, gain, count, from_us, until_us)
            return
        now_us, half_us = from_us, np.zeros_like(from_us)
        for begin_us, end_us in self._sweep.trapezoids(from_us, until_us):
            # What lies at an edge counts for half of the bin before it and half of the bin after it.
            before_us, half_us = half_us, (end_us - begin_us) / 2
            weigh(area, (self._ramped(gain, begin_us), count), begin_us - self._offset_us, before_us + half_us)
            self._sweep.advance(gain, count, begin_us, end_us)
            now_us = end_us
        weigh(area, (self._ramped(gain, now_us), count), now_us - self._offset_us, half_us)

    def _ramped(self, gain: Tensor, at_us: Times) -> Tensor:
        ramped = gain.clone()
        self._sweep.ramp(ramped, at_us)
        return ramped

    def _stairs(self, at_us: Times) -> tuple[Tensor, Tensor]:
        """Gain and count of the events up to a time, without ramps; event time."""
        key = self._key_of(at_us)
        gain, count = self._gather(self._sweep.gain, key), self._gather(self._sweep.count, key)
        self._sweep.advance(gain, count, self._time_of(key), at_us)
        return gain, count

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
