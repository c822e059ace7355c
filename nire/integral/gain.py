"""The gain G(t) = exp(c E(t)) of every pixel: what its events have done to its light up to a time, and integrals of it.

E(t) is the signed sum of a pixel's events up to t and c its contrast thresholds, so each event multiplies the gain of
its pixel by exp(+c) or exp(-c). Few pixels fire at a time, so G is never computed densely over time. One sweep per
window (`sweep.py`) leaves key planes; a reader begins at the last key plane before its time and applies the few events
since. Between two events of a pixel G goes on a ramp. Instants and integrals of G are exact to the event; integrals of
w G are made of trapezoids one bin wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.integral.event_loops import Plane
from nire.integral.instant_loops import Held, Swept
from nire.integral.layout_loops import Grid
from nire.integral.sweep import Sweep, Times, field, per_pixel
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
        return self._sweep.take(window)

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

        Within a bin there is no trapezoid to blend two frames by.
        """
        narrow: NDArray[np.bool_] = shutter.t_b_us - shutter.t_a_us <= self._bin_us
        return narrow

    def instants_of(self, shutters: Sequence[Shutter]) -> Times | None:
        """Give the middles of shutters that their middles stand for, frame time: [Q, H or 1, W or 1].

        Returns:
            None where there are other shutters among them, or such of rows and such of pixels.
        """
        if len({shutter.t_a_us.ndim for shutter in shutters}) > 1:
            return None
        opens = np.stack([shutter.t_a_us for shutter in shutters])
        closes = np.stack([shutter.t_b_us for shutter in shutters])
        if (closes - opens > self._bin_us).any():
            return None
        middles: Times = (opens + closes) / 2
        first = middles.reshape(len(middles), -1)[:, :1]
        if (middles == (first if middles.ndim == 2 else first[..., None])).all():
            return first[..., None]
        return middles if middles.ndim == 3 else middles[..., None]

    def swept_at(self, t_us: Times) -> tuple[Held, Swept, Times]:
        """Give what loops read G from, and the event time of `t_us`, as it is laid out. On a CPU."""
        return self._sweep.held, self._sweep.swept, self._within(t_us)

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
        """Mean of G over a flat shutter, and the events until its start and its end."""
        opens, closes = shutter.t_a_us, shutter.t_b_us
        begin_us, end_us = self._event_time(opens), self._event_time(closes)
        gain, count = self._stairs(begin_us)
        opened, area = count.clone(), torch.zeros_like(gain)
        self._sweep.integrate(area, gain, count, begin_us, end_us)
        return area.div_(float(closes.flat[0] - opens.flat[0])), opened, count

    def area(self, opens: Times, closes: Times) -> Tensor:
        """Integral of G from `opens` to `closes`, us."""
        (gain, count), (begin_us, end_us) = self.span(opens, closes)
        area = torch.zeros_like(gain)
        self._sweep.integrate(area, gain, count, begin_us, end_us)
        return area

    def weighed(self, opens: Times, closes: Times, weigh: Weighing) -> Tensor:
        """Integral of w G from `opens` to `closes`, us, in trapezoids that end at the edges of bins."""
        (gain, count), (now_us, end_us) = self.span(opens, closes)
        area = torch.zeros_like(gain)
        for at_us, width_us in zip(*self._sweep.nodes(now_us, end_us), strict=True):
            self._sweep.advance(gain, count, now_us, at_us)
            ramped = gain.clone()
            self._sweep.ramp(ramped, at_us)
            weigh(area, (ramped, count), at_us - self._offset_us, width_us)
            now_us = at_us
        return area

    def nodes(self, opens: Times, closes: Times) -> tuple[tuple[Times, Times], Times, Times, Grid]:
        """Give what loops read an exposure [H or 1] from, beside what is swept. On a CPU.

        Returns:
            Event times of its start and end, [H or 1, 1]; its nodes and their weights in us [M, H or 1]; and `Grid`.
        """
        span_us = self._within(opens), self._within(closes)
        sweep = self._sweep
        ends, weights = sweep.nodes(*span_us)
        bins = ((span_us[0] - sweep.t0_us) // sweep.bin_us).astype(np.int64)
        return (span_us[0][:, None], span_us[1][:, None]), ends, weights, (sweep.t0_us, sweep.bin_us, bins)

    def span(self, from_us: Times, until_us: Times) -> tuple[tuple[Tensor, Tensor], tuple[Times, Times]]:
        """Give gain and count of the events up to a span's start, without ramps, and the span in event time."""
        begin_us, end_us = self._span(from_us, until_us)
        return self._stairs(begin_us), (begin_us, end_us)

    def state_over(self, from_us: Times, until_us: Times) -> tuple[tuple[Plane, Plane], tuple[Times, Times]]:
        """Do the same for loops: what is given is not to be changed, and valid until the next call. On a CPU."""
        begin_us, end_us = self._span(from_us, until_us)
        return self._sweep.state_at(per_pixel(begin_us)), (begin_us, end_us)

    def _span(self, from_us: Times, until_us: Times) -> tuple[Times, Times]:
        begin_us, end_us = self._event_time(from_us), self._event_time(until_us)
        if begin_us.shape != end_us.shape:
            shape = np.broadcast_shapes(begin_us.shape, end_us.shape)
            begin_us, end_us = (np.ascontiguousarray(np.broadcast_to(t_us, shape)) for t_us in (begin_us, end_us))
        return begin_us, end_us

    @property
    def offset_us(self) -> float:
        """Event time less frame time."""
        return self._offset_us

    @property
    def sweep(self) -> Sweep:
        """The events behind it."""
        return self._sweep

    def field(self, values: Times | NDArray[np.bool_]) -> Tensor:
        """Lay values per image [1], row [H] or pixel [H, W] out against [C, H, W]; float32, or bool as it is."""
        return field(values, self._device)

    def _stairs(self, at_us: Times) -> tuple[Tensor, Tensor]:
        """Gain and count of the events up to a time, without ramps; event time, shrunk to [1] where it is uniform."""
        gain, count = self._sweep.stairs(at_us)
        return gain.clone(), count.clone()

    def _event_time(self, t_us: Times) -> Times:
        """Turn frame time to event time within the window; shrunk to [1] where it is the same everywhere."""
        at_us = self._within(t_us)
        return at_us if at_us.size == 1 or not is_uniform(at_us) else at_us.reshape(-1)[:1]

    def _within(self, t_us: Times) -> Times:
        begin_us = float(self._sweep.t0_us)
        end_us = begin_us + self._sweep.keys * self._sweep.key_us
        return np.minimum(np.maximum(t_us + self._offset_us, begin_us), end_us)


def is_uniform(values: Times) -> bool:
    """Tell whether all values are the same."""
    return bool((values == values.flat[0]).all())
