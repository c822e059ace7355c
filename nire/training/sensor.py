"""The sensor model of `nire.simulation.simulate` on whole batches: event counts per step, without lists.

The same model as the synthetic camera's, step by step (its `EventSensor` is what this one is tested against). Only
the noise differs in its random numbers, and time stamps are not finer than a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_DARKEST = 1e-3  # as in nire.simulation.simulate
_CROSSINGS_PER_STEP = 64
# As some recordings of hybrid sensors of 240 x 180 pixels show it.
_READOUT_LOG = 0.04, 0.5  # in thresholds
_READOUT_PERIOD_US = 15_000, 80_000


@dataclass(frozen=True, slots=True, eq=False)
class Sensors:
    """One sensor model per window: float32 [b] each; fields, units and meaning as in `nire.simulation.sensor_model`.

    Attributes:
        offset_us: event time minus frame time that calibration left over, of each window.
        srgb: 1 where frames are stored with the sRGB curve, 0 where they are linear.
    """

    threshold_positive: Tensor
    threshold_negative: Tensor
    threshold_spread: Tensor
    refractory_us: Tensor
    bandwidth_hz: Tensor
    dark_bandwidth_hz: Tensor
    leak_hz: Tensor
    noise_hz: Tensor
    hot_fraction: Tensor
    hot_hz: Tensor
    jitter_us: Tensor
    readout_log: Tensor
    readout_period_us: Tensor
    readout_start_us: Tensor
    readout_hold_us: Tensor
    offset_us: Tensor
    read_noise: Tensor
    full_well: Tensor
    srgb: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a pixel begins with: float32 [b, H, W] each.

    Attributes:
        positive, negative: its thresholds.
        reference: log light that its levels lie around.
    """

    positive: Tensor
    negative: Tensor
    reference: Tensor


def draw_sensors(
    rng: np.random.Generator,
    batch: int,
    noise: str,
    device: torch.device | str = "cpu",
    *,
    ideal_share: float = 0.125,
    wide: bool = False,
    readout_share: float = 0.0,
) -> Sensors:
    """Draw sensors, from good to bad.

    Args:
        rng: chooses.
        batch: b.
        noise: "realistic", "ideal" (thresholds only; frames are quantised), or "mixed" (some are ideal).
        device: of the result.
        ideal_share: of ideal sensors in "mixed".
        wide: draw thresholds, lag, noise and clocks from further apart, as sensors in the field lie.
        readout_share: of the sensors that are not ideal, those whose pixels fire together when frames are read out.
    """
    low, high = (0.03, 0.6) if wide else (0.1, 0.5)
    mean = np.exp(rng.uniform(math.log(low), math.log(high), batch))
    lean = np.exp(rng.normal(0, 0.08, batch))

    def between(low: float, high: float) -> NDArray[np.float64]:
        return np.exp(rng.uniform(math.log(low), math.log(high), batch))

    values = {
        "threshold_spread": mean * between(0.03, 0.3 if wide else 0.15),
        "refractory_us": between(10, 1000 if wide else 500),
        "bandwidth_hz": between(80 if wide else 300, 6000),
        "dark_bandwidth_hz": between(20, 200),
        "leak_hz": between(0.02, 0.5),
        "noise_hz": between(0.05, 15 if wide else 3),
        "hot_fraction": between(1e-5, 1e-3),
        "hot_hz": between(50, 1000),
        "jitter_us": between(5, 200),
        "offset_us": rng.normal(0, 150, batch),
        "read_noise": between(0.3, 4 if wide else 2),
        "full_well": between(2000 if wide else 6000, 40000),
    }
    ideal = {"realistic": 0.0, "ideal": 1.0, "mixed": ideal_share}[noise]
    real = rng.random(batch) >= ideal
    values |= _draw_readout(rng, mean, readout_share)
    if wide:  # clocks of hybrid sensors lie apart by milliseconds where calibration had little to see
        values["offset_us"] *= between(0.3, 20)
    values = {name: value * real for name, value in values.items()}
    values["threshold_positive"], values["threshold_negative"] = mean * lean, mean / lean
    values["srgb"] = (rng.random(batch) < 0.5).astype(np.float64)
    return Sensors(**{k: torch.from_numpy(v.astype(np.float32)).to(device) for k, v in values.items()})


def _draw_readout(
    rng: np.random.Generator, threshold: NDArray[np.float64], share: float
) -> dict[str, NDArray[np.float64]]:
    """Draw how much pixels fire together at readouts; threshold: [b], log units."""
    batch = len(threshold)
    names = ("readout_log", "readout_period_us", "readout_start_us", "readout_hold_us")
    if not share:
        return {name: np.zeros(batch) for name in names}
    shown = rng.random(batch) < share
    least, most = _READOUT_LOG
    step = threshold * np.exp(rng.uniform(math.log(least), math.log(most), batch)) * shown
    period = rng.uniform(*_READOUT_PERIOD_US, batch) * shown
    start, hold = rng.uniform(0, 1, batch) * period, rng.uniform(0.15, 0.85, batch) * period
    return dict(zip(names, (step, period, start, hold), strict=True))


def draw_start(light: Tensor, sensors: Sensors, generator: torch.Generator) -> Start:
    """Draw what pixels begin with; an ideal sensor's pixels all start at their light.

    Args:
        light: float32 [b, H, W], of the first node.
        sensors: of b windows.
        generator: of the device of the light.
    """
    shape = light.shape
    spread = torch.randn((2, *shape), generator=generator, device=light.device) * _wide(sensors.threshold_spread)
    positive = (_wide(sensors.threshold_positive) + spread[0]).clamp_(min=0.01)
    negative = (_wide(sensors.threshold_negative) + spread[1]).clamp_(min=0.01)
    start = torch.rand(shape, generator=generator, device=light.device).mul_(1.8).sub_(0.9)
    start *= _wide(sensors.threshold_spread) > 0
    reference = light.clamp(min=_DARKEST).log_() - start * torch.where(start > 0, positive, negative)
    return Start(positive, negative, reference)


def count_events(
    light: Tensor, step_us: Tensor, sensors: Sensors, *, generator: torch.Generator, start: Start | None = None
) -> Tensor:
    """Turn light into events.

    Args:
        light: float32 [b, T + 1, H, W], linear light at the nodes.
        step_us: float32 [b], between nodes.
        sensors: of the b windows.
        generator: of everything random, on the light's device.
        start: what pixels begin with; None draws it.

    Returns:
        uint8 [b, T, 2, H, W]: events of each step; axis 2 is polarity, 0 darker, 1 brighter.
    """
    batch, nodes, height, width = light.shape
    steps, pixels = nodes - 1, height * width
    start = draw_start(light[:, 0], sensors, generator) if start is None else start
    levels = _Levels.begin(start)
    # Time first, so that a step's counts are one piece of memory.
    counts = torch.zeros((steps, 2, batch * pixels), dtype=torch.uint8, device=light.device)
    seconds = step_us * 1e-6

    def per_pixel(values: Tensor) -> Tensor:
        return values.repeat_interleave(pixels)

    sink = per_pixel(sensors.leak_hz * sensors.threshold_positive * seconds)
    dead = per_pixel(sensors.refractory_us / step_us)
    noise = _shot_noise(light, seconds, sensors, generator)
    seen = _low_passed(light, seconds, sensors)
    _read_out(seen, step_us, sensors)
    for step in range(steps):
        levels.high.sub_(sink)
        levels.low.sub_(sink)
        _crossings(seen[step], seen[step + 1], levels, dead, counts[step])
        _fire(*noise[step], levels, counts[step])
    counts = counts.view(steps, 2, batch, height, width).permute(2, 0, 1, 3, 4).contiguous()
    _add_hot(counts, seconds, sensors, generator)
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class _Levels:
    """Where pixels stand, all float32 [b H W]: the next events' log light above and below, and the thresholds."""

    high: Tensor
    low: Tensor
    positive: Tensor
    negative: Tensor

    @classmethod
    def begin(cls, start: Start) -> _Levels:
        """Lie around the reference."""
        reference, positive, negative = (v.reshape(-1) for v in (start.reference, start.positive, start.negative))
        return cls(reference + positive, reference - negative, positive, negative)


def _low_passed(light: Tensor, seconds: Tensor, sensors: Sensors) -> Tensor:
    """Log light as the photoreceptor follows it: float32 [T + 1, b H W]; slower in the dark (EventSensor)."""
    log_light = light.clamp(min=_DARKEST).log_().transpose(0, 1).reshape(light.shape[1], -1)
    slow = sensors.bandwidth_hz > 0
    if not bool(slow.any()):
        return log_light
    corner = 2 * math.pi * seconds
    bright = _wide(torch.where(slow, sensors.bandwidth_hz * corner, 0.0))
    # Without a bandwidth there is no low pass: so large a gain that the light is followed at once.
    dark = _wide(torch.where(slow, sensors.dark_bandwidth_hz * corner, 1e9))
    for node in range(1, light.shape[1]):
        gain = (light[:, node] * bright).add_(dark).view(-1)
        share = gain / (1 + gain)
        torch.lerp(log_light[node - 1], log_light[node], share, out=log_light[node])
    return log_light


def _read_out(log_light: Tensor, step_us: Tensor, sensors: Sensors) -> None:
    """Let all pixels of a window step at readouts; log_light: float32 [T + 1, b H W], changed."""
    if not bool((sensors.readout_period_us > 0).any()):
        return
    node = torch.arange(len(log_light), device=log_light.device, dtype=torch.float32)[:, None]
    phase = (node * step_us - sensors.readout_start_us) % sensors.readout_period_us.clamp(min=1)
    step = sensors.readout_log * (phase < sensors.readout_hold_us)
    log_light.view(len(log_light), len(step_us), -1).add_((step - step[:1])[..., None])


def _shot_noise(
    light: Tensor, seconds: Tensor, sensors: Sensors, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Draw random events, in the dark twice as many as in full light.

    Returns:
        For each step int64 [n] pixels of [b H W], and int64 [n] signs, 1 brighter. A pixel that is named twice in one
        step fires once.
    """
    batch, nodes = light.shape[:2]
    pixels = light[0, 0].numel()
    # At the dark's rate first, then thinned by the light: a draw per event rather than one per pixel.
    rate = 2 * sensors.noise_hz * seconds * ((nodes - 1) * pixels)
    drawn = torch.poisson(rate, generator=generator).long()
    window = torch.repeat_interleave(torch.arange(batch, device=light.device), drawn)
    chance = torch.rand((3, len(window)), generator=generator, device=light.device)
    step = (chance[0] * (nodes - 1)).long().clamp_(max=nodes - 2)
    pixel = (chance[1] * pixels).long().clamp_(max=pixels - 1)
    level = light.view(batch, nodes, pixels)[window, step + 1, pixel]
    keep = 1 - level.clamp(max=0.5)
    step, order = step.masked_fill_(chance[2] > keep, nodes).sort()
    # What is left of the third number is as random as before.
    where, up = (window * pixels + pixel)[order], (chance[2] < keep / 2).long()[order]
    ends = torch.searchsorted(step, torch.arange(nodes, device=light.device)).tolist()
    return [(where[i:j], up[i:j]) for i, j in pairwise(ends)]


def _fire(where: Tensor, up: Tensor, levels: _Levels, counts: Tensor) -> None:
    """Let pixels fire once; it moves their levels, so that it is answered."""
    jump = torch.where(up > 0, levels.positive[where], -levels.negative[where])
    levels.high[where] += jump
    levels.low[where] += jump
    counts[up, where] += 1


def _crossings(before: Tensor, now: Tensor, levels: _Levels, dead: Tensor, counts: Tensor) -> None:
    """Count the levels that light passed in a step and move them; the arithmetic is EventSensor's.

    Only pixels that fire are computed: few do in one step.

    Args:
        before, now: float32 [b H W], log light at the ends of the step.
        levels: of all pixels; changed.
        dead: float32 [b H W], refractory time in steps.
        counts: uint8 [2, b H W], 0 where nothing was counted yet; changed.
    """
    where = torch.nonzero((now >= levels.high) | (now <= levels.low)).squeeze(1)
    end, high, positive, negative = (v[where] for v in (now, levels.high, levels.positive, levels.negative))
    up = end >= high
    sign = up.float().mul_(2).sub_(1)
    level, threshold = torch.where(up, high, levels.low[where]), torch.where(up, positive, negative)
    begin, rest = before[where], dead[where]
    slope = (end - begin).abs_().clamp_(min=1e-6)
    first = ((level - begin) * sign / slope).clamp_(0, 1)
    spacing = threshold / slope + rest
    more = ((1 - first) / spacing).clamp_(max=_CROSSINGS_PER_STEP - 1).floor_()
    last = first + more * spacing
    reference = level + sign * (more * (threshold + slope * rest) + slope * torch.minimum(rest, 1 - last))
    caught_up = (sign * (reference - end) > 0) & (rest > 0)
    reference = torch.where(caught_up, end, reference)
    levels.high[where] = reference + positive
    levels.low[where] = reference - negative
    counts[up.long(), where] = (more + 1).to(torch.uint8)


def _add_hot(counts: Tensor, seconds: Tensor, sensors: Sensors, generator: torch.Generator) -> None:
    """Let some pixels fire without reason."""
    if not bool((sensors.hot_fraction > 0).any()):
        return
    batch, steps, _, height, width = counts.shape
    chance = torch.rand((batch, height, width), generator=generator, device=counts.device)
    window, row, column = torch.nonzero(chance < _wide(sensors.hot_fraction), as_tuple=True)
    rate = (sensors.hot_hz * seconds)[window]
    extra = torch.poisson(rate[:, None].expand(-1, steps).contiguous(), generator=generator).clamp_(max=60)
    counts[window, :, 1, row, column] += extra.to(torch.uint8)


def mean_delay_us(light: Tensor, sensors: Sensors) -> Tensor:
    """Tell how late events are on average, because pixels are slow: float32 [b].

    Args:
        light: float32 [b, T + 1, H, W], of the nodes.
        sensors: of the b windows.
    """
    corner_hz = light.mean(1) * _wide(sensors.bandwidth_hz) + _wide(sensors.dark_bandwidth_hz)
    delay_us = 1e6 / (2 * math.pi * corner_hz).clamp(min=1)
    # Events come where log light changes.
    change = light.clamp(min=_DARKEST).log_().diff(dim=1).abs_().sum(1)
    mean_us = (delay_us * change).sum((1, 2)) / change.sum((1, 2)).clamp(min=1e-6)
    return torch.where(sensors.bandwidth_hz > 0, mean_us, 0.0)


def jittered(counts: Tensor, step_us: Tensor, jitter_us: Tensor, generator: torch.Generator) -> Tensor:
    """Move events whose time stamps jitter over an edge of their step to its neighbour; in place.

    An event lies anywhere in its step, so a share of 0.4 jitter / step of them (the mean of |normal| is 0.8, half of
    it each way) goes over each edge. At most one event of a pixel and step goes each way.

    Args:
        counts: uint8 [b, T, ...].
        step_us, jitter_us: float32 [b].
        generator: on the device of the counts.
    """
    share = (0.4 * jitter_us / step_us).clamp(max=0.25)
    if not bool((share > 0).any()):
        return counts
    where = torch.nonzero(counts, as_tuple=True)
    amount = counts[where].float()
    chance = torch.rand(amount.shape, generator=generator, device=counts.device)
    each = (share[where[0]] * amount).clamp_(max=0.5)
    for way, moved in ((-1, chance < each), (1, (chance >= each) & (chance < 2 * each))):
        source = [index[moved] for index in where]
        target_step = source[1] + way
        inside = (target_step >= 0) & (target_step < counts.shape[1])
        source = [index[inside] for index in source]
        target = [source[0], source[1] + way, *source[2:]]
        # One pixel's step has at most one event to give each way, so no place is named twice.
        counts[tuple(source)] -= 1
        counts[tuple(target)] += 1
    return counts


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None]
