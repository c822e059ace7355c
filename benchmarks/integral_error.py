"""The error of binned integrals against the exact per-event one: `python -m benchmarks.integral_error`.

One frame of the synthetic camera with the events around it, thresholds as estimated, all pixels. The reference is
float64 and knows no bins: between two events of a pixel its gain is constant, so every integral is a sum over events.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from drivers.cameras.synthetic import open_source
from drivers.packets.cleaning import cleaned
from nire.backends import passthrough
from nire.integral.double_integral import DARK_LEVEL, DoubleIntegral
from nire.shutter import Shutter
from nire.types import ContentWindow, EventBatch, Frame, Gap
from stream.clock import now_ns
from stream.config import load_config
from stream.session.session import Session

BINS_US = (100, 250, 500, 1000, 2000)
WIDTHS_US = (0, 2000, 5000, 10_000, 20_000)
PLACES = 8
"""Shutters of each width, spread over what the window covers."""
_WINDOW = 2  # the third frame: thresholds are estimated by then
_WORST = 99.9  # percentile

Image = NDArray[np.float64]


class ExactIntegral:
    """The re-exposure of a window of one frame with a global shutter, event by event."""

    def __init__(self, window: ContentWindow) -> None:
        """Sort the events by pixel and anchor the frame.

        Raises:
            ValueError: the window has not one frame, or a rolling shutter.
        """
        if len(window.frames) != 1 or window.frames[0].row_delay_us:
            raise ValueError("the reference handles one frame with a global shutter")
        self._shape = (window.geometry.height, window.geometry.width)
        self._take_events(window)
        frame = window.frames[0]
        own = self._mean_gain(float(frame.exposure_start_us), float(frame.exposure_end_us))
        self._constant = (frame.pixels[..., 0] + DARK_LEVEL) / own

    def expose(self, t_a_us: float, t_b_us: float) -> Image:
        """Expose all pixels over [t_a, t_b]: float64 [H, W], linear light in levels."""
        return np.maximum(self._constant * self._mean_gain(t_a_us, t_b_us) - DARK_LEVEL, 0.0)

    def _take_events(self, window: ContentWindow) -> None:
        events, calibration = window.events, window.calibration
        cells = events.y.astype(np.int64) * window.geometry.width + events.x
        chosen = np.ones(len(events), bool)
        if calibration.hot_pixels is not None:
            chosen = ~calibration.hot_pixels.ravel()[cells]
        order = np.argsort(cells[chosen], kind="stable")
        self._cells = cells[chosen][order]
        self._t_us = events.t_us[chosen][order] - calibration.time_offset_us
        step = np.where(events.p[chosen][order] > 0, calibration.threshold_positive, -calibration.threshold_negative)
        total = np.cumsum(step)
        starts = np.searchsorted(self._cells, self._cells)  # of each event's pixel
        level = total - (total - step)[starts]
        self._jump = np.exp(level) - np.exp(level - step)

    def _mean_gain(self, t_a_us: float, t_b_us: float) -> Image:
        """Mean of G over [t_a, t_b]: every event adds its jump for the share of the shutter that lies after it."""
        if t_a_us == t_b_us:
            share = (self._t_us <= t_a_us).astype(np.float64)
        else:
            share = (t_b_us - np.clip(self._t_us, t_a_us, t_b_us)) / (t_b_us - t_a_us)
        change: Image = np.bincount(self._cells, self._jump * share, self._shape[0] * self._shape[1]).astype(np.float64)
        return 1.0 + change.reshape(self._shape)


@dataclass(frozen=True, slots=True)
class Row:
    """Error of one bin width, in levels of 0..255, one value for each of `WIDTHS_US`."""

    bin_us: int
    rms: tuple[float, ...]
    worst: tuple[float, ...]


def camera_window() -> ContentWindow:
    """Take one calibrated window of the synthetic camera at its default settings."""
    with open_source(live=False, seconds=0.16) as source:
        config = load_config(None, ["plan.name=deblur"])
        reconstructor = passthrough.create(source.info.geometry)
        session = Session(config, source.info, reconstructor, freshest=False, clock=now_ns, reach_us=5000)
        packets = (packet for packet in cleaned(source) if isinstance(packet, EventBatch | Frame | Gap))
        return next(itertools.islice(session.windows(packets), _WINDOW, None))


def measure(window: ContentWindow, bins_us: Sequence[int] = BINS_US) -> list[Row]:
    """Compare all pixels of all shutters, for each bin width."""
    exact = ExactIntegral(window)
    truth = {spans: exact.expose(*spans) for width_us in WIDTHS_US for spans in _spans(window, width_us)}
    return [_compared(window, bin_us, truth) for bin_us in bins_us]


def table(rows: Sequence[Row]) -> str:
    """Lay the rows out as a markdown table."""
    head = [f"{width / 1000:g} ms" if width else "instant" for width in WIDTHS_US]
    lines = ["| `planes.bin_us` | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    for row in rows:
        cells = [f"{rms:.3f} ({worst:.2f})" for rms, worst in zip(row.rms, row.worst, strict=True)]
        lines.append(f"| {row.bin_us} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spans(window: ContentWindow, width_us: int) -> list[tuple[float, float]]:
    # Odd places: a shutter that begins and ends at bin edges would flatter the bins.
    first_us, last_us = window.covered_us
    starts = first_us + (np.arange(PLACES) + 0.37) / PLACES * (last_us - width_us - first_us)
    return [(float(np.floor(start)), float(np.floor(start)) + width_us) for start in starts]


def _compared(window: ContentWindow, bin_us: int, truth: dict[tuple[float, float], Image]) -> Row:
    integral = DoubleIntegral(bin_us)
    light = [torch.from_numpy(frame.pixels).permute(2, 0, 1).float() for frame in window.frames]
    integral.build(window, light)
    rms, worst = [], []
    for width_us in WIDTHS_US:
        errors = []
        for span in _spans(window, width_us):
            shutter = Shutter.flat(*span, window.geometry.height)
            errors.append(integral.expose(shutter)[0].numpy() - truth[span])
        rms.append(float(np.sqrt(np.mean(np.square(errors)))))
        worst.append(float(np.percentile(np.abs(errors), _WORST)))
    return Row(bin_us, tuple(rms), tuple(worst))


def main() -> int:
    """Print what was measured, as markdown."""
    window = camera_window()
    calibration = window.calibration
    print(
        f"{len(window.events):,} events in {(window.t1_us - window.t0_us) / 1000:g} ms on {window.geometry.width} x "
        f"{window.geometry.height} pixels, thresholds {calibration.threshold_positive:.3f} and "
        f"{calibration.threshold_negative:.3f}, {PLACES} shutters of each width.\n"
        f"Error against the exact integral, levels of 0..255: RMS (and {_WORST:g}th percentile).\n"
    )
    print(table(measure(window)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
