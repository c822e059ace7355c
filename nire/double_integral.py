"""Event-based double integral as re-exposure: V(t) = K exp(c E(t)), then Eq. 5 over any shutter.

E(t) is the signed sum of the events of a pixel up to t, c its contrast thresholds. A captured frame I fixes the
constant: I is the mean of V over the frame's own exposure (Eq. 5), so K = I / mean(exp(c E)). With two frames the
constant moves from the first frame's to the second's between their exposures. Everything a query needs is a
prefix sum over time, made once per window: a query is a difference of two planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.planes import EventPlanes
from nire.shutter import Shutter
from nire.types import Calibration, Frame, Gap

# Light below which a pixel is dark current, in levels of 0..255: I + dark is what the events' logarithm sees.
DARK_LEVEL = 1.0
# exp() of more than this overflows products in float32; only a pixel gone mad gets here.
_LOG_LIMIT = 40.0


@dataclass(frozen=True, slots=True)
class _Reach:
    """What of one frame matters for blending: rows' exposures and the gap-free span around them, in plane time."""

    start_us: NDArray[np.float64]
    end_us: NDArray[np.float64]
    reach_us: tuple[float, float]


class DoubleIntegral:
    """The content of one window, by physics alone. `build` makes it, `expose` asks it; memory is reused by `build`.

    Times given to it are frame time; the calibration's offset is added inside to reach the events.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Choose the torch device that holds planes and images."""
        self._device = torch.device(device)
        self._log_gain = torch.empty(0, device=self._device)  # c E at bin edges, [bins + 1, H, W]
        self._scratch = torch.empty(0, device=self._device)
        self._integral: Tensor | None = None
        self._blended: Tensor | None = None
        self._constants: list[Tensor] = []
        self._reaches: list[_Reach] = []
        self._t0_us = 0.0
        self._bin_us = 1.0
        self._bins = 0
        self._offset_us = 0.0

    def build(
        self,
        frames: Sequence[Frame],
        light: Sequence[Tensor],
        planes: EventPlanes,
        gaps: Sequence[Gap],
        calibration: Calibration,
    ) -> None:
        """Integrate a window's events and anchor them to its frames (Eq. 7 by physics).

        Args:
            frames: one or two, in order; for their shutters.
            light: float32 [C, H, W] each, linear light in levels 0..255.
            planes: counts over a span that holds the frames' exposures (shifted by the time offset).
            gaps: missing spans, event time.
            calibration: thresholds and the time offset.

        Raises:
            ValueError: no frame, or more than two.
        """
        if not 1 <= len(frames) <= 2:
            raise ValueError(f"the double integral needs one or two frames, got {len(frames)}")
        self._t0_us, self._bin_us = float(planes.t0_us), float(planes.bin_us)
        self._offset_us = calibration.time_offset_us
        self._integral = self._blended = None
        self._integrate_events(planes, calibration)
        self._reaches = [self._reach(frame, gaps) for frame in frames]
        self._constants = [
            (image + DARK_LEVEL) / self._mean_gain(frame.shutter) for frame, image in zip(frames, light, strict=True)
        ]

    def expose(self, shutters: Sequence[Shutter]) -> Tensor:
        """Expose Q shutters (Eq. 5).

        Args:
            shutters: rows or pixels, frame time, within the planes' span.

        Returns:
            float32 [Q, C, H, W], linear light in levels; not clipped at 255. Valid until the next call.
        """
        channels, height, width = self._constants[0].shape
        needed = (len(shutters), channels, height, width)
        if self._scratch.shape[1:] != needed[1:] or self._scratch.shape[0] < needed[0]:
            self._scratch = torch.empty(needed, device=self._device)
        for image, shutter in zip(self._scratch, shutters, strict=False):
            self._expose_one(shutter, image)
        return self._scratch[: len(shutters)]

    def _expose_one(self, shutter: Shutter, out: Tensor) -> None:
        opens, closes = shutter.t_a_us, shutter.t_b_us
        narrow = self._is_narrow(opens, closes)
        if not narrow.all():
            integral, blended = self._prefixes()
            width_us = self._field(np.maximum(closes - opens, 1.0))
            torch.mul(self._constants[0], self._between(integral, opens, closes).div_(width_us), out=out)
            if blended is not None:
                share = self._between(blended, opens, closes).div_(width_us)
                out.addcmul_(self._constants[1] - self._constants[0], share)
        if narrow.any():
            mid = (opens + closes) / 2
            constant, gain = self._constant_at(mid), self._gain_at(mid)
            if narrow.all():
                torch.mul(constant, gain, out=out)
            else:
                out.copy_(torch.where(self._mask(narrow), constant * gain, out))
        out.sub_(DARK_LEVEL).clamp_min_(0.0)

    def _is_narrow(self, opens: NDArray[np.float64], closes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Tell which rows or pixels are exposed for a bin or less: their middle stands for them (a delta, Eq. 4).

        A difference of prefix sums over so little time would be lost in the rounding of float32.
        """
        return closes - opens <= self._bin_us

    # Events

    def _integrate_events(self, planes: EventPlanes, calibration: Calibration) -> None:
        counts = planes.counts
        bins, _, height, width = counts.shape
        self._bins = bins
        if self._log_gain.shape[0] < bins + 1 or self._log_gain.shape[1:] != (height, width):
            self._log_gain = torch.empty((bins + 1, height, width), device=self._device)
        log_gain = self._log_gain
        log_gain[0].zero_()
        up, down = calibration.threshold_positive, calibration.threshold_negative
        for k in range(bins):
            torch.add(log_gain[k], counts[k, 1], alpha=up, out=log_gain[k + 1])
            log_gain[k + 1].sub_(counts[k, 0], alpha=down)

    def _gain_at(self, t_us: NDArray[np.float64]) -> Tensor:
        """Gain exp(c E) at a time per image, row or pixel; the logarithm is linear within a bin."""
        return self._sample(self._log_gain, t_us, 0, self._bins).clamp_(-_LOG_LIMIT, _LOG_LIMIT).exp_()

    def _sample(self, field: Tensor, t_us: NDArray[np.float64], first_bin: int, bins: int) -> Tensor:
        """Read bin-edge planes [bins + 1, H, W] at a time per image, row or pixel, linear within a bin."""
        origin_us = self._t0_us + first_bin * self._bin_us
        position = np.clip((t_us + self._offset_us - origin_us) / self._bin_us, 0.0, float(bins))
        index = np.minimum(position.astype(np.int64), bins - 1)
        part = position - index
        if _uniform(position):
            k = int(index.flat[0])
            return torch.lerp(field[k], field[k + 1], float(part.flat[0]))
        low, high = self._gather(field, index), self._gather(field, index + 1)
        return torch.lerp(low, high, self._field(part))

    def _gather(self, field: Tensor, index: NDArray[np.int64]) -> Tensor:
        chosen = torch.from_numpy(index).to(self._device)
        rows = torch.arange(field.shape[1], device=self._device)
        if index.ndim == 1:
            return field[chosen, rows]
        columns = torch.arange(field.shape[2], device=self._device)
        return field[chosen, rows[:, None], columns[None, :]]

    # Time integrals

    def _mean_gain(self, shutter: Shutter) -> Tensor:
        """Mean of exp(c E) over a captured exposure: what its frame is divided by."""
        opens, closes = shutter.t_a_us, shutter.t_b_us
        if self._is_narrow(opens, closes).all():
            return self._gain_at((opens + closes) / 2)
        low = self._bin_of(float(opens.min()))
        prefix = self._integrate(low, self._bin_of(float(closes.max())) + 1, weight=None)
        return self._between(prefix, opens, closes, first_bin=low).div_(self._field(closes - opens))

    def _prefixes(self) -> tuple[Tensor, Tensor | None]:
        """Prefix sums over the whole window, made when the first shutter with a width is asked for."""
        if self._integral is None:
            self._integral = self._integrate(0, self._bins, weight=None)
            if len(self._reaches) == 2:
                edges_us = self._t0_us - self._offset_us + self._bin_us * np.arange(self._bins + 1)
                self._blended = self._integrate(0, self._bins, weight=self._weight(edges_us[:, None]))
        return self._integral, self._blended

    def _integrate(self, low: int, high: int, weight: NDArray[np.float64] | None) -> Tensor:
        """Prefix integral of w exp(c E) dt over bins [low, high), trapezoids: [high - low + 1, H, W], in us."""
        gain = self._log_gain[low : high + 1].clamp(-_LOG_LIMIT, _LOG_LIMIT).exp_()
        if weight is not None:
            gain *= torch.from_numpy(weight[low : high + 1].astype(np.float32)).to(self._device)[..., None]
        prefix = torch.empty_like(gain)
        prefix[0].zero_()
        half = self._bin_us / 2
        for k in range(high - low):
            torch.add(prefix[k], gain[k], alpha=half, out=prefix[k + 1])
            prefix[k + 1].add_(gain[k + 1], alpha=half)
        return prefix

    def _between(
        self, prefix: Tensor, opens: NDArray[np.float64], closes: NDArray[np.float64], first_bin: int = 0
    ) -> Tensor:
        bins = prefix.shape[0] - 1
        return self._sample(prefix, closes, first_bin, bins) - self._sample(prefix, opens, first_bin, bins)

    def _bin_of(self, t_us: float) -> int:
        return int(np.clip((t_us + self._offset_us - self._t0_us) // self._bin_us, 0, self._bins - 1))

    # Frames

    def _constant_at(self, t_us: NDArray[np.float64]) -> Tensor:
        """Constant K at a time: the first frame's, the second's, or between, [C, H, W]."""
        if len(self._constants) == 1:
            return self._constants[0]
        weight = self._weight(t_us)
        if _uniform(weight):
            return torch.lerp(self._constants[0], self._constants[1], float(weight.flat[0]))
        return torch.lerp(self._constants[0], self._constants[1], self._field(weight))

    def _weight(self, t_us: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the second frame at times [H], [H, W] or [edges, 1]: 0 in the first exposure, 1 in the second.

        Between the exposures it grows with time. Where a gap cuts one frame off, the other answers alone; where
        gaps cut both off, the nearer one does.
        """
        first, second = self._reaches
        end, start = first.end_us, second.start_us
        if t_us.ndim == 2 and t_us.shape[1] > 1:
            end, start = end[:, None], start[:, None]
        ramp = np.clip((t_us - end) / np.maximum(start - end, 1e-6), 0.0, 1.0)
        step = np.where(t_us - end < start - t_us, 0.0, 1.0)
        by_first = (t_us >= first.reach_us[0]) & (t_us <= first.reach_us[1])
        by_second = (t_us >= second.reach_us[0]) & (t_us <= second.reach_us[1])
        return np.select(
            [by_first & by_second, by_first, by_second], [ramp, np.zeros_like(ramp), np.ones_like(ramp)], step
        )

    def _reach(self, frame: Frame, gaps: Sequence[Gap]) -> _Reach:
        """Find the span around a frame's exposure that no gap interrupts, in frame time."""
        shutter = frame.shutter
        first_us, last_us = shutter.first_us, shutter.last_us
        before, after = -np.inf, np.inf
        for gap in gaps:
            t0_us, t1_us = gap.t0_us - self._offset_us, gap.t1_us - self._offset_us
            if t1_us <= first_us:
                before = max(before, t1_us)
            elif t0_us >= last_us:
                after = min(after, t0_us)
            elif t1_us > first_us and t0_us < last_us:
                # A hole inside the exposure: the frame is trusted within its exposure only.
                before, after = max(before, first_us), min(after, last_us)
        return _Reach(shutter.t_a_us, shutter.t_b_us, (before, after))

    # Shapes

    def _field(self, values: NDArray[np.float64]) -> Tensor:
        """Lay values per row or per pixel out against [C, H, W]."""
        tensor = torch.from_numpy(np.asarray(values, np.float32)).to(self._device)
        return tensor[:, None] if tensor.ndim == 1 else tensor

    def _mask(self, values: NDArray[np.bool_]) -> Tensor:
        tensor = torch.from_numpy(values).to(self._device)
        return tensor[:, None] if tensor.ndim == 1 else tensor


def _uniform(values: NDArray[np.float64]) -> bool:
    return bool((values == values.flat[0]).all())
