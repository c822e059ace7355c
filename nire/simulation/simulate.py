"""Frames by Eq. 1 and events by a sensor model, from a scene of known light: ground truth without a camera.

Light is sampled at nodes, `step_us` apart, and taken as linear between them (log light for the events). Both
simulators are fed node by node and keep only the state of one sensor, so a simulated camera runs for ever.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nire.light import ENCODE_STEPS, encode_table
from nire.shutter import Shutter
from nire.simulation.pictures import Image
from nire.simulation.scene import Scene
from nire.simulation.sensor_model import SensorModel
from nire.types import EventBatch, Frame, Transfer

_DARKEST = 1e-3  # log light is taken above this; a sensor's dark current does the same
_CROSSINGS_PER_STEP = 64  # of one pixel; more in a step is the end of any sensor's bandwidth


def node_weights(shutter: Shutter, node_us: float, step_us: float) -> NDArray[np.float64]:
    """Share that one node of light has in each row of an exposure: the mean of its hat function over the shutter.

    Light that is linear between nodes is integrated exactly; over all nodes the shares of a row sum to 1 (Eq. 5).

    Args:
        shutter: any, [H] or [H, W].
        node_us: time of the node.
        step_us: distance of nodes, > 0.

    Returns:
        float64, shape of the shutter's times, 0..1.
    """
    a = (shutter.t_a_us - node_us) / step_us
    b = (shutter.t_b_us - node_us) / step_us
    wide = b > a
    mean = (_hat_integral(b) - _hat_integral(a)) / np.where(wide, b - a, 1.0)
    return np.where(wide, mean, np.maximum(0.0, 1.0 - np.abs(a)))


def _hat_integral(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral of max(0, 1 - |x|) from -1 to x."""
    clipped = np.clip(x, -1.0, 1.0)
    return 0.5 + clipped - 0.5 * clipped * np.abs(clipped)


def expose(scene: Scene, shutter: Shutter, step_us: float = 250.0) -> Image:
    """Expose a scene with any shutter (Eqs. 1, 2 and 4): the exact image, in linear light, without noise.

    Args:
        scene: the light.
        shutter: [H] or [H, W] of the scene's size; global, rolling, an instant, a long exposure.
        step_us: distance of the nodes between which light is linear; a global instant is not approximated.

    Returns:
        float32 [H, W], 0..1.

    Raises:
        ValueError: the shutter has another height than the scene.
    """
    if shutter.height != scene.height:
        raise ValueError(f"the shutter has {shutter.height} rows, the scene {scene.height}")
    if shutter.is_flat and shutter.is_instant:
        return scene.radiance(shutter.first_us)
    total = np.zeros((scene.height, scene.width))
    first = int(np.floor(shutter.first_us / step_us))
    last = int(np.ceil(shutter.last_us / step_us))
    for node in range(first, last + 1):
        weights = node_weights(shutter, node * step_us, step_us)
        if weights.any():
            total += (weights if weights.ndim == 2 else weights[:, None]) * scene.radiance(node * step_us)
    return total.astype(np.float32)


def quantised(light: Image) -> NDArray[np.uint8]:
    """Turn linear light into the pixels of an ideal 8-bit frame: uint8 [H, W, 1]; above 1 is clipped."""
    return np.rint(np.clip(light, 0.0, 1.0) * 255.0).astype(np.uint8)[..., None]


class FrameSensor:
    """Gathers light over exposures, node by node; exposures may overlap, as those of a rolling shutter do."""

    def __init__(self, model: SensorModel, *, step_us: float, seed: int, transfer: Transfer = "linear") -> None:
        """Make a sensor with nothing exposed yet.

        Args:
            model: its noise.
            step_us: distance of nodes.
            seed: of the noise; a frame's noise depends on seed and index only.
            transfer: of the pixels.
        """
        self._model = model
        self._transfer = transfer
        self._step_us = step_us
        self._seed = seed
        self._open: list[tuple[int, Shutter, Image]] = []

    def begin(self, index: int, shutter: Shutter, width: int) -> None:
        """Open the shutter of frame `index`; to be called before the first node that it needs."""
        self._open.append((index, shutter, np.zeros((shutter.height, width), np.float32)))

    def advance(self, light: Image, node_us: float) -> list[Frame]:
        """Gather one node; return the frames whose last row closed, in order.

        Args:
            light: float32 [H, W], linear.
            node_us: its time, one step after the last one.
        """
        for _, shutter, total in self._open:
            weights = node_weights(shutter, node_us, self._step_us)
            if not weights.any():
                continue
            if weights.ndim == 1 and weights[0] == weights[-1] and (weights == weights[0]).all():
                cv2.scaleAdd(light, float(weights[0]), total, dst=total)
            else:
                total += (weights if weights.ndim == 2 else weights[:, None]).astype(np.float32) * light
        done = [item for item in self._open if item[1].last_us <= node_us]
        self._open = [item for item in self._open if item[1].last_us > node_us]
        return [self._develop(*item) for item in done]

    def _develop(self, index: int, shutter: Shutter, total: Image) -> Frame:
        model = self._model
        levels = total * 255.0
        if model.read_noise or model.full_well:
            rng = np.random.default_rng([self._seed, 30, index])
            variance = model.read_noise**2 + (levels * 255.0 / model.full_well if model.full_well else 0.0)
            levels = levels + np.sqrt(variance) * rng.standard_normal(levels.shape, np.float32)
        levels = np.clip(levels, 0, 255)
        if self._transfer == "srgb":
            pixels = encode_table("srgb")[np.rint(levels * ENCODE_STEPS).astype(np.int32)][..., None]
        else:
            pixels = np.rint(levels).astype(np.uint8)[..., None]
        return Frame(
            index,
            pixels,
            round(float(shutter.t_a_us.flat[0])),
            round(float(shutter.t_b_us.flat[0])),
            row_delay_us=shutter.row_delay_us,
            transfer=self._transfer,
        )


class EventSensor:
    """Turns light into events, node by node. All pixels at once; events only where a level is crossed."""

    def __init__(self, model: SensorModel, light: Image, t_us: float, *, step_us: float, seed: int) -> None:
        """Start with the light of the first node; an ideal sensor's pixels all start at that level.

        Args:
            model: the sensor.
            light: float32 [H, W], linear.
            t_us: time of the node.
            step_us: distance of nodes.
            seed: of everything random.
        """
        self._model = model
        self._step_us = step_us
        self._t_us = t_us
        self._rng = np.random.default_rng([seed, 40])
        self._shape = light.shape
        self._leaked = 0.0
        rng, shape = np.random.default_rng([seed, 41]), light.shape
        spread = model.threshold_spread * rng.standard_normal((2, *shape), np.float32)
        self.threshold_positive: Image = np.maximum(model.threshold_positive + spread[0], 0.01).astype(np.float32)
        self.threshold_negative: Image = np.maximum(model.threshold_negative + spread[1], 0.01).astype(np.float32)
        self.hot_pixels = np.flatnonzero(rng.random(light.size) < model.hot_fraction)
        self._now = cv2.log(np.maximum(light, _DARKEST))
        self._begin_readout, self._readout = self._held(t_us), np.float32(0)
        self._before = self._now.copy()
        # A sensor that has run for a while stands anywhere between its levels.
        start = (
            rng.uniform(-0.9, 0.9, shape).astype(np.float32) if model.threshold_spread else np.zeros(shape, np.float32)
        )
        reference = self._now - start * np.where(start > 0, self.threshold_positive, self.threshold_negative)
        self._high = reference + self.threshold_positive
        self._low = reference - self.threshold_negative

    def advance(self, light: Image, t_us: float) -> EventBatch:
        """Go on to the next node: the events of (last node, this node], sorted, watermark at this node.

        Args:
            light: float32 [H, W], linear.
            t_us: time of the node, one step after the last one.
        """
        self._before, self._now = self._now, self._before
        if self._model.readout_period_us:
            self._filter_read_out(light, t_us)
        else:
            self._filter(light)
        self._leak()
        pieces = [self._crossings()]
        if self._model.noise_hz:
            pieces.append(self._noise(light))
        if self.hot_pixels.size and self._model.hot_hz:
            pieces.append(self._hot())
        where, share, sign = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        batch = self._stamped(where, share, sign, t_us)
        self._t_us = t_us
        return batch

    def _filter(self, light: Image) -> None:
        """Low pass of the photoreceptor: an implicit step of tau dv/dt = log light - v, tau falling with light."""
        target = cv2.log(np.maximum(light, np.float32(_DARKEST)))
        if not self._model.bandwidth_hz:
            self._now = target
            return
        scale = 2 * np.pi * self._step_us * 1e-6
        gain = light * np.float32(scale * self._model.bandwidth_hz)
        gain += np.float32(scale * self._model.dark_bandwidth_hz)
        target -= self._before
        target *= gain
        gain += np.float32(1)
        target /= gain
        self._now = cv2.add(self._before, target, dst=self._now)

    def _leak(self) -> None:
        """The reference sinks; in chunks, because a pass over all pixels for a millionth of a level is waste."""
        if not self._model.leak_hz:
            return
        self._leaked += self._model.leak_hz * self._model.threshold_positive * self._step_us * 1e-6
        if self._leaked > 0.002 * self._model.threshold_positive:
            self._high -= np.float32(self._leaked)
            self._low -= np.float32(self._leaked)
            self._leaked = 0.0

    def _filter_read_out(self, light: Image, t_us: float) -> None:
        """Filter, with what readouts add to both ends of the step laid on afterwards: the photoreceptor sees none."""
        self._before -= self._readout
        self._filter(light)
        self._before += self._readout
        self._readout = self._held(t_us) - self._begin_readout
        self._now += self._readout

    def _held(self, t_us: float) -> np.float32:
        """Tell what a readout adds to all pixels' log light."""
        model = self._model
        if not model.readout_period_us:
            return np.float32(0)
        held = (t_us - model.readout_start_us) % model.readout_period_us < model.readout_hold_us
        return np.float32(model.readout_log if held else 0)

    def _crossings(self) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int8]]:
        """Find where the light passed a level; returns pixel, share of the step in [0, 1], sign."""
        crossed = cv2.compare(self._now, self._high, cv2.CMP_GE)
        crossed |= cv2.compare(self._now, self._low, cv2.CMP_LE)
        where = np.flatnonzero(crossed.view(np.bool_))
        now, before, high = self._now.take(where), self._before.take(where), self._high.take(where)
        positive, negative = self.threshold_positive.take(where), self.threshold_negative.take(where)
        up = now >= high
        sign = np.where(up, np.float32(1), np.float32(-1))
        level = np.where(up, high, self._low.take(where))
        threshold = np.where(up, positive, negative)
        # Between the nodes: first crossing, then one more every `spacing` until the step ends. A level that was
        # passed before the step (after noise or leak) is an event at its start.
        slope = np.maximum(np.abs(now - before), np.float32(1e-6))
        first = np.clip(sign * (level - before) / slope, 0, 1)
        dead = np.float32(self._model.refractory_us / self._step_us)
        spacing = threshold / slope + dead
        more = np.floor(np.minimum((1 - first) / spacing, np.float32(_CROSSINGS_PER_STEP - 1)))
        last = first + more * spacing
        reference = level + sign * (more * (threshold + slope * dead) + slope * np.minimum(dead, 1 - last))
        # Without dead time this is level + (count - 1) thresholds. A step that starts beyond its level has caught up.
        reference = np.where(sign * (reference - now) > 0, now, reference) if dead else reference
        self._high.put(where, reference + positive)
        self._low.put(where, reference - negative)
        count = more.astype(np.int64) + 1
        total = int(count.sum())
        nth = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
        share = np.repeat(first, count) + nth.astype(np.float32) * np.repeat(spacing, count)
        return np.repeat(where, count), share, np.repeat(sign, count).astype(np.int8)

    def _noise(self, light: Image) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int8]]:
        """Shot noise: random events, more in the dark; each moves the reference, so that it is answered."""
        rate = 2 * self._model.noise_hz * self._step_us * 1e-6
        count = self._rng.poisson(rate * light.size)
        where = self._rng.integers(0, light.size, count)
        where = where[self._rng.random(count) * 2 > np.minimum(light.ravel()[where] * 2, 1.0)]
        where = np.unique(where)
        sign = self._rng.integers(0, 2, where.size).astype(np.int8) * np.int8(2) - np.int8(1)
        jump = np.where(sign > 0, self.threshold_positive.ravel()[where], -self.threshold_negative.ravel()[where])
        self._high.ravel()[where] += jump
        self._low.ravel()[where] += jump
        return where, self._rng.random(where.size, np.float32), sign

    def _hot(self) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.int8]]:
        counts = self._rng.poisson(self._model.hot_hz * self._step_us * 1e-6, self.hot_pixels.size)
        where = np.repeat(self.hot_pixels, counts)
        return where, self._rng.random(where.size, np.float32), np.ones(where.size, np.int8)

    def _stamped(
        self, where: NDArray[np.intp], share: NDArray[np.float32], sign: NDArray[np.int8], t_us: float
    ) -> EventBatch:
        """Give time stamps inside the step, sort, and split pixels into columns and rows."""
        if not where.size:
            return EventBatch.empty(round(t_us))
        offset = share * np.float32(t_us - self._t_us)
        if self._model.jitter_us:
            offset = offset + np.float32(self._model.jitter_us) * self._rng.standard_normal(where.size, np.float32)
        first, last = int(np.ceil(self._t_us)), int(np.ceil(t_us)) - 1
        ticks = np.clip(offset, 0, last - first).astype(np.int64 if last - first > 65535 else np.uint16)
        order = np.argsort(ticks, kind="stable")  # radix sort on 16 bits
        y, x = np.divmod(where.take(order).astype(np.uint32), np.uint32(self._shape[1]))
        return EventBatch(
            first + ticks.take(order).astype(np.int64),
            x.astype(np.uint16),
            y.astype(np.uint16),
            (sign.take(order) > 0).astype(np.uint8),
            round(t_us),
        )
