"""Event-based double integral as re-exposure: V(t) = K G(t), then Eq. 5 over any shutter.

G is the gain of the events (`gain.py`). A captured frame I fixes the constant: I is the mean of V over the frame's
own exposure (Eq. 5), so K = I / mean(G). With two frames the constant moves from the first frame's to the second's
between their exposures, at each pixel sooner or later by how many events lie between it and each frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.integral import anchor_loops, instant_loops, layout_loops, wide_loops
from nire.integral import loops as plane_loops
from nire.integral.gain import Gain
from nire.integral.sweep import Times, per_pixel
from nire.shutter import Shutter
from nire.types import ContentWindow, Frame, Gap

# Light below which a pixel sees its dark current, in levels of 0..255: I + dark is what events are a logarithm of.
DARK_LEVEL = 1.0
# Events that a frame's estimate may be wrong by before any happened: frames are noisy too.
FRAME_NOISE_EVENTS = 0.5
LEAST_TRUST = -10.0
"""Logarithm of the trust in a frame that another one leaves nothing to say, or that a gap cuts off."""
LEAST_HEARD = LEAST_TRUST + 0.2
"""The least of a frame that is not cut off, where the two are to be told apart."""
# Logarithms of the doubt in a frame, by the number of events since; with more of them it is trusted least, whatever its
# share. And a share whose logarithm is less than that, too.
_DOUBT = np.log(np.arange(math.ceil(math.exp(-LEAST_TRUST)) + 1) + FRAME_NOISE_EVENTS).astype(np.float32)
_NO_SHARE = 1e-30
_BANDS_AT_ONCE = 4
_Encode = Callable[[slice], None]


@dataclass(frozen=True, slots=True)
class _Reach:
    """What of one frame matters for blending: its rows' exposures and the gap-free span around them, frame time."""

    start_us: Times
    end_us: Times
    reach_us: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """What a captured frame fixes.

    Attributes:
        constant: float32 [C, H, W], linear light in levels, with `DARK_LEVEL`, where the gain is 1.
        opened, closed: float32 [H, W], events until its exposure begins and ends.
    """

    constant: Tensor
    opened: Tensor
    closed: Tensor


class DoubleIntegral:
    """The content of one window, by physics alone. `build` makes it, `expose` asks it; `build` reuses the memory.

    A window that extends the one before it (`leads_to`) costs what is new in it, and gives the images that it would
    give if it were built from nothing.
    """

    def __init__(self, bin_us: int, device: torch.device | str = "cpu") -> None:
        """Choose the resolution of integrals and the torch device.

        Args:
            bin_us: width of a trapezoid where two frames are blended over an exposure, > 0.
            device: holds planes, events and images.
        """
        self._gain = Gain(bin_us, device)
        self._anchors: list[Anchor] = []
        self._reaches: list[_Reach] = []
        # What anchors are views of: light of frames where the gain is 1, and events until exposures began and ended.
        # Of the latter the first two are what loops expose from: until the first one began and the last one ended.
        self._constants = self._counts = torch.empty(0)
        self._work: layout_loops.Work | None = None

    def build(self, window: ContentWindow, light: Sequence[Tensor]) -> None:
        """Integrate a window's events and anchor them to its frames (g of Eq. 7, by physics).

        Args:
            window: one or two frames, and the events from before the first exposure to after the last.
            light: float32 [C, H, W] for each frame, linear light in levels 0..255.

        Raises:
            ValueError: the window has no frame, or more than two.
        """
        if not 1 <= len(window.frames) <= 2:
            raise ValueError(f"the double integral needs one or two frames, got {len(window.frames)}")
        self._gain.build(window)
        self._anchors = self._room_for(light)
        for anchor, frame, image in zip(self._anchors, window.frames, light, strict=True):
            self._set(anchor, frame.shutter, image)
        offset_us = window.calibration.time_offset_us
        self._reaches = [_reach(frame, window.gaps, offset_us) for frame in window.frames]

    def leads_to(self, window: ContentWindow) -> bool:
        """Tell whether a window extends the one taken last, so that `build` only goes on."""
        return self._gain.leads_to(window)

    def ahead(self, window: ContentWindow) -> None:
        """Integrate the events of a window that is not complete; what is asked meanwhile is not answered well.

        Args:
            window: as far as it is there; no earlier event may come.
        """
        self._gain.build(window)

    def _room_for(self, light: Sequence[Tensor]) -> list[Anchor]:
        """Give anchors that are not written yet, for frames of this light; memory of the last ones is used again."""
        shape = len(light), *light[0].shape
        if self._constants.shape != shape or self._constants.device != light[0].device:
            self._constants = light[0].new_empty(shape)
            self._counts = light[0].new_empty((2 * len(light), *shape[2:]))
        ends = [(0, 1)] if len(light) == 1 else [(0, 2), (3, 1)]
        return [
            Anchor(constant, self._counts[opened], self._counts[closed])
            for constant, (opened, closed) in zip(self._constants, ends, strict=True)
        ]

    def _set(self, anchor: Anchor, shutter: Shutter, light: Tensor) -> None:
        """Write what a frame fixes."""
        opens, closes = _times(shutter)
        if plane_loops.serve(light) and len(opens) == 1 and not self._gain.is_narrow(shutter).all():
            self._anchor(anchor, (opens, closes), light.contiguous().numpy())
            return
        mean, opened, closed = self._gain.anchor(shutter)
        torch.div(light + DARK_LEVEL, mean, out=anchor.constant)
        anchor.opened.copy_(opened)
        anchor.closed.copy_(closed)

    def _anchor(self, anchor: Anchor, exposed: tuple[Times, Times], light: NDArray[np.float32]) -> None:
        """Do the same by loops, for a flat exposure [1] that is not narrow."""
        sweep = self._gain.sweep
        span_us = self._gain.swept_at(exposed[0][:, None])[2], self._gain.swept_at(exposed[1][:, None])[2]
        state = sweep.state_at(span_us[0], changed=True)
        np.copyto(anchor.opened.numpy(), state[1])
        anchor_loops.anchor(
            anchor.constant.numpy(), state, sweep.events_of(*span_us), span_us, sweep.reach_us, light,
            (DARK_LEVEL, float(exposed[1][0] - exposed[0][0])),
        )  # fmt: skip
        np.copyto(anchor.closed.numpy(), state[1])

    def expose(self, shutter: Shutter, out: Tensor | None = None) -> Tensor:
        """Expose one shutter (Eq. 5).

        Args:
            shutter: rows or pixels, frame time, within the window.
            out: float32 [C, H, W] to write to; None = a new one.

        Returns:
            `out`: linear light in levels, >= 0, not clipped at 255.
        """
        if out is None:
            out = torch.empty_like(self._anchors[0].constant)
        opens, closes = _times(shutter)
        narrow = self._gain.is_narrow(shutter)
        if narrow.all():
            self._expose_instant((opens + closes) / 2, out)
        else:
            self._expose_wide(opens, closes, out)
            if narrow.any():
                instant = torch.empty_like(out)
                self._expose_instant((opens + closes) / 2, instant)
                out.copy_(torch.where(self._gain.field(narrow), instant, out))
        return out

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Expose shutters as 8-bit images at once, without their light in between.

        Args:
            shutters: Q of them, as of `expose`.
            images: uint8 [Q, H, W, C], written.
            encoding: of `instant_loops.Target`.

        Returns:
            False where nothing was written, because only `expose` serves: on a GPU, or of pixels that differ.
        """
        if not (plane_loops.serve(images, dtype=torch.uint8) and images.is_contiguous()):
            return False
        t_us = self._gain.instants_of(shutters)
        if t_us is not None:
            self._write_instants(t_us, (instant_loops.NO_LIGHT, images.numpy(), encoding))
            return True
        if any(shutter.t_a_us.ndim > 1 or self._gain.is_narrow(shutter).any() for shutter in shutters):
            return False
        # Light of so many rows at once as stay in the caches until they are encoded.
        channels, _, width = self._constants.shape[1:]
        light = np.empty((channels, _BANDS_AT_ONCE * layout_loops.rows_of(width), width), np.float32)
        for image, shutter in zip(images.numpy(), shutters, strict=True):
            self._write_wide(*_times(shutter), light, partial(_encode_rows, image, light, encoding))
        return True

    @property
    def anchors(self) -> Sequence[Anchor]:
        """What the frames fix, one each."""
        return self._anchors

    @property
    def gain(self) -> Gain:
        """What events did to the light of the window."""
        return self._gain

    def estimates(self, shutter: Shutter) -> tuple[Tensor, Tensor]:
        """Expose one shutter from each frame by itself, without blending.

        Args:
            shutter: rows or pixels, frame time, within the window.

        Returns:
            float32 [N, C, H, W], linear light in levels, >= 0; and float32 [N, 1, H, W], the logarithm of the trust in
            each: the frame's share of time between the exposures (1 within its own), divided by the number of events
            from its exposure to the shutter's middle; never less than `LEAST_TRUST`. Weights proportional to trust
            are those that `expose` blends two frames with at an instant.
        """
        middle_us = (shutter.t_a_us + shutter.t_b_us) / 2
        gain, count = self._gain.at(middle_us)
        if not self._gain.is_narrow(shutter).all():
            gain = self._gain.mean(shutter)
        shares = self.shares(middle_us)
        shape = self._anchors[0].constant.shape
        light = gain.new_empty((len(self._anchors), *shape))
        trust = gain.new_empty((len(self._anchors), 1, *shape[1:]))
        for k, (anchor, share) in enumerate(zip(self._anchors, shares, strict=True)):
            _expose_at(light[k], anchor, gain)
            self._weigh(trust[k, 0], anchor, count, share)
        return light, trust

    def shares(self, t_us: Times, *, least: float = 0.0) -> list[Times]:
        """Tell what share of time each frame has: 1 within its own exposure, 0 within the other's or cut off by a gap.

        Args:
            t_us: frame time, [1], [H] or [H, W].
            least: that a frame has where the other one leaves it none; not of one that a gap cuts off.

        Returns:
            As `t_us`, or [1], of each frame.
        """
        if len(self._anchors) == 1:
            return [np.ones(1)]
        ramp = self._ramp_at(t_us)
        return [
            np.where((share == 0) & self._can_tell(reach, t_us), least, share)
            for share, reach in zip((1 - ramp, ramp), self._reaches, strict=True)
        ]

    def _weigh(self, trust: Tensor, anchor: Anchor, count: Tensor, share: Times) -> None:
        """Write the logarithm of the trust in a frame that has a share of time, [1], [H] or [H, W]."""
        if plane_loops.serve(trust, count):
            events = count.numpy(), anchor.opened.numpy(), anchor.closed.numpy()
            logarithm = np.log(np.maximum(per_pixel(share), _NO_SHARE)).astype(np.float32)
            plane_loops.weigh(trust.numpy(), events, logarithm, _DOUBT, LEAST_TRUST)
            return
        between = torch.maximum(count, anchor.closed) - torch.minimum(count, anchor.opened)
        torch.log(self._gain.field(share) / (between + FRAME_NOISE_EVENTS), out=trust).clamp_min_(LEAST_TRUST)

    def _expose_instant(self, t_us: Times, out: Tensor) -> None:
        if plane_loops.serve(out):
            with instant_loops.written_to(out) as target:
                self._write_instants(per_pixel(t_us)[None], target)
            return
        gain, count = self._gain.at(t_us)
        if len(self._anchors) == 1:
            _expose_at(out, self._anchors[0], gain)
            return
        constant = torch.lerp(self._anchors[0].constant, self._anchors[1].constant, self._trust(t_us, count))
        torch.mul(constant, gain, out=out).sub_(DARK_LEVEL).clamp_min_(0.0)

    def _write_instants(self, t_us: Times, target: instant_loops.Target) -> None:
        """Do the same by loops, for instants [Q, H or 1, W or 1]."""
        share = (np.zeros_like(t_us[:, :1, :1]) if len(self._anchors) == 1 else self._ramp(t_us)).astype(np.float32)
        between = np.zeros(share.shape, np.int64), share
        planes = self._constants.numpy(), self._counts.numpy(), instant_loops.NO_EVEN
        numbers = DARK_LEVEL, FRAME_NOISE_EVENTS
        instant_loops.expose_instants(target, *self._gain.swept_at(t_us), between, *planes, numbers)

    def _expose_wide(self, opens: Times, closes: Times, out: Tensor) -> None:
        if opens.ndim == 1 and plane_loops.serve(out):
            self._write_wide(opens, closes, out.numpy(), None)
            return
        width_us = self._gain.field(np.maximum(closes - opens, 1.0))
        mean = self._gain.area(opens, closes).div_(width_us)
        torch.mul(self._anchors[0].constant, mean, out=out)
        if len(self._anchors) == 2:
            first, second = (anchor.constant for anchor in self._anchors)
            out.addcmul_(second - first, self._share(opens, closes, mean, width_us))
        out.sub_(DARK_LEVEL).clamp_min_(0.0)

    def _write_wide(self, opens: Times, closes: Times, light: NDArray[np.float32], encode: _Encode | None) -> None:
        """Do the same by loops, for an exposure of rows [H or 1].

        Args:
            opens, closes: of the rows, frame time.
            light: [C, H, W], written; or of some rows, where these are encoded before the next ones are written.
            encode: is told which rows are there.
        """
        if len(opens) == 1 and any(len(reach.start_us) > 1 for reach in self._reaches):
            # Each row has its own time between frames that roll.
            opens, closes = (np.repeat(t_us, self._counts.shape[1]) for t_us in (opens, closes))
        span_us, node_us, weights, grid = self._gain.nodes(opens, closes)
        share = np.zeros_like(node_us)
        if len(self._anchors) == 2:
            share[:] = self._ramp((node_us - self._gain.offset_us)[..., None])[..., 0]
        is_alone = (share == share[0]).all(axis=0) & ((share[0] == 0) | (share[0] == 1))
        alone = np.where(is_alone, share[0], -1).astype(np.int64)
        weights /= (span_us[1] - span_us[0])[:, 0]
        nodes = node_us, weights.astype(np.float32), share.astype(np.float32), grid
        sweep = self._gain.sweep
        height, width = self._counts.shape[1:]
        work = self._work_for(len(sweep.swept[1][0]))
        records = layout_loops.lay_out(work, sweep.swept, span_us, grid, len(node_us), (height, width))
        exposed = sweep.state_at(span_us[0]), records, nodes, (self._constants.numpy(), self._counts.numpy()), alone
        tables = wide_loops.tabled(nodes, alone, FRAME_NOISE_EVENTS)
        rows = len(work[1]) // width
        step = light.shape[1] // rows if encode is not None else len(records[0])
        for band in range(0, len(records[0]), step):
            which = band, min(band + step, len(records[0]))
            wide_loops.expose_wide(light, which, *exposed, tables, (DARK_LEVEL, FRAME_NOISE_EVENTS), work)
            if encode is not None:
                encode(slice(which[0] * rows, min(which[1] * rows, height)))

    def _work_for(self, events: int) -> layout_loops.Work:
        """Give memory for exposures of a window with so many events; pages of it that none needs are never touched."""
        width = self._counts.shape[2]
        pixels = width * layout_loops.rows_of(width)
        if self._work is None or not events < len(self._work[0]) <= 4 * events + 1 or len(self._work[1]) != pixels:
            self._work = np.empty(2 * events + 1, layout_loops.EVENT), np.empty(pixels, layout_loops.PIXEL)
        return self._work

    def _share(self, opens: Times, closes: Times, mean: Tensor, width_us: Tensor) -> Tensor:
        """Mean of w G over a shutter; w never falls with time, so 0 or 1 at both ends it is that all along."""
        ramp, ramp_after = self._ramp_at(opens), self._ramp_at(closes)
        constant = ramp == ramp_after
        if constant.all():
            return mean * self._gain.field(ramp)
        share = self._gain.weighed(opens, closes, self._add_blended).div_(width_us)
        return torch.where(self._gain.field(constant), mean * self._gain.field(ramp), share)

    def _add_blended(self, area: Tensor, state: tuple[Tensor, Tensor], t_us: Times, width_us: Times) -> None:
        """Add the part of the gain that is the second frame's, times a width, to `area`."""
        gain, count = state
        if not plane_loops.serve(area, gain, count):
            area.addcmul_(gain * self._trust(t_us, count), self._gain.field(width_us))
            return
        events = count.numpy(), self._anchors[0].opened.numpy(), self._anchors[1].closed.numpy()
        ramp, width = (per_pixel(values).astype(np.float32) for values in (self._ramp_at(t_us), width_us))
        plane_loops.add_blended(area.numpy(), gain.numpy(), events, ramp, width, FRAME_NOISE_EVENTS)

    def _trust(self, t_us: Times, count: Tensor) -> Tensor:
        """Share of the second frame at each pixel, [H, W] or broadcastable to it.

        Each event between a frame and now adds its error to that frame's estimate, so a frame counts for less the
        more of them there are: a pixel over which something passed long ago is the next frame's to tell.
        """
        opened, closed = self._anchors[0].opened, self._anchors[1].closed
        ramp = self._gain.field(self._ramp_at(t_us))
        for_second = ramp * (count - opened).clamp_min_(0.0).add_(FRAME_NOISE_EVENTS)
        for_first = (1 - ramp) * (closed - count).clamp_min_(0.0).add_(FRAME_NOISE_EVENTS)
        return for_second.div_(for_first.add_(for_second))

    @staticmethod
    def _can_tell(reach: _Reach, t_us: Times) -> NDArray[np.bool_]:
        return (t_us >= reach.reach_us[0]) & (t_us <= reach.reach_us[1])

    def _ramp_at(self, t_us: Times) -> Times:
        """Do as `_ramp`, at [1], [H] or [H, W]."""
        ramp = self._ramp(per_pixel(t_us))
        return ramp if t_us.ndim == 2 else ramp[:, 0]

    def _ramp(self, t_us: Times) -> Times:
        """How far time is from the first exposure (0) to the second (1), at [..., H or 1, W or 1].

        Where a gap cuts one frame off, the other answers alone; where gaps cut both off, the nearer one does.
        """
        first, second = self._reaches
        end, start = per_pixel(first.end_us), per_pixel(second.start_us)
        ramp = np.clip((t_us - end) / np.maximum(start - end, 1e-6), 0.0, 1.0)
        step = np.where(t_us - end < start - t_us, 0.0, 1.0)
        by_first, by_second = self._can_tell(first, t_us), self._can_tell(second, t_us)
        alone = np.where(by_first & ~by_second, 0.0, np.where(by_second & ~by_first, 1.0, step))
        return np.where(by_first & by_second, ramp, alone)


def _encode_rows(
    image: NDArray[np.uint8], light: NDArray[np.float32], encoding: NDArray[np.uint8], rows: slice
) -> None:
    """Write some rows of an image from their light."""
    instant_loops.encode(image[rows], light, encoding)


def _expose_at(light: Tensor, anchor: Anchor, gain: Tensor) -> None:
    """Expose one frame's constant: linear light [C, H, W], by a gain [H, W]."""
    torch.mul(anchor.constant, gain, out=light).sub_(DARK_LEVEL).clamp_min_(0.0)


def _reach(frame: Frame, gaps: Sequence[Gap], offset_us: float) -> _Reach:
    """Find the span around a frame's exposure that no gap interrupts, in frame time."""
    shutter = frame.shutter
    first_us, last_us = shutter.first_us, shutter.last_us
    before, after = -math.inf, math.inf
    for gap in gaps:
        t0_us, t1_us = gap.t0_us - offset_us, gap.t1_us - offset_us
        if t1_us <= first_us:
            before = max(before, t1_us)
        elif t0_us >= last_us:
            after = min(after, t0_us)
        else:
            # A hole inside the exposure: the frame is trusted within its own exposure only.
            before, after = max(before, first_us), min(after, last_us)
    return _Reach(*_times(shutter), (before, after))


def _times(shutter: Shutter) -> tuple[Times, Times]:
    """Give a shutter's times, [1] each where it is flat."""
    if shutter.is_flat:
        return shutter.t_a_us.reshape(-1)[:1], shutter.t_b_us.reshape(-1)[:1]
    return shutter.t_a_us, shutter.t_b_us
