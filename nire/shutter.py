"""The shutter: when each row or pixel of an image is exposed (paper Sec. 3, Eqs. 1-4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shutter:
    """An exposure period [t_a, t_b] for every row (or pixel) of an image (Eq. 3).

    `t_a == t_b` is an instant: the normalised shutter function is then a delta (Eq. 4).

    Attributes:
        t_a_us: float64 [H] or [H, W], start of the exposure, device microseconds.
        t_b_us: same shape, its end, `t_b_us >= t_a_us` everywhere.
    """

    t_a_us: Times
    t_b_us: Times

    def __post_init__(self) -> None:
        """Check shapes and order.

        Raises:
            ValueError: shapes differ, are not [H] or [H, W], hold NaN, or an end lies before its start.
        """
        if self.t_a_us.shape != self.t_b_us.shape or self.t_a_us.ndim not in (1, 2) or self.t_a_us.size == 0:
            raise ValueError(
                f"a shutter needs two equal arrays [H] or [H, W], got {self.t_a_us.shape} and {self.t_b_us.shape}"
            )
        # Forty are made for each window, live: what is not finite leaves no finite length either.
        with np.errstate(invalid="ignore", over="ignore"):
            lengths_us = self.t_b_us - self.t_a_us
        if lengths_us.min() >= 0 and lengths_us.max() < np.inf:
            return
        if not (np.isfinite(self.t_a_us).all() and np.isfinite(self.t_b_us).all()):
            raise ValueError("a shutter's times must be finite")
        if (self.t_b_us < self.t_a_us).any():
            raise ValueError("a shutter must not close before it opens (t_b_us < t_a_us)")

    @classmethod
    def flat(cls, t_a_us: float, t_b_us: float, height: int) -> Shutter:
        """Global shutter: all `height` rows are exposed over [t_a_us, t_b_us]."""
        return cls.rolling(t_a_us, t_b_us, row_delay_us=0.0, height=height)

    @classmethod
    def rolling(cls, t_a_us: float, t_b_us: float, *, row_delay_us: float, height: int) -> Shutter:
        """Rolling shutter: row y is exposed over [t_a_us + alpha y, t_b_us + alpha y], alpha = `row_delay_us`."""
        delay = row_delay_us * np.arange(height, dtype=np.float64)
        return cls(t_a_us + delay, t_b_us + delay)

    @classmethod
    def instant(cls, t_us: float, height: int, row_delay_us: float = 0.0) -> Shutter:
        """An instant of (the first row at) `t_us`: t_a = t_b, the delta of Eq. 4."""
        return cls.rolling(t_us, t_us, row_delay_us=row_delay_us, height=height)

    def __repr__(self) -> str:
        """Say when the first and the last row (or pixel) are exposed, in one line."""
        ends = [f"[{_plain(self.t_a_us.flat[k])}, {_plain(self.t_b_us.flat[k])}]" for k in (0, -1)]
        size = " x ".join(str(n) for n in reversed(self.t_a_us.shape))
        rows = "rows" if self.t_a_us.ndim == 1 else "pixels"
        return f"Shutter({' ... '.join(dict.fromkeys(ends))} us, {size} {rows})"

    @property
    def height(self) -> int:
        """Number of rows H."""
        return int(self.t_a_us.shape[0])

    @property
    def first_us(self) -> float:
        """The earliest moment any row is exposed."""
        return float(self.t_a_us.min())

    @property
    def last_us(self) -> float:
        """The latest moment any row is exposed."""
        return float(self.t_b_us.max())

    @property
    def mid_us(self) -> float:
        """Middle of the middle row's exposure: the one instant that stands for the image."""
        begins, ends = self.t_a_us[self.height // 2], self.t_b_us[self.height // 2]
        # It is asked of every image several times, and the mean of one number costs as much as that of a row.
        return float(begins + ends if self.t_a_us.ndim == 1 else begins.mean() + ends.mean()) / 2

    @property
    def row_delay_us(self) -> float:
        """Read-out delay between neighbouring rows (alpha), the mean over the image; 0 for a single row."""
        if self.height < 2:
            return 0.0
        last, first = self.t_a_us[-1], self.t_a_us[0]
        return float(last - first if self.t_a_us.ndim == 1 else last.mean() - first.mean()) / (self.height - 1)

    @property
    def is_instant(self) -> bool:
        """True where no row gathers light over time."""
        return bool((self.t_a_us == self.t_b_us).all())

    @property
    def is_flat(self) -> bool:
        """True where all rows and pixels are exposed alike."""
        return bool((self.t_a_us == self.t_a_us.flat[0]).all() and (self.t_b_us == self.t_b_us.flat[0]).all())

    def normalised(self, t0_us: float, t1_us: float) -> tuple[Times, Times]:
        """Times relative to a window, 0 at `t0_us` and 1 at `t1_us`, as the time encoding wants them (Eq. 10).

        Returns:
            (t_a, t_b): float64, the shutter's shape; inside [0, 1] for a shutter inside the window.

        Raises:
            ValueError: the window is empty.
        """
        if t1_us <= t0_us:
            raise ValueError(f"a window needs t1_us > t0_us, got [{t0_us}, {t1_us})")
        span = t1_us - t0_us
        return (self.t_a_us - t0_us) / span, (self.t_b_us - t0_us) / span


def _plain(t_us: float) -> str:
    """Write a time with all its digits before the point, and at most three after it."""
    return f"{t_us:.3f}".rstrip("0").rstrip(".")
