"""Key planes exposed: the events of a window carry light from each plane to the next, for any shutter (Eqs. 1 to 5).

Between planes k and k + 1, V = G ((1 - w) K_k + w K_k+1) with the gain G of the events, a plane over its own gain
K = P / G(t_k), and the share w of the bin's events that came before; of time, where a pixel has none. So light meets
both planes, keeps the microseconds of its events in between, and what is wrong with them ends at the next plane. Where
events are not believed (`belief.py`), light goes evenly with time from plane to plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nire.explicit import loops
from nire.integral import instant_loops
from nire.integral import loops as plane_loops
from nire.integral.double_integral import DARK_LEVEL
from nire.integral.gain import Gain, is_uniform
from nire.integral.sweep import Times, per_pixel
from nire.shutter import Shutter

# So bright that what an exposure clips at black is a millionth of it.
_BRIGHT = 1e6
_Bin = tuple[tuple[NDArray[np.float32], ...], NDArray[np.float32]]


class KeyPlanes:
    """The explicit content of one window."""

    def __init__(
        self,
        gain: Gain,
        times_us: NDArray[np.float64],
        planes: Tensor,
        states: tuple[Tensor, Tensor] | None = None,
        belief: Tensor | None = None,
    ) -> None:
        """Take the planes.

        Args:
            gain: of the window's events; it must not take another window while this content is asked.
            times_us: float64 [K + 1], frame time, ascending.
            planes: float32 [K + 1, C, H, W], linear light in levels.
            states: of `states_at` these times, where they were read before.
            belief: float32 [H, W], share of the light that follows the pixel's events; None = all of it.
        """
        self._gain = gain
        self._times_us = times_us
        gains, self._counts = states or states_at(gain, times_us)
        self._constants, self._even = _parted(planes, gains, belief)
        self._prefixes = [torch.zeros_like(self._constants[0])]
        self._bins: dict[int, _Bin] = {}
        self._work: NDArray[np.float32] | None = None

    def expose(self, shutter: Shutter, out: Tensor | None = None) -> Tensor:
        """Expose one shutter.

        Args:
            shutter: rows or pixels, frame time; before the first plane and after the last one, events alone carry.
            out: float32 [C, H, W] to write to; None = a new one.

        Returns:
            `out`: linear light in levels, >= 0, not clipped at 255.
        """
        if out is None:
            out = torch.empty_like(self._constants[0])
        opens, closes = (
            np.clip(t_us, self._times_us[0], self._times_us[-1]) for t_us in (shutter.t_a_us, shutter.t_b_us)
        )
        narrow = self._gain.is_narrow(shutter)
        if narrow.all():
            return self._expose_instant((opens + closes) / 2, out)
        width = self._gain.field(np.maximum(closes - opens, 1e-3))
        torch.div(self._between(opens, closes), width, out=out).sub_(DARK_LEVEL).clamp_min_(0)
        if narrow.any():
            instant = self._expose_instant((opens + closes) / 2, torch.empty_like(out))
            out.copy_(torch.where(self._gain.field(narrow), instant, out))
        return out

    def show(self, shutters: Sequence[Shutter], images: Tensor, encoding: NDArray[np.uint8]) -> bool:
        """Expose shutters as 8-bit images at once; arguments and answer as of `DoubleIntegral.show`."""
        if not (plane_loops.serve(images, dtype=torch.uint8) and images.is_contiguous()):
            return False
        t_us = self._gain.instants_of(shutters)
        if t_us is not None:
            at_us = np.clip(t_us, self._times_us[0], self._times_us[-1])
            self._write_instants(at_us, (instant_loops.NO_LIGHT, images.numpy(), encoding))
        return t_us is not None

    def _expose_instant(self, t_us: Times, out: Tensor) -> Tensor:
        if plane_loops.serve(out):
            with instant_loops.written_to(out) as target:
                self._write_instants(per_pixel(t_us)[None], target)
            return out
        gain, count = self._gain.at(t_us, shared=True)
        key, share = self._place(t_us)
        first, second, before, after = self._bounds(key)
        whole = after - before
        weight = ((count - before) / whole.clamp_min(1e-6)).clamp(0, 1)
        weight = torch.where(whole > 1e-6, weight, torch.from_numpy(share).to(weight.device))
        torch.mul(torch.lerp(first, second, weight), gain, out=out)
        if self._even is not None:
            out.add_(self._evenly(key, share))
        return out.sub_(DARK_LEVEL).clamp_min_(0)

    def _evenly(self, key: NDArray[np.int64], share: NDArray[np.float32]) -> Tensor:
        """Give light that follows no events, so far from the planes `key` to the next, [H or 1, W or 1]: [C, H, W]."""
        assert self._even is not None
        if key.size == 1:
            first, second = self._even[int(key.flat[0])], self._even[int(key.flat[0]) + 1]
        else:
            first, second = _gathered(self._even, key), _gathered(self._even, key + 1)
        shares = torch.from_numpy(share).to(first.device)
        return torch.lerp(first.float(), second.float(), shares).div_(instant_loops.EVEN_STEPS)

    def _write_instants(self, t_us: Times, target: instant_loops.Target) -> None:
        """Do the same by loops, for instants [Q, H or 1, W or 1]."""
        key = self._key_of(t_us)
        planes = self._constants.numpy(), self._counts.numpy()
        even = instant_loops.NO_EVEN if self._even is None else self._even.numpy()
        between = key, self._share_of(t_us, key)
        instant_loops.expose_instants(target, *self._gain.swept_at(t_us), between, *planes, even, (DARK_LEVEL, 0.0))

    def _between(self, opens: Times, closes: Times) -> Tensor:
        """Integral of light and dark current over a span: [C, H, W], levels times us."""
        if not (is_uniform(opens) and is_uniform(closes)):
            return self._until(closes).sub_(self._until(opens))
        open_us, close_us = opens.reshape(-1)[:1], closes.reshape(-1)[:1]
        first, last = (int(self._key_of(t_us)[0]) for t_us in (open_us, close_us))
        # Whole bins between are known; what is left of the first and of the last is gone through, event by event.
        area = self._prefix(last) - self._prefix(first + 1) if last > first + 1 else torch.zeros_like(self._prefixes[0])
        for k in {first, last}:
            begin_us, end_us = np.maximum(open_us, self._times_us[k]), np.minimum(close_us, self._times_us[k + 1])
            area = self._integrated(area, begin_us, end_us, np.full((1, 1), k))
        return area

    def _until(self, t_us: Times) -> Tensor:
        """Integral of light and dark current from the first plane on: [C, H, W], levels times us."""
        key, _ = self._place(t_us)
        self._prefix(int(key.max()))
        if key.size == 1:
            area = self._prefixes[int(key.flat[0])].clone()
        else:
            area = _gathered(torch.stack(self._prefixes), key)
        begin_us = self._times_us[key[:, 0] if t_us.ndim == 1 else key]
        return self._integrated(area, begin_us, t_us, key)

    def _prefix(self, key: int) -> Tensor:
        """Integral from the first plane to another one; kept."""
        while len(self._prefixes) <= key:
            k = len(self._prefixes) - 1
            begin, end = (np.array([self._times_us[n]]) for n in (k, k + 1))
            self._prefixes.append(self._integrated(self._prefixes[k].clone(), begin, end, np.full((1, 1), k)))
        return self._prefixes[key]

    def _integrated(self, area: Tensor, from_us: Times, until_us: Times, key: NDArray[np.int64]) -> Tensor:
        """Add the integral over a span within the bins after the planes `key`, [H or 1, W or 1]."""
        if from_us.shape != until_us.shape:
            shape = np.broadcast_shapes(from_us.shape, until_us.shape)
            from_us, until_us = _laid_out(from_us, shape), _laid_out(until_us, shape)
        if plane_loops.serve(area):
            shape = np.broadcast_shapes(key.shape, per_pixel(from_us).shape)
            shares = tuple(_laid_out(self._share_of(per_pixel(t_us), key), shape) for t_us in (from_us, until_us))
            state, span_us = self._gain.state_over(from_us, until_us)
            times = tuple(_laid_out(per_pixel(t_us), shape) for t_us in span_us)
            sweep, work = self._gain.sweep, self._work_for(len(area))
            events = sweep.events_of(*span_us)
            loops.integrate(area.numpy(), work, state, events, times, sweep.reach_us, *self._bin_of(key), shares)
            if self._even is not None:
                # Of what goes evenly, the light in the middle of the span is its mean.
                middle = self._evenly(_laid_out(key, shape), (shares[0] + shares[1]) / 2)
                area.addcmul_(middle, self._gain.field(until_us - from_us))
            return area
        return self._by_trapezoids(area, from_us, until_us)

    def _work_for(self, channels: int) -> NDArray[np.float32]:
        """Give memory for `loops.integrate`; always the same."""
        if self._work is None:
            self._work = np.empty((*self._constants.shape[-2:], 2 + channels), np.float32)
        return self._work

    def _bin_of(self, key: NDArray[np.int64]) -> _Bin:
        """Give what loops read of the bins after the planes `key`; kept where it is one bin."""
        k = int(key.flat[0]) if key.size == 1 else None
        if k is not None and k in self._bins:
            return self._bins[k]
        channels, *size = self._constants.shape[1:]
        bounds = tuple(bound.contiguous().numpy() for bound in self._bounds(key))
        packed = np.empty((*size, 2 + 2 * channels), np.float32)
        loops.pack(packed, bounds)
        if k is not None:
            self._bins[k] = bounds, packed
        return bounds, packed

    def _by_trapezoids(self, area: Tensor, from_us: Times, until_us: Times) -> Tensor:
        """Do what the loop does, by instants that are at most a bin of events apart."""
        pieces = max(1, round(float((until_us - from_us).max()) / self._gain.sweep.bin_us))
        instant = torch.empty_like(area)
        step = (until_us - from_us) / pieces
        for piece in range(pieces + 1):
            weight = self._gain.field(step * (0.5 if piece in (0, pieces) else 1.0))
            self._expose_instant(from_us + piece * step, instant)
            area.addcmul_(instant.add_(DARK_LEVEL), weight.expand_as(instant))
        return area

    def _place(self, t_us: Times) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the plane before a time, and how far time is from it to the next: [H or 1, W or 1] both."""
        at_us = per_pixel(t_us.reshape(-1)[:1] if (t_us == t_us.flat[0]).all() else t_us)
        key = self._key_of(at_us)
        return key, self._share_of(at_us, key)

    def _key_of(self, at_us: Times) -> NDArray[np.int64]:
        after = np.searchsorted(self._times_us, at_us, side="right")
        return np.clip(after - 1, 0, len(self._times_us) - 2).astype(np.int64)

    def _share_of(self, at_us: Times, key: NDArray[np.int64]) -> NDArray[np.float32]:
        begin, end = self._times_us[key], self._times_us[key + 1]
        return np.clip((at_us - begin) / (end - begin), 0, 1).astype(np.float32)

    def _bounds(self, key: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give constants [C, H, W] and counts [H, W] of the planes before and after."""
        if key.size == 1:
            k = int(key.flat[0])
            return self._constants[k], self._constants[k + 1], self._counts[k], self._counts[k + 1]
        return (
            _gathered(self._constants, key), _gathered(self._constants, key + 1),
            _gathered(self._counts, key), _gathered(self._counts, key + 1),
        )  # fmt: skip


def states_at(gain: Gain, times_us: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Read gain and count of events at some times, frame time, with ramps: float32 [K + 1, H, W] both."""
    states = [gain.at(np.array([t_us]), shared=True) for t_us in times_us]
    return torch.stack([state for state, _ in states]), torch.stack([count for _, count in states])


def _parted(planes: Tensor, gains: Tensor, belief: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Part the light of planes [K + 1, C, H, W]: what follows events, where the gain is 1, and `Evenly` the rest."""
    if belief is None or bool((belief == 1).all()):
        return ((planes + DARK_LEVEL) / gains[:, None]).contiguous(), None
    if plane_loops.serve(planes, gains, belief):
        constants, even = torch.empty(planes.shape), torch.empty(planes.shape, dtype=torch.int16)
        light, gain, share = (values.contiguous().numpy() for values in (planes, gains, belief))
        loops.part(constants.numpy(), even.numpy(), light, gain, share, DARK_LEVEL)
        return constants, even
    level = planes + DARK_LEVEL
    steps = (level * (1 - belief) * instant_loops.EVEN_STEPS).round_().clamp_max_(instant_loops.MOST_EVEN)
    even = steps.to(torch.int16)
    return (level - even / instant_loops.EVEN_STEPS) / gains[:, None], even


def plane_shares(gain: Gain, times_us: NDArray[np.float64], shutter: Shutter, states: tuple[Tensor, Tensor]) -> Tensor:
    """Tell how much each plane has in an exposure, which is linear in them, dark current included.

    Args:
        gain, times_us, states: as of `KeyPlanes`.
        shutter: as of `KeyPlanes.expose`.

    Returns:
        float32 [K + 1, H, W]: light and dark current are the sum of these times the planes with theirs.
    """
    shares = []
    for k in range(len(times_us)):
        planes = torch.full_like(states[0], -DARK_LEVEL)[:, None]
        planes[k] += _BRIGHT
        light = KeyPlanes(gain, times_us, planes, states).expose(shutter)[0]
        shares.append((light + DARK_LEVEL) / _BRIGHT)
    return torch.stack(shares)


def _laid_out(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(values if values.shape == shape else np.broadcast_to(values, shape))


def _gathered(planes: Tensor, key: NDArray[np.int64]) -> Tensor:
    """Put [..., H, W] together from the rows or pixels of several [n, ..., H, W]."""
    chosen = torch.from_numpy(key).to(planes.device).expand(planes.shape[-2:])
    index = chosen.expand(planes.shape[1:])[None]
    return torch.gather(planes, 0, index)[0]
