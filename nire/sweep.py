"""One sweep over a window's events: the gain, and the count of events, of all pixels at some key times.

What a sweep leaves at a key depends on the events up to it alone. So a window that extends the one before it (same
start, same belief about the sensor, the same events and then more) goes on where that one ended, and leaves what a
sweep from its start would leave, bit for bit.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.types import ContentWindow, EventBatch

# More light than this times that of the window's start, or less than its inverse, no 8-bit frame can show.
_GAIN_LIMIT = 300.0
# A pixel whose events could multiply its gain by exp() of this has gone mad, and would overflow float32.
_MAD_LOG = 60.0
_BINS_PER_STEP = 4
_MOST_KEYS = 64


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
        gain, count: float32 [64, H, W]; the first `keys` are key planes. Memory beyond them was never touched.
        t_us, rows, columns: of the events [N].
    """

    def __init__(self, bin_us: int, device: torch.device) -> None:
        """Choose the width of a bin, us, and where planes and events are held."""
        self.t0_us = 0
        self.bin_us = bin_us
        self.step_us = _BINS_PER_STEP * bin_us
        self.key_us = self.step_us
        self.keys = 0
        self.gain = self.count = torch.empty((0, 0, 0), device=device)
        self.t_us: NDArray[np.int64] = np.empty(0, np.int64)
        self.rows: NDArray[np.uint16] = np.empty(0, np.uint16)
        self.columns: NDArray[np.uint16] = np.empty(0, np.uint16)
        self._device = device
        self._window: ContentWindow | None = None
        self._counting = False
        self._steps = 0
        self._applied = 0
        self._taken = 0
        self._cells = torch.empty(0, dtype=torch.int64, device=device)
        self._factors = self._weights = torch.empty(0, device=device)
        self._now_gain = self._now_count = torch.empty((0, 0), device=device)
        self._totals: NDArray[np.int64] = np.empty(0, np.int64)
        self._ignored: NDArray[np.bool_] = np.empty(0, np.bool_)

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window extends the one taken last."""
        last = self._window
        return (
            last is not None
            and (window.geometry, window.t0_us) == (last.geometry, last.t0_us)
            and window.t1_us >= last.t1_us
            and window.calibration.says_the_same_as(last.calibration)
            and _begin_with(window.events, last.events, until_us=last.t1_us)
        )

    def take(self, window: ContentWindow, *, counting: bool) -> bool:
        """Take a window's events and sweep through those that are new.

        Args:
            window: its events, span, geometry and calibration.
            counting: without, the counts of events may stay 0.

        Returns:
            True where all key planes that were there stand where they stood.
        """
        keeps = self.leads_to(window) and (self._counting or not counting)
        if not keeps:
            self._begin(window, counting=counting)
        if not self._add(window):
            # A pixel has gone mad: its earlier events are ignored too.
            self._begin(window, counting=self._counting)
            self._add(window)
            keeps = False
        self._window = window
        key_us = self.key_us
        self._run(window.t1_us)
        return keeps and self.key_us == key_us

    def apply(self, gain: Tensor, count: Tensor, events: slice | Tensor) -> None:
        """Let some events change the gain and the count of their pixels, both [H, W]."""
        cells = self._cells[events]
        gain.view(-1).scatter_reduce_(0, cells, self._factors[events], "prod")
        if self._counting:
            count.view(-1).scatter_add_(0, cells, self._weights[events])

    def limit(self, gain: Tensor) -> None:
        """Keep the gain to what frames can show, as at the end of each step."""
        gain.clamp_(1 / _GAIN_LIMIT, _GAIN_LIMIT)

    def _begin(self, window: ContentWindow, *, counting: bool) -> None:
        height, width = window.geometry.height, window.geometry.width
        if self.gain.shape[1:] != (height, width):
            self.gain = torch.empty((_MOST_KEYS, height, width), device=self._device)
            self.count = torch.empty_like(self.gain)
        self.t0_us = window.t0_us // self.bin_us * self.bin_us
        self.key_us = self.step_us
        self.keys = self._steps = self._applied = self._taken = 0
        self._counting = counting
        self._now_gain = torch.ones((height, width), device=self._device)
        self._now_count = torch.zeros_like(self._now_gain)
        hot = window.calibration.hot_pixels
        self._totals = np.zeros(height * width, np.int64)
        self._ignored = np.zeros(height * width, np.bool_) if hot is None else hot.reshape(-1).copy()
        # What a burst of events took is given back.
        self._cells = self._cells.new_empty(0)
        self._factors = self._weights = self._factors.new_empty(0)

    def _add(self, window: ContentWindow) -> bool:
        """Take the events that are new; False where they turn a pixel mad whose earlier events were taken."""
        events, calibration = window.events, window.calibration
        new = slice(self._taken, len(events))
        cells = np.multiply(events.y[new], window.geometry.width, dtype=np.int64)
        cells += events.x[new]
        np.add.at(self._totals, cells, 1)
        strongest = max(calibration.threshold_positive, calibration.threshold_negative)
        mad = cells[(self._totals[cells] * strongest > _MAD_LOG) & ~self._ignored[cells]]
        if len(mad) and self._taken:
            return False
        self._ignored[mad] = True
        factor_of = np.exp([-calibration.threshold_negative, calibration.threshold_positive]).astype(np.float32)
        factors, weights = factor_of[events.p[new]], np.ones(len(cells), np.float32)
        ignored = self._ignored[cells]
        factors[ignored], weights[ignored] = 1.0, 0.0
        self.t_us, self.rows, self.columns = events.t_us, events.y, events.x
        self._cells = _appended(self._cells, self._taken, torch.from_numpy(cells))
        self._factors = _appended(self._factors, self._taken, torch.from_numpy(factors))
        self._weights = _appended(self._weights, self._taken, torch.from_numpy(weights))
        self._taken = len(events)
        return True

    def _run(self, t1_us: int) -> None:
        """Go on to the last step that begins before the window's end, and keep what is to be kept on the way."""
        steps = -(-(t1_us - self.t0_us) // self.step_us)
        while -(-steps * self.step_us // self.key_us) > _MOST_KEYS:
            self._thin()
        # An event at an edge counts from that edge on, as everywhere: G(t) includes the events up to and at t.
        edges_us = self.t0_us + self.step_us * np.arange(self._steps, steps)
        gain, count = self._now_gain, self._now_count
        for k, edge in zip(range(self._steps, steps), np.searchsorted(self.t_us, edges_us, side="right"), strict=True):
            self.apply(gain, count, slice(self._applied, int(edge)))
            self.limit(gain)
            self._applied = int(edge)
            if k * self.step_us % self.key_us == 0:
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


def _appended(buffer: Tensor, used: int, new: Tensor) -> Tensor:
    """Write new values behind those that are used, in larger memory where there is no room."""
    end = used + len(new)
    if end > len(buffer):
        larger = buffer.new_empty(end if used == 0 else 2 * end)
        larger[:used] = buffer[:used]
        buffer = larger
    buffer[used:end] = new
    return buffer
