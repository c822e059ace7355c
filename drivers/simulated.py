"""A camera in front of known light: nodes of light in, the packets of a sensor out. Shared by all simulated sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from nire.light import LUMA
from nire.shutter import Shutter
from nire.simulation.pictures import Image
from nire.simulation.sensor_model import SensorModel
from nire.simulation.simulate import EventSensor, FrameSensor
from nire.types import EventBatch, Frame, Transfer


def shutters(
    *, rate_hz: float, exposure_us: float, row_delay_us: float, height: int, start_us: int
) -> Iterator[tuple[int, Shutter]]:
    """All exposures of a camera: index and shutter, whole microseconds, without end; none where the rate is 0."""
    index = 0
    while rate_hz > 0:
        first_us = start_us + round(index * 1e6 / rate_hz)
        last_us = first_us + round(exposure_us)
        yield index, Shutter.rolling(first_us, last_us, row_delay_us=row_delay_us, height=height)
        index += 1


def packets_of_light(
    nodes: Iterable[tuple[int, Image]],
    exposures: Iterator[tuple[int, Shutter]],
    model: SensorModel,
    *,
    step_us: int,
    packet_us: int,
    seed: int,
    events: bool = True,
    transfer: Transfer = "linear",
) -> Iterator[EventBatch | Frame]:
    """Let a sensor look at light.

    Args:
        nodes: (device time in us, linear light 0..1: float32 [H, W], or [H, W, 3] RGB), `step_us` apart. Events see
            the luma of colours.
        exposures: index and shutter of the frames, in order.
        model: the sensor.
        step_us: distance of the nodes.
        packet_us: period of event batches.
        seed: of everything random.
        events: False = a sensor without events; its batches are empty.
        transfer: of the frames' pixels.

    Yields:
        Event batches up to a node, and each frame right after its read-out. The last batch ends at the last node.
    """
    frames: list[FrameSensor] = []
    sensor: EventSensor | None = None
    pending: list[EventBatch] = []
    following = next(exposures, None)
    sent_us = node_us = 0
    for number, (node_us, light) in enumerate(nodes):
        channels = [light] if light.ndim == 2 else [np.ascontiguousarray(light[..., c]) for c in range(3)]
        if number == 0:
            sent_us = node_us
            frames = [
                FrameSensor(model, step_us=step_us, seed=seed + 1000 * c, transfer=transfer)
                for c in range(len(channels))
            ]
            sensor = EventSensor(model, _luma(light), node_us, step_us=step_us, seed=seed) if events else None
        elif sensor is not None:
            pending.append(sensor.advance(_luma(light), node_us))
        while following is not None and following[1].first_us < node_us + step_us:
            for channel in frames:
                channel.begin(*following, light.shape[1])
            following = next(exposures, None)
        closed = [channel.advance(part, node_us) for channel, part in zip(frames, channels, strict=True)]
        done = [_coloured(parts) for parts in zip(*closed, strict=True)]
        if done or node_us - sent_us >= packet_us:
            yield joined(pending, node_us)
            yield from done
            pending, sent_us = [], node_us
    if node_us != sent_us:
        yield joined(pending, node_us)


def joined(batches: list[EventBatch], watermark_us: int) -> EventBatch:
    """Join batches in order into one with a new watermark; none give an empty one."""
    return EventBatch.joined(batches, watermark_us) if batches else EventBatch.empty(watermark_us)


def _luma(light: Image) -> Image:
    return light if light.ndim == 2 else np.asarray(cv2.transform(light, LUMA.reshape(1, 3)), np.float32)


def _coloured(channels: tuple[Frame, ...]) -> Frame:
    """Put the channels of one exposure together."""
    if len(channels) == 1:
        return channels[0]
    return replace(channels[0], pixels=np.concatenate([channel.pixels for channel in channels], axis=2))
