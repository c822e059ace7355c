"""One sweep over a window's events: gain and count of all pixels at some key times, and what events do between times.

What a sweep leaves at a key depends on the events up to it alone. So a window that extends the one before it (same
start, same belief about the sensor, the same events and then more) goes on where that one ended, and leaves what a
sweep from its start would leave, bit for bit.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.integral import anchor_loops, event_loops, instant_loops, loops
from nire.ramps import RAMP_SHARE
from nire.types import ContentWindow, EventBatch

Times = NDArray[np.float64]
"""Of an image [1], of its rows [H] or of its pixels [H, W]."""

# More light than this times that of the window's start, or less than its inverse, no 8-bit frame can show.
_GAIN_LIMIT = 300.0
# A pixel whose events could multiply its gain by exp() of this has gone mad, and would overflow float32.
_MAD_LOG = 60.0
_BINS_PER_STEP = 4
_STEPS_PER_KEY = 4
_MOST_KEYS = 64
# Events that there is always room for, once there was.
_LEAST_ROOM = 1 << 16


class Sweep:
    """The events of one window at a time and its key planes; `take` reuses the memory.

    The sweep runs in steps of a few bins and limits the gain at the end of each. The planes after each step are kept;
    when there are too many of them, every second one, then every fourth one.

    Attributes:
        t0_us: first bin edge at or before the window's start, event time.
        bin_us: width of a bin.
        step_us: from one limit of the gain to the next.
        key_us: from key plane to key plane, a number of steps that is a power of two.
        keys: how many key planes there are; key 0 lies at `t0_us`, the last one before the window's end.
        gain, count: float32 [64, H, W]; the first `keys` are key planes, of the events up to their times, without
            ramps. Memory beyond them was never touched.
        reach_us: longest ramp.
    """

    def __init__(self, bin_us: int, device: torch.device) -> None:
        """Choose the width of a bin, us, and where planes and events are held."""
        self.t0_us = 0
        self.bin_us = bin_us
        self.step_us = _BINS_PER_STEP * bin_us
        self.key_us = _STEPS_PER_KEY * self.step_us
        self.keys = 0
        self.reach_us = 0.0
        self.gain = self.count = torch.empty((0, 0, 0), device=device)
        self._device = device
        self._window: ContentWindow | None = None
        self._steps = 0
        self._taken = 0
        self._times: NDArray[np.int64] = np.empty(0, np.int64)
        self._leads = torch.empty(0)
        self._cells, self._factors = torch.empty(0, dtype=torch.int32), torch.empty(0)
        self._now = torch.empty((0, 0, 2), device=device)
        self._held: instant_loops.Held | None = None
        self._swept: instant_loops.Swept | None = None
        self._pixels = np.empty(0, event_loops.PIXEL)
        self._ignored: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._has_ignored = False

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window extends the one taken last."""
        last = self._window
        return (
            last is not None
            and (window.geometry, window.t0_us) == (last.geometry, last.t0_us)
            and window.t1_us >= last.t1_us
            and window.calibration.says_the_same_as(last.calibration)
            and _holes_us(window, last.t1_us).tolist() == _holes_us(last, last.t1_us).tolist()
            and _begin_with(window.events, last.events, until_us=last.t1_us)
        )

    def take(self, window: ContentWindow) -> bool:
        """Take a window's events and sweep through those that are new.

        Args:
            window: its events, span, geometry and calibration.

        Returns:
            True where all key planes that were there stand where they stood.
        """
        keeps = self.leads_to(window)
        self.reach_us = RAMP_SHARE * (window.t1_us - window.t0_us)
        if not keeps:
            self._begin(window)
        if not self._add(window):
            # A pixel has gone mad: its earlier events are ignored too.
            self._begin(window)
            self._add(window)
            keeps = False
        self._window = window
        self._swept = None
        if self._held is not None:
            self._held[1][0] = -1
        key_us = self.key_us
        self._run(window.t1_us)
        return keeps and self.key_us == key_us

    def stairs(self, at_us: Times) -> tuple[Tensor, Tensor]:
        """Give gain and count of the events up to and at a time, without ramps: [H, W], not to be changed.

        They are valid until the next call.

        Args:
            at_us: event time, not before the window's start, [1], [H] or [H, W].
        """
        if loops.serve(self.gain):
            gain_now, count_now = self.state_at(per_pixel(at_us))
            return torch.from_numpy(gain_now), torch.from_numpy(count_now)
        key = np.minimum((at_us - self.t0_us) // self.key_us, self.keys - 1).astype(np.int64)
        gain, count = self._gather(self.gain, key), self._gather(self.count, key)
        self.advance(gain, count, self.t0_us + self.key_us * key.astype(np.float64), at_us)
        return gain, count

    def state_at(self, at_us: Times, *, changed: bool = False) -> tuple[event_loops.Plane, event_loops.Plane]:
        """Do the same by loops: event time [H or 1, W or 1]; what is given may be changed where that is said."""
        held = self.held
        instant_loops.settle(held, self.swept, at_us)
        if changed:
            held[1][0] = -1
        return held[0]

    @property
    def held(self) -> instant_loops.Held:
        """What loops keep from one exposure to the next; it is theirs to change. On a CPU."""
        if self._held is None:
            height, width = self.gain.shape[1:]
            planes, beside = (np.empty((2, height, width), np.float32), np.empty((2, height * width + 1), np.float32))
            undo = np.empty(height * width + 1, np.int32), beside[0], beside[1]
            self._held = (planes[0], planes[1]), np.array([-1]), undo
        return self._held

    @property
    def swept(self) -> instant_loops.Swept:
        """Key planes and events, as loops take them. On a CPU."""
        if self._swept is None:
            keys, grid = (self.gain.numpy(), self.count.numpy()), (self.t0_us, self.key_us, self.keys)
            self._swept = keys, self._columns(slice(self._taken)), grid, self.reach_us, _GAIN_LIMIT
        return self._swept

    def ramp(self, gain: Tensor, at_us: Times, count: Tensor | None = None) -> None:
        """Put pixels that are on their way to their next event on their ramps.

        Light goes evenly from where the events before left it to where the next one does. The ramp begins at the event
        before, at most `reach_us` earlier, at most half as long before as the event after it comes later, and does not
        reach across missing events.

        Args:
            gain: [H, W], of the events up to `at_us`; changed.
            at_us: event time, [1], [H] or [H, W].
            count: [H, W], of the events up to `at_us`; where it is given, a share of the next event is added.
        """
        if loops.serve(gain):
            state = gain.numpy(), gain.numpy() if count is None else count.numpy()
            instant_loops.ramp(state, self.held[2], self.swept, per_pixel(at_us), count is not None)
            return
        events = self._between(at_us, at_us + self.reach_us)
        t_us, begin_us, cells, factors = self._ramps(events)
        now_us = self._of_cells(at_us, cells)
        on = torch.nonzero((begin_us < now_us) & (now_us < t_us)).squeeze(1)
        share = ((now_us - begin_us) / (t_us - begin_us))[on].float()
        # A pixel is on one ramp at a time.
        gain.view(-1)[cells[on]] *= 1 + (factors[on] - 1) * share
        if count is not None:
            count.view(-1)[cells[on]] += share * (factors[on] != 1)

    def integrate(self, area: Tensor, gain: Tensor, count: Tensor, from_us: Times, until_us: Times) -> None:
        """Add the integral of the gain over a span to `area`, us, exact to the event, with ramps.

        Args:
            area: [H, W], changed.
            gain, count: [H, W], of the events up to the span's start; changed, to those of its end.
            from_us, until_us: event time, [1], [H] or [H, W] both.
        """
        events = self._between(from_us, until_us + self.reach_us)
        if loops.serve(area, gain, count):
            span_us = per_pixel(from_us), per_pixel(until_us)
            planes = area.numpy(), gain.numpy(), count.numpy()
            anchor_loops.integrate(*planes, self._columns(events), *span_us, self.reach_us)
            return
        area.addcmul_(gain, field(until_us - from_us, self._device))
        t_us, begin_us, cells, factors = self._ramps(events)
        open_us, close_us = self._of_cells(from_us, cells), self._of_cells(until_us, cells)
        # By pixels, in the order of time: the gain before each event is a product over those before it in its pixel.
        order = torch.argsort(cells, stable=True)
        order = order[((t_us > open_us) & (begin_us < close_us))[order]]
        t_us, begin_us, cells, factors, open_us, close_us = (
            values[order] for values in (t_us, begin_us, cells, factors, open_us, close_us)
        )
        logarithm = factors.double().log()
        earlier = logarithm.cumsum(0) - logarithm
        first = torch.searchsorted(cells, cells)
        before = gain.view(-1)[cells] * (earlier - earlier[first]).exp().float()
        first_us, last_us = torch.maximum(begin_us, open_us), torch.minimum(t_us, close_us)
        ramped = (first_us + last_us) / 2 - begin_us
        weight_us = (last_us - first_us).clamp_(min=0) * ramped / (t_us - begin_us).clamp(min=1e-9)
        weight_us += (close_us - t_us).clamp_(min=0)
        area.view(-1).scatter_add_(0, cells, before * (factors - 1) * weight_us.float())
        self.advance(gain, count, from_us, until_us)

    def events_of(self, from_us: Times, until_us: Times) -> event_loops.Events:
        """Give what the loops take of the events of a span, and of those whose ramps may begin in it; on a CPU."""
        within = self._between(from_us, until_us + self.reach_us)
        cells, t_us, leads, factors = self.swept[1]
        return cells[within], t_us[within], leads[within], factors[within]

    def nodes(self, from_us: Times, until_us: Times) -> tuple[Times, Times]:
        """Cut a span into trapezoids at the edges of bins: their ends, and how much of the span each stands for, us.

        Args:
            from_us, until_us: event time, of one shape.

        Returns:
            [M, ...]; where a span has fewer than others, its end is repeated and stands for nothing.
        """
        after = np.floor((from_us - self.t0_us) / self.bin_us)
        many = int((np.ceil((until_us - self.t0_us) / self.bin_us) - after).max()) + 1
        places = np.arange(many).reshape(-1, *(1 for _ in from_us.shape))
        ends = np.minimum(self.t0_us + self.bin_us * (after + places), until_us)
        ends[0] = from_us
        halves = np.diff(ends, axis=0) / 2
        weights = np.zeros_like(ends)
        weights[:-1] += halves
        weights[1:] += halves
        return ends, weights

    def limit(self, gain: Tensor) -> None:
        """Keep the gain to what frames can show, as at the end of each step."""
        gain.clamp_(1 / _GAIN_LIMIT, _GAIN_LIMIT)

    def advance(self, gain: Tensor, count: Tensor, from_us: Times, until_us: Times) -> None:
        """Let the events after one time, up to and at another, change the gain and the count of their pixels."""
        events = self._between(from_us, until_us)
        chosen: slice | Tensor = events
        if until_us.size > 1:
            t_us, _, cells, _ = self._ramps(events)
            within = (t_us > self._of_cells(from_us, cells)) & (t_us <= self._of_cells(until_us, cells))
            chosen = torch.nonzero(within).squeeze(1) + events.start
        self._scatter(gain, count, chosen)

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

    def _scatter(self, gain: Tensor, count: Tensor, events: slice | Tensor) -> None:
        cells, factors = self._cells[events].to(self._device).long(), self._factors[events].to(self._device)
        gain.view(-1).scatter_reduce_(0, cells, factors, "prod")
        count.view(-1).scatter_add_(0, cells, (factors != 1).float())

    def _between(self, from_us: Times, until_us: Times) -> slice:
        """Find the events after the earliest start, up to and at the latest end."""
        # Whole microseconds: a float key would make numpy convert all events first.
        ends = (math.floor(float(from_us.min())), math.floor(float(until_us.max())))
        low, high = np.searchsorted(self._times, ends, side="right").tolist()
        return slice(low, max(low, high))

    def _columns(self, events: slice) -> event_loops.Events:
        cells, leads, factors = (column[events].numpy() for column in (self._cells, self._leads, self._factors))
        return cells, self._times[events], leads, factors

    def _ramps(self, events: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Times of some events, when their ramps begin, us (float64), their pixels and factors, on the device."""
        t_us = torch.tensor(self._times[events], dtype=torch.float64, device=self._device)
        lead_us = self._leads[events].to(self._device).double().clamp_max_(self.reach_us)
        cells, factors = self._cells[events].to(self._device).long(), self._factors[events].to(self._device)
        return t_us, t_us - lead_us, cells, factors

    def _of_cells(self, values: Times, cells: Tensor) -> Tensor:
        """Look values per image [1], row [H] or pixel [H, W] up for some pixels: float64."""
        known = torch.from_numpy(np.ascontiguousarray(values)).to(self._device).double()
        if known.ndim == 2:
            return known.view(-1)[cells]
        return known.expand(len(cells)) if len(known) == 1 else known[cells // self.gain.shape[2]]

    def _begin(self, window: ContentWindow) -> None:
        height, width = window.geometry.height, window.geometry.width
        if self.gain.shape[1:] != (height, width):
            self.gain = torch.empty((_MOST_KEYS, height, width), device=self._device)
            self.count = torch.empty_like(self.gain)
            # An event finds both of a pixel in one place.
            self._now = torch.empty((height, width, 2), device=self._device)
            self._pixels = np.empty(height * width, event_loops.PIXEL)
            self._held = None
        self._window = None
        self.t0_us = window.t0_us // self.bin_us * self.bin_us
        self.key_us = _STEPS_PER_KEY * self.step_us
        self.keys = self._steps = self._taken = 0
        torch.view_as_complex(self._now).fill_(1)  # the gain is 1, the count 0: in one pass
        self._pixels.view(np.uint8).fill(0)
        hot = window.calibration.hot_pixels
        self._ignored = np.zeros(height * width, np.bool_) if hot is None else hot.reshape(-1).copy()
        self._has_ignored = bool(self._ignored.any())
        self._times = np.empty(0, np.int64)

    def _add(self, window: ContentWindow) -> bool:
        """Take the events that are new; False where they turn a pixel mad whose earlier events were taken."""
        events, calibration, taken = window.events, window.calibration, self._taken
        new = slice(taken, len(events))
        strongest = max(calibration.threshold_positive, calibration.threshold_negative)
        exponents = -calibration.threshold_negative, calibration.threshold_positive
        times = np.ascontiguousarray(events.t_us)
        buffers = (self._cells, self._factors, self._leads)
        self._cells, self._factors, self._leads = (_with_room(buffer, taken, len(times)) for buffer in buffers)
        cells, factors = (column[taken : len(times)].numpy() for column in (self._cells, self._factors))
        most = event_loops.take(
            (cells, factors, self._leads[: len(times)].numpy()),
            (times, events.x[new], events.y[new], events.p[new]),
            self._pixels,
            (window.geometry.height, window.geometry.width),
            _holes_us(window, window.t1_us),
            (np.float32(math.exp(exponents[0])), np.float32(math.exp(exponents[1]))),
        )
        if self._has_ignored or most > _MAD_LOG / strongest:
            all_cells, all_factors = (column[: len(times)].numpy() for column in (self._cells, self._factors))
            turned_mad = event_loops.ignore(
                all_factors, all_cells, taken, self._pixels, self._ignored, exponents, _MAD_LOG
            )
            self._has_ignored = bool(self._ignored.any())
            if turned_mad and taken:
                return False
        self._times, self._taken = times, len(times)
        return True

    def _run(self, t1_us: int) -> None:
        """Go on to the last step that begins before the window's end, and keep what is to be kept on the way."""
        steps = -(-(t1_us - self.t0_us) // self.step_us)
        while -(-steps * self.step_us // self.key_us) > _MOST_KEYS:
            self._thin()
        # An event at an edge counts from that edge on, as everywhere: G(t) includes the events up to and at t.
        edges_us = self.t0_us + self.step_us * np.arange(self._steps - 1, steps)
        edges = np.searchsorted(self._times, edges_us, side="right")
        kept = np.arange(self._steps, steps) * self.step_us % self.key_us == 0
        gain, count = self._now.unbind(-1)
        if loops.serve(gain, count):
            keys, now = (self.gain.numpy(), self.count.numpy()), self._now.numpy()
            event_loops.sweep(keys, self.keys, now, self._columns(slice(None)), edges, kept, _GAIN_LIMIT)
            self.keys += int(kept.sum())
        else:
            for events, is_key in zip(map(slice, edges.tolist(), edges[1:].tolist()), kept, strict=False):
                self._scatter(gain, count, events)
                self.limit(gain)
                if is_key:
                    self.gain[self.keys].copy_(gain)
                    self.count[self.keys].copy_(count)
                    self.keys += 1
        self._steps = max(steps, self._steps)

    def _thin(self) -> None:
        """Keep every second key plane."""
        self.key_us *= 2
        self.keys = -(-self.keys // 2)
        for k in range(1, self.keys):
            self.gain[k].copy_(self.gain[2 * k])
            self.count[k].copy_(self.count[2 * k])


def field(values: Times | NDArray[np.bool_], device: torch.device) -> Tensor:
    """Lay values per image [1], row [H] or pixel [H, W] out against [C, H, W]; float32, or bool as it is."""
    kept = values if values.dtype == np.bool_ else values.astype(np.float32)
    tensor = torch.from_numpy(kept).to(device)
    return tensor[:, None] if tensor.ndim == 1 else tensor


def _holes_us(window: ContentWindow, until_us: int) -> NDArray[np.int64]:
    """Ends of the spans whose events are missing, up to a time: int64, ascending."""
    return np.array(sorted(gap.t1_us for gap in window.gaps if gap.t1_us <= until_us), np.int64)


def _begin_with(events: EventBatch, earlier: EventBatch, *, until_us: int) -> bool:
    """Tell whether events are earlier ones, all of a span that ends at `until_us`, and then more."""
    many = len(earlier)
    if len(events) < many or (len(events) > many and events.t_us[many] < until_us):
        return False
    columns = ((getattr(batch, name)[:many] for batch in (events, earlier)) for name in ("t_us", "x", "y", "p"))
    return all(_is_same(one, other) for one, other in columns)


def _is_same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    # What begins at the same place of memory, held by both, is the same: arrays are never written again.
    shared = one.ctypes.data == other.ctypes.data and one.strides == other.strides
    return shared or np.array_equal(one, other)


def per_pixel(values: Times) -> Times:
    """Lay values per image [1], row [H] or pixel [H, W] out as [H or 1, W or 1]."""
    return values if values.ndim == 2 else values[:, None]


def _with_room(buffer: Tensor, used: int, end: int) -> Tensor:
    """Give a buffer that has room up to an end: this one, or one that begins with what is used of it.

    What a burst of events took is given back by the first window that needs much less.
    """
    if end <= len(buffer) <= max(_LEAST_ROOM, 4 * end):
        return buffer
    larger = buffer.new_empty(end if used == 0 else 2 * end)
    larger[:used] = buffer[:used]
    return larger
