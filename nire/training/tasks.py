"""The tasks of training: which shutters the frames of a window had, and which shutters are asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# One query in so many that would be an instant is a short exposure instead.
_SHORT_SHARE = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Shutters:
    """Shutters of a batch of windows, in windows, within 0..1.

    Attributes:
        frames: float32 [b, N, H, 2]; N is 0, 1 or 2.
        asked: float32 [b, Q, H, 2].
    """

    frames: NDArray[np.float32]
    asked: NDArray[np.float32]


def draw_shutters(task: str, rng: np.random.Generator, *, batch: int, queries: int, height: int) -> Shutters:
    """Draw the shutters of one task (one of `nire.training.settings.TASKS`).

    Args:
        task: its name.
        rng: chooses.
        batch: number of windows b.
        queries: Q.
        height: rows H.
    """
    return _TASKS[task](_Draw(rng, batch, queries, height))


@dataclass(frozen=True, slots=True)
class _Draw:
    """What the tasks below draw with."""

    rng: np.random.Generator
    batch: int
    queries: int
    height: int

    def uniform(self, low: float, high: float, count: int = 1) -> Array:
        """Draw numbers: float64 [b, count]."""
        return self.rng.uniform(low, high, (self.batch, count))

    def rows(self, opens: Array, width: Array, read_out: Array) -> NDArray[np.float32]:
        """Make shutters of [b, K] first rows, widths, and times from first to last row: float32 [b, K, H, 2]."""
        opens, width, read_out = np.broadcast_arrays(opens, width, read_out)
        row = np.arange(self.height) / max(1, self.height - 1)
        start = opens[..., None] + read_out[..., None] * row
        return np.clip(np.stack([start, start + width[..., None]], -1), 0, 1).astype(np.float32)

    def within(self, low: Array, high: Array, *, ends: bool = True) -> NDArray[np.float32]:
        """Ask for instants, and some short exposures, of all rows within [b, 1] spans."""
        share = self.uniform(0, 1, self.queries)
        if ends:
            # The middle is what is asked most, and the ends are what is hardest.
            share[:, 0] = 0.5
            if self.queries > 1:
                share[:, 1] = self.rng.choice([0.0, 1.0], self.batch)
        width = self.uniform(0, 0.1, self.queries) * (self.uniform(0, 1, self.queries) < _SHORT_SHARE)
        width[:, 0] = 0
        middle = low + share * (high - low)
        opens = np.clip(middle - width / 2, low, np.maximum(low, high - width))
        return self.rows(opens, np.minimum(width, high - low), np.zeros(1))

    def rolled(self, opens: Array, width: Array, read_out: Array) -> NDArray[np.float32]:
        """Make rolling frames; in some windows the last row is read first."""
        frames = self.rows(opens, width, read_out)
        upwards = self.rng.random(self.batch) < 0.2
        frames[upwards] = frames[upwards][:, :, ::-1]
        return frames


def _deblur(draw: _Draw) -> Shutters:
    if draw.rng.random() < 0.7:
        opens, closes = draw.uniform(0, 0.25), 1 - draw.uniform(0, 0.25)
        return Shutters(draw.rows(opens, closes - opens, np.zeros(1)), draw.within(opens, closes))
    frames = _pair(draw, draw.uniform(0.25, 0.45), np.zeros(1))
    chosen = int(draw.rng.integers(0, 2))
    return Shutters(frames, draw.within(_first(frames, chosen), _last(frames, chosen)))


def _sharp_vfi(draw: _Draw) -> Shutters:
    frames = _pair(draw, draw.uniform(0, 0.06), np.zeros(1))
    return Shutters(frames, draw.within(_last(frames, 0), _first(frames, 1), ends=False))


def _blurry_vfi(draw: _Draw) -> Shutters:
    frames = _pair(draw, draw.uniform(0.15, 0.42), np.zeros(1))
    return Shutters(frames, draw.within(_first(frames, 0), _last(frames, 1), ends=False))


def _unroll(draw: _Draw) -> Shutters:
    return _unrolled(draw, draw.uniform(0, 0.06))


def _unroll_deblur(draw: _Draw) -> Shutters:
    return _unrolled(draw, draw.uniform(0.08, 0.3))


def _live_edge(draw: _Draw) -> Shutters:
    closes, width = draw.uniform(0.25, 0.65), draw.uniform(0, 0.25)
    if draw.rng.random() < 0.7:
        frames = draw.rows(closes - width, width, np.zeros(1))
    else:
        width = np.minimum(width, closes / 3)
        frames = draw.rows(np.concatenate([np.zeros_like(closes), closes - width], 1), width, np.zeros(1))
    return Shutters(frames, draw.within(closes, np.ones_like(closes)))


def _reshutter_long(draw: _Draw) -> Shutters:
    rolling = draw.rng.random() < 0.3
    read_out = draw.uniform(0.1, 0.3) if rolling else np.zeros(1)
    width = draw.uniform(0, 0.25)
    if draw.rng.random() < 0.6:
        frames = _pair(draw, width, read_out)
    else:
        opens = draw.uniform(0, 1) * (1 - width - read_out)
        frames = draw.rolled(opens, width, read_out)
    asked = draw.uniform(0.2, 0.75, draw.queries)
    roll = draw.uniform(-0.25, 0.25, draw.queries) * (draw.uniform(0, 1, draw.queries) < 0.5)
    opens = draw.uniform(0, 1, draw.queries) * (1 - asked - np.abs(roll)) + np.maximum(-roll, 0)
    return Shutters(frames, draw.rows(opens, asked, roll))


def _events_only(draw: _Draw) -> Shutters:
    frames = np.zeros((draw.batch, 0, draw.height, 2), np.float32)
    return Shutters(frames, draw.within(np.full((draw.batch, 1), 0.05), np.full((draw.batch, 1), 0.95)))


def _unrolled(draw: _Draw, width: Array) -> Shutters:
    if draw.rng.random() < 0.5:
        read_out = draw.uniform(0.35, 0.68)
        opens = draw.uniform(0, 1) * (1 - width - read_out)
        frames = draw.rolled(opens, width, read_out)
    else:
        frames = _pair(draw, width, np.minimum(draw.uniform(0.2, 0.4), 0.48 - width))
    return Shutters(frames, draw.within(_first(frames, 0), _last(frames, frames.shape[1] - 1)))


def _pair(draw: _Draw, width: Array, read_out: Array) -> NDArray[np.float32]:
    """Take two frames, one near each end of the window."""
    first = draw.uniform(0, 0.06)
    second = 1 - draw.uniform(0, 0.06) - width - read_out
    return draw.rolled(np.concatenate([first, np.maximum(second, first)], 1), width, read_out)


def _first(frames: NDArray[np.float32], index: int) -> Array:
    return frames[:, index, :, 0].min(1, keepdims=True).astype(np.float64)


def _last(frames: NDArray[np.float32], index: int) -> Array:
    return frames[:, index, :, 1].max(1, keepdims=True).astype(np.float64)


_TASKS: dict[str, Callable[[_Draw], Shutters]] = {
    "deblur": _deblur,
    "sharp_vfi": _sharp_vfi,
    "blurry_vfi": _blurry_vfi,
    "unroll": _unroll,
    "unroll_deblur": _unroll_deblur,
    "live_edge": _live_edge,
    "reshutter_long": _reshutter_long,
    "events_only": _events_only,
}
