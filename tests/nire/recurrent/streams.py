"""A tiny network that remembers, and windows of random events that follow one another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nire.engines import Job
from nire.recurrent.config import RecurrentConfig
from nire.recurrent.engines import Told, open_runner
from nire.recurrent.network import Events, RecurrentNetwork, told
from nire.recurrent.reconstructor import RecurrentReconstructor
from nire.types import Calibration, ContentWindow, EventBatch, Gap, Geometry
from tests.nire.windows import random_events

TINY = RecurrentConfig(size="tiny", bins=2, channels=(4, 6, 8), blocks=(1, 0, 1))
GEOMETRY = Geometry(20, 13)
PADDED = 16, 24
SPAN_US, REACH_US = 33_000, 4_000
CALIBRATION = Calibration(0.2, 0.3)


def trained_a_little(seed: int = 3) -> RecurrentNetwork:
    """A network all of whose layers do something."""
    torch.manual_seed(seed)
    network = RecurrentNetwork(TINY)
    with torch.no_grad():
        for value in network.layers.leave.parameters():
            value.add_(0.3 * torch.randn(value.shape))
    return network.eval()


def random_window(batch: int = 1, seed: int = 5) -> tuple[torch.Tensor, Events]:
    """What a network is given: light at a window's start, and its events."""
    draw = torch.Generator().manual_seed(seed)
    before = torch.rand((batch, *PADDED), generator=draw)
    change = 0.3 * torch.randn((batch, TINY.bins, *PADDED), generator=draw)
    numbers = torch.rand((2, batch), generator=draw) * 0.4 + 0.1
    return before, Events(change, change.abs(), told(*numbers, torch.full((batch,), 30_000.0)))


def random_told(seed: int = 5) -> Told:
    """What a sensor that is smaller than the network's maps tells of a window."""
    draw = torch.Generator().manual_seed(seed)
    shape = TINY.bins + 1, GEOMETRY.height, GEOMETRY.width
    gains = torch.randn(shape, generator=draw).mul(0.3).exp()
    counts = torch.rand(shape, generator=draw).mul(3).cumsum(0)
    return Told(gains, counts, told(*(torch.tensor([n]) for n in (0.2, 0.3, 33_000.0))))


def reconstructor(folder: Path, engine: str = "eager") -> RecurrentReconstructor:
    """The tiny network at work in float32."""
    job = Job(*PADDED, (0,), torch.device("cpu"), "fp32", folder)
    return RecurrentReconstructor(GEOMETRY, open_runner(engine, trained_a_little(), job), TINY, job=job, bin_us=500)


def stream(count: int, *, first_us: int = 330_000, events: int = 600) -> list[ContentWindow]:
    """Windows of a stream of random events, as the policy `span` cuts them."""
    end_us = first_us + SPAN_US * count + REACH_US
    drawn = random_events(4, events * (count + 1), first_us - REACH_US, end_us, GEOMETRY)
    return [_cut(drawn, n, first_us + SPAN_US * n) for n in range(count)]


def with_gap(window: ContentWindow, begin_us: int, end_us: int) -> ContentWindow:
    """Lose some events of a window."""
    events = window.events
    kept = (events.t_us < begin_us) | (events.t_us >= end_us)
    left = EventBatch(events.t_us[kept], events.x[kept], events.y[kept], events.p[kept], events.watermark_us)
    return replace(window, events=left, gaps=(Gap(begin_us, end_us, "lost"),))


def _cut(drawn: EventBatch, index: int, begin_us: int) -> ContentWindow:
    first_us, last_us = begin_us - REACH_US, begin_us + SPAN_US + REACH_US
    low, high = np.searchsorted(drawn.t_us, [first_us, last_us])
    parts = (values[low:high] for values in (drawn.t_us, drawn.x, drawn.y, drawn.p))
    return ContentWindow(
        index,
        first_us,
        last_us,
        (),
        EventBatch(*parts, last_us),
        GEOMETRY,
        answers_us=(begin_us, begin_us + SPAN_US),
        covered_us=(first_us, last_us),
        calibration=CALIBRATION,
    )
