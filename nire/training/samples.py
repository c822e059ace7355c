"""Training samples: windows of rendered light, seen by a sensor, cut into what the network takes and should give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from nire.light import BRIGHTEST, UNKNOWN_LIGHT
from nire.training.frames import take_frames
from nire.training.physics import averaged, changes, event_integral, log_trust, node_shares, re_expose
from nire.training.pictures import Bank
from nire.training.scenes import STEP_PX, Scenes, render
from nire.training.sensor import Sensors, count_events, draw_sensors, jittered, mean_delay_us
from nire.training.sequences import Sequence, read_crops
from nire.training.settings import DataSettings
from nire.training.tasks import Shutters, draw_shutters

# Of a window, that clocks lie apart at most: more than that is seen by calibration.
_MOST_APART = 0.1
# What the paper's network takes of a sample.
_GIVEN = ("images", "voxels", "image_ranges", "segment_ranges", "observed", "shutters", "re_exposed")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A batch of b windows of one task, as `ReExposureNetwork` takes them; images are square roots of linear light.

    Attributes:
        images: float32 [b, N, 1, H, W], 0..1.
        voxels: float32 [b, M, B, H, W], signed integral of the events of each bin, c+ n+ - c- n-, log intensity.
        image_ranges: float32 [b, N, H, 2], start and end of the rows' exposures, 0..1 in the window.
        segment_ranges: float32 [b, M, 2], of the segments.
        observed: float32 [b, M, B], 0 where events are missing, else 1.
        shutters: float32 [b, Q, H, 2], what is asked.
        re_exposed: float32 [b, Q, max(N, 1), 2, H, W], each frame (without frames, a gray one that is exposed for the
            whole window) at each asked shutter by the double integral, 0..1.5, and the logarithm of its trust.
        target: float32 [b, Q, 1, H, W], 0..1, what is right.
        task: its name.
        index: of the batch; with the run's seed it gives the same batch again.
    """

    images: Tensor
    voxels: Tensor
    image_ranges: Tensor
    segment_ranges: Tensor
    observed: Tensor
    shutters: Tensor
    re_exposed: Tensor
    target: Tensor
    task: str
    index: int

    def expose(self, network: Callable[..., Tensor]) -> Tensor:
        """Let a network answer: [b, Q, 1, H, W]."""
        return network(*(getattr(self, name) for name in _GIVEN))

    def judged(self, images: Tensor) -> Tensor:
        """Give images as they are compared with the target: as they are."""
        return images

    def worse(self, images: Tensor) -> Tensor:
        """Nothing: this network's images are not compared with where they start from."""
        return images.new_zeros(())

    @property
    def frames(self) -> Tensor:
        """Captured frames, [b, N, H, W]."""
        return self.images[:, :, 0]

    @property
    def middle_change(self) -> Tensor:
        """Sum of the events around the window's middle, log units: [b, H, W]."""
        voxels = self.voxels.flatten(1, 2)
        middle = voxels.shape[1] // 2
        return voxels[:, max(0, middle - 2) : middle + 2].sum(1)

    def estimates(self) -> Tensor:
        """Give what physics says before the network: [b, Q, max(N, 1), H, W], each frame re-exposed."""
        return self.re_exposed[:, :, :, 0]


class Taught(Protocol):
    """What the training loop needs of a sample; `Sample` says what its parts are."""

    @property
    def target(self) -> Tensor: ...  # noqa: D102
    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def index(self) -> int: ...  # noqa: D102
    def expose(self, network: Callable[..., Any]) -> Tensor: ...  # noqa: D102 (as in Sample)
    def judged(self, images: Tensor) -> Tensor: ...  # noqa: D102
    def worse(self, images: Tensor) -> Tensor: ...  # noqa: D102
    def estimates(self) -> Tensor: ...  # noqa: D102
    @property
    def frames(self) -> Tensor: ...  # noqa: D102
    @property
    def middle_change(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Cut:
    """How windows are cut for a network, and what they are turned into.

    Attributes:
        bins: of a window; the renderer's steps are a multiple.
        planes: instants, evenly spread over the window from its start to its end, that are asked after the task's.
        make: called with a window, believed positive and negative thresholds, and `task` and `index`; where it was
            looked at twice, with the second window as `again`.
        twice_share: share of samples of two frames whose windows the same sensors see twice, with other noise.
        windows: that follow one another in what is rendered; it lasts so many times as long.
    """

    bins: int
    planes: int
    make: Callable[..., Taught]
    twice_share: float = 0.0
    windows: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A batch of windows as a camera saw them, before anything is estimated.

    Attributes:
        counts: uint8 [b, T, 2, H, W], events that were received.
        frames: float32 [b, N, H, W], linear light.
        frame_shutters: float32 [b, N, H, 2], as stamped.
        shutters: float32 [b, Q, H, 2], asked.
        target: float32 [b, Q, H, W], linear light, 0..1.
        observed: float32 [b, T], 0 in steps whose events were lost.
        sensors: the truth about the sensors.
        window_us: float32 [b].
    """

    counts: Tensor
    frames: Tensor
    frame_shutters: Tensor
    shutters: Tensor
    target: Tensor
    observed: Tensor
    sensors: Sensors
    window_us: Tensor


class Samples:
    """Samples by number. What a number gives depends on the settings, the bank and the seed only."""

    def __init__(
        self,
        bank: Bank,
        data: DataSettings,
        *,
        cut: Cut,
        seed: int,
        footage: tuple[Sequence, ...] = (),
    ) -> None:
        """Remember what to make; the last rendered scene is kept.

        Args:
            bank: pictures; its device is that of the samples.
            data: settings.
            cut: how windows are cut for the network.
            seed: of everything.
            footage: sequences of sharp frames, for `data.footage_share` of the scenes.
        """
        self._bank = bank
        self._data = data
        self._cut = cut
        self._seed = seed
        self._footage = footage
        self._kept: tuple[int, Scenes] | None = None

    def at(self, index: int, task: str | None = None) -> Taught:
        """Make sample `index`; `task` is drawn where it is not given."""
        window, drawn = self.window(index, task)
        rng = np.random.default_rng([self._seed, 62, index])
        positive, negative = believed_thresholds(window.sensors, self._data.threshold_error, rng)
        again = {}
        if window.frames.shape[1] == 2 and rng.random() < self._cut.twice_share:
            again["again"], _ = self.window(index, drawn, look=1)
        return self._cut.make(window, positive, negative, task=drawn, index=index, **again)

    def window(self, index: int, task: str | None = None, *, look: int = 0) -> tuple[Window, str]:
        """Make the window of sample `index` before estimates, and tell its task; another look has other noise."""
        data = self._data
        rng = np.random.default_rng([self._seed, 61, index])
        drawn = _draw_task(data, rng)
        task = drawn if task is None else task
        scenes = _turned(self._scenes(index // data.reuse), index % data.reuse)
        shutters = draw_shutters(task, rng, batch=data.batch, queries=data.queries, height=data.crop_px)
        if self._cut.planes:
            keys = np.linspace(0, 1, self._cut.planes, dtype=np.float32)[None, :, None, None]
            keys = np.broadcast_to(keys, (data.batch, self._cut.planes, data.crop_px, 2))
            shutters = replace(shutters, asked=np.concatenate([shutters.asked, keys], 1))
        sensors = draw_sensors(
            rng,
            data.batch,
            data.noise,
            self._bank.tiles.device,
            ideal_share=data.ideal_share,
            wide=data.wide_sensors,
            readout_share=data.readout_share,
        )
        if scenes.margin:
            sensors = replace(sensors, offset_us=_left_over_us(scenes, sensors))
        if not shutters.frames.shape[1]:  # nothing that events could be late against
            sensors = replace(sensors, offset_us=torch.zeros_like(sensors.offset_us))
        generator = torch.Generator(self._bank.tiles.device).manual_seed(int(rng.integers(2**62)) + look)
        observed = _losses(data, shutters, rng, bins=self._cut.bins)
        return see(scenes, shutters, sensors, observed=observed, generator=generator), task

    def _scenes(self, number: int) -> Scenes:
        if self._kept is None or self._kept[0] != number:
            data = self._data
            steps = self._cut.bins * data.steps_per_bin
            margin = math.ceil(_MOST_APART * steps) if data.wide_sensors and self._cut.windows == 1 else 0
            steps += 2 * margin
            rng = np.random.default_rng([self._seed, 60, number])
            if self._footage and rng.random() < data.footage_share:
                cut = read_crops(self._footage, rng, batch=data.batch, crop_px=data.crop_px, steps=steps)
                device = self._bank.tiles.device
                self._kept = (number, Scenes(cut.light.to(device), cut.window_us.to(device), margin=margin))
                return self._kept[1]
            scenes = render(
                self._bank,
                rng,
                batch=data.batch,
                crop_px=data.crop_px,
                steps=steps,
                layers=data.layers,
                step_px=2 * STEP_PX if rng.random() < data.fast_share else STEP_PX,
                still_share=data.still_share,
                pattern_share=data.pattern_share,
            )
            scenes = replace(scenes, window_us=scenes.window_us * self._cut.windows, margin=margin)
            self._kept = (number, scenes)
        return self._kept[1]


def _left_over_us(scenes: Scenes, sensors: Sensors) -> Tensor:
    """Tell how far clocks lie apart once calibration has taken the delay of slow pixels for a part of it: [b]."""
    most_us = _MOST_APART * scenes.window_us
    return (sensors.offset_us - mean_delay_us(scenes.light, sensors)).clamp(-most_us, most_us)


def cut_into_segments(segments: int, bins: int) -> Cut:
    """Cut windows as the paper's network takes them: M segments of B bins."""
    return Cut(segments * bins, 0, partial(make_sample, segments=segments, bins=bins))


def see(
    scenes: Scenes,
    shutters: Shutters,
    sensors: Sensors,
    *,
    observed: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    generator: torch.Generator,
) -> Window:
    """Let a sensor see windows of light.

    Args:
        scenes: b windows; clocks may lie apart as far as their margin, beyond which light stands still.
        shutters: of frames and queries.
        sensors: b of them.
        observed: float32 [b, bins], 0 where events are lost; T is a multiple of `bins`.
        generator: on the scenes' device.
    """
    device = scenes.light.device
    counts = count_events(scenes.light, scenes.step_us, sensors, generator=generator)
    counts = jittered(counts, scenes.step_us, sensors.jitter_us, generator)
    counts = counts[:, scenes.margin : scenes.margin + scenes.steps].contiguous()
    kept = torch.from_numpy(observed).to(device).repeat_interleave(scenes.steps // observed.shape[1], 1)
    counts *= (kept > 0).to(torch.uint8)[..., None, None, None]
    frame_shutters, asked = (torch.from_numpy(a).to(device) for a in (shutters.frames, shutters.asked))
    # Frames and targets share the frames' clock; the events' clock differs from it by the offset.
    shift = (sensors.offset_us / scenes.window_us)[:, None, None, None]
    shown = scenes.light if scenes.dark is None else (scenes.light + scenes.dark[:, None]).clamp_(min=0)
    frames = take_frames(shown, scenes.among_nodes(frame_shutters + shift), sensors, generator=generator)
    shares = node_shares(scenes.among_nodes(asked + shift), shown.shape[1] - 1)
    target = averaged(shown, shares).clamp_(0, 1)
    return Window(counts, frames, frame_shutters, asked, target, kept, sensors, scenes.window_us)


def believed_thresholds(sensors: Sensors, error: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw what calibration would tell: the true thresholds times log-normal errors, mostly shared by both signs.

    Args:
        sensors: the truth.
        error: standard deviation of the logarithm of the shared error; the signs' own is a third of it.
        rng: draws it.

    Returns:
        float32 [b] positive and negative.
    """
    batch = len(sensors.threshold_positive)
    shared, own = error * rng.standard_normal(batch), error / 3 * rng.standard_normal((2, batch))
    wrong = torch.from_numpy(np.exp(shared + own).astype(np.float32)).to(sensors.threshold_positive.device)
    return sensors.threshold_positive * wrong[0], sensors.threshold_negative * wrong[1]


def make_sample(
    window: Window, positive: Tensor, negative: Tensor, *, segments: int, bins: int, task: str, index: int
) -> Sample:
    """Turn windows into the network's inputs.

    Args:
        window: b windows of T steps, T >= M B.
        positive, negative: float32 [b], believed thresholds.
        segments, bins: M and B.
        task, index: kept in the sample.
    """
    change = event_integral(window.counts, positive, negative)
    shape = (change.shape[0], segments, bins)
    edges = torch.arange(segments + 1, device=change.device, dtype=torch.float32) / segments
    ranges = torch.stack([edges[:-1], edges[1:]], -1).expand(len(change), -1, -1).contiguous()
    frames, exposures = window.frames, window.frame_shutters
    if frames.shape[1] == 0:
        frames = torch.full_like(window.target[:, :1], UNKNOWN_LIGHT)
        exposures = torch.tensor([0.0, 1.0], device=change.device).expand(len(change), 1, change.shape[2], 2)
    log_gain = changes(window.counts, positive, negative, window.observed).log_gain
    again = re_expose(frames, log_gain, exposures, window.shutters).sqrt().clamp_(max=BRIGHTEST)
    trust = log_trust(window.counts, window.observed, exposures, window.shutters)
    return Sample(
        images=window.frames.sqrt()[:, :, None],
        voxels=_shared_out(change, segments * bins).view(*shape, *change.shape[2:]),
        image_ranges=window.frame_shutters,
        segment_ranges=ranges,
        observed=(_shared_out(1 - window.observed, segments * bins) == 0).float().view(shape),
        shutters=window.shutters,
        re_exposed=torch.stack([again, trust], 3),
        target=window.target.sqrt()[:, :, None],
        task=task,
        index=index,
    )


def _shared_out(change: Tensor, bins: int) -> Tensor:
    """Sum steps [b, T, ...] to bins [b, bins, ...]; a step that an edge cuts is shared out by time."""
    steps = change.shape[1]
    if steps % bins == 0:
        return change.unflatten(1, (bins, steps // bins)).sum(2)
    edges = torch.arange(bins + 1, device=change.device, dtype=torch.float32) * steps / bins
    step = torch.arange(steps, device=change.device, dtype=torch.float32)
    overlap = torch.minimum(edges[1:, None], step + 1) - torch.maximum(edges[:-1, None], step)
    return torch.einsum("kt,bt...->bk...", overlap.clamp_(min=0), change)


def _draw_task(data: DataSettings, rng: np.random.Generator) -> str:
    names = list(data.tasks)
    weights = np.array([data.tasks[name] for name in names], np.float64)
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _turned(scenes: Scenes, turn: int) -> Scenes:
    """Make another window of the same light: backwards in time, mirrored, or on its side."""
    light, dark = scenes.light, scenes.dark
    if turn & 1:
        light = light.flip(1)

    def placed(images: Tensor) -> Tensor:
        images = images.flip(-1) if turn & 1 else images
        images = images.transpose(-1, -2) if turn & 2 else images
        return (images.flip(-1) if turn & 4 else images).contiguous()

    return replace(scenes, light=placed(light), dark=None if dark is None else placed(dark))


def _losses(
    data: DataSettings, shutters: Shutters, rng: np.random.Generator, *, bins: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Lose a span of events in some windows: anywhere, or all of them between two exposures, as some sets have it."""
    observed = np.ones((data.batch, bins), np.float32)
    for window in np.flatnonzero(rng.random(data.batch) < data.drop_share):
        length = rng.uniform(0.04, 0.4)
        start = rng.uniform(0, 1 - length)
        end = start + length
        if shutters.frames.shape[1] == 2 and rng.random() < 0.4:
            # From the last row's end of the first to the first row's start of the second exposure.
            start, end = shutters.frames[window, 0, :, 1].max(), shutters.frames[window, 1, :, 0].min()
        observed[window, int(np.ceil(start * bins)) : int(np.floor(end * bins))] = 0
    return observed
