"""The remembered content: what a window goes on from, what forgets, and that images of one stream hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nire.backends import events_only
from nire.engines import Job
from nire.errors import ConfigError
from nire.network import weights
from nire.recurrent.engines import Told
from nire.recurrent.reconstructor import FORGOTTEN_US, MISSED_US, RecurrentReconstructor
from nire.shutter import Shutter
from nire.types import ContentWindow, EventBatch, Geometry, Query
from tests.nire.recurrent.streams import (
    CALIBRATION,
    GEOMETRY,
    PADDED,
    REACH_US,
    SPAN_US,
    TINY,
    reconstructor,
    stream,
    with_gap,
)

Image = NDArray[np.uint8]


def middle(window: ContentWindow) -> float:
    return sum(window.answers_us) / 2


def exposed(backend: RecurrentReconstructor, window: ContentWindow, *times_us: float) -> Image:
    content = backend.build(window)
    asked = [Query(window.film, Shutter.instant(t_us, GEOMETRY.height), "test") for t_us in times_us]
    return np.array(backend.expose(content, asked))


def shown(backend: RecurrentReconstructor, windows: Sequence[ContentWindow]) -> Image:
    """The image in the middle of the last of some windows, all of which are built."""
    for window in windows[:-1]:
        backend.build(window)
    return exposed(backend, windows[-1], middle(windows[-1]))[0]


def test_window_goes_on_from_the_one_before_it(tmp_path: Path) -> None:
    windows = stream(3)
    together = shown(reconstructor(tmp_path), windows)
    assert not np.array_equal(together, shown(reconstructor(tmp_path), windows[2:]))
    assert np.array_equal(together, shown(reconstructor(tmp_path), windows))


def test_window_that_is_built_again_goes_on_from_the_same(tmp_path: Path) -> None:
    windows, backend = stream(4), reconstructor(tmp_path)
    first = [exposed(backend, window, middle(window)) for window in windows]
    for n in (3, 1, 2, 0, 3):
        assert np.array_equal(exposed(backend, windows[n], middle(windows[n])), first[n])


def test_who_looks_back_does_not_change_what_comes_next(tmp_path: Path) -> None:
    windows = stream(4)
    straight = shown(reconstructor(tmp_path), windows)
    assert np.array_equal(shown(reconstructor(tmp_path), [*windows[:3], windows[1], windows[0], windows[3]]), straight)


class Listening:
    """An engine that keeps what it was told, and says that nothing changed."""

    name = "listening"

    def __init__(self) -> None:
        self.told: list[Told] = []

    def __call__(
        self, before: torch.Tensor, told: Told, mind: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        self.told.append(told)
        return before.expand(TINY.bins, -1, -1).clone(), ()


@pytest.mark.parametrize("after_us", [0, REACH_US], ids=["no events after", "events after"])
def test_every_event_counts_whole_in_one_window(after_us: int) -> None:
    windows = [
        replace(w, t1_us=int(w.answers_us[1]) + after_us, events=until(w.events, int(w.answers_us[1]) + after_us))
        for w in stream(4, events=150)
    ]
    listening = Listening()
    job = Job(*PADDED, (0,), torch.device("cpu"), "fp32")
    backend = RecurrentReconstructor(GEOMETRY, listening, TINY, job=job, bin_us=500)
    for window in windows:
        backend.build(window)
    change = sum(torch.log(told.gains[-1] / told.gains[0]) for told in listening.told)
    events = EventBatch.joined([until(w.events, int(w.answers_us[1]), int(w.answers_us[0])) for w in windows])
    expected = np.zeros((GEOMETRY.height, GEOMETRY.width))
    steps = np.where(events.p > 0, CALIBRATION.threshold_positive, -CALIBRATION.threshold_negative)
    np.add.at(expected, (events.y, events.x), steps)
    assert np.abs(np.asarray(change) - expected).max() < 1e-3


def until(events: EventBatch, end_us: int, begin_us: int = 0) -> EventBatch:
    kept = (events.t_us >= begin_us) & (events.t_us < end_us)
    return EventBatch(events.t_us[kept], events.x[kept], events.y[kept], events.p[kept], end_us)


@pytest.mark.parametrize(
    ("missed_us", "forgets"),
    [((0, MISSED_US + 1000), True), ((3000, 3000 + MISSED_US // 2), False), ((-REACH_US - MISSED_US, 0), False)],
    ids=["long", "short", "before the window"],
)
def test_events_that_are_missing_for_long_forget(tmp_path: Path, missed_us: tuple[int, int], forgets: bool) -> None:
    windows = stream(3)
    begin_us, end_us = (int(windows[2].answers_us[0]) + t_us for t_us in missed_us)
    broken = with_gap(windows[2], begin_us, end_us)
    alone = shown(reconstructor(tmp_path), [broken])
    assert np.array_equal(shown(reconstructor(tmp_path), [*windows[:2], broken]), alone) is forgets


def test_skipped_window_does_not_forget_and_a_long_silence_does(tmp_path: Path) -> None:
    windows = stream(2 + FORGOTTEN_US // SPAN_US + 2)
    near, far = windows[2], windows[-1]
    assert not np.array_equal(
        shown(reconstructor(tmp_path), [windows[0], near]), shown(reconstructor(tmp_path), [near])
    )
    assert np.array_equal(shown(reconstructor(tmp_path), [windows[0], far]), shown(reconstructor(tmp_path), [far]))


def test_clock_that_goes_back_forgets(tmp_path: Path) -> None:
    later, earlier = stream(2, first_us=660_000), stream(2)
    alone = shown(reconstructor(tmp_path), earlier)
    assert np.array_equal(shown(reconstructor(tmp_path), [*later, *earlier]), alone)


def test_clock_that_began_again_forgets(tmp_path: Path) -> None:
    windows = stream(2)
    anew = replace(windows[1], events=replace(windows[1].events, epoch=1))
    alone = shown(reconstructor(tmp_path), [anew])
    assert np.array_equal(shown(reconstructor(tmp_path), [windows[0], anew]), alone)


def test_no_seam_between_two_windows(tmp_path: Path) -> None:
    first, second, third = stream(3)
    backend = reconstructor(tmp_path)
    backend.build(first)
    border_us = second.answers_us[1]
    before = exposed(backend, second, border_us - 0.01)
    after = exposed(backend, third, border_us + 0.01)
    assert np.abs(before.astype(int) - after.astype(int)).max() <= 1


def test_rest_of_a_stream_overlaps_and_goes_on_where_the_window_before_ended(tmp_path: Path) -> None:
    windows = stream(3)
    begin_us, end_us = windows[1].answers_us[1], windows[1].answers_us[1] + SPAN_US // 3
    cut = windows[2].events.t_us < end_us
    left = EventBatch(*(getattr(windows[2].events, name)[cut] for name in ("t_us", "x", "y", "p")), int(end_us))
    rest = replace(windows[2], t1_us=int(end_us), events=left, answers_us=(begin_us, end_us), covered_us=(0, end_us))
    backend = reconstructor(tmp_path)
    backend.build(windows[0])
    before = exposed(backend, windows[1], begin_us - 0.01)
    assert np.abs(before.astype(int) - exposed(backend, rest, begin_us).astype(int)).max() <= 1


def test_halves_of_an_exposure_average_to_the_whole_also_beyond_the_window(tmp_path: Path) -> None:
    first, second = stream(2)
    backend = reconstructor(tmp_path)
    backend.build(first)
    content = backend.build(second)
    begin_us, end_us = second.answers_us[0] - REACH_US + 500, second.answers_us[0] + SPAN_US / 2
    cuts = [(begin_us, end_us), (begin_us, (begin_us + end_us) / 2), ((begin_us + end_us) / 2, end_us)]
    light = []
    for opens, closes in cuts:
        shutter = Shutter(np.full(GEOMETRY.height, opens), np.full(GEOMETRY.height, closes))
        backend.expose(content, [Query(second.film, shutter, "test")])
        light.append(backend.light_at(shutter).numpy().copy())
    assert np.abs(light[0] - (light[1] + light[2]) / 2).max() < 0.5


def test_nothing_changes_where_nothing_happens(tmp_path: Path) -> None:
    windows, backend = stream(4), reconstructor(tmp_path)
    still = replace(windows[2], events=until(windows[2].events, 0))
    for window in windows[:2]:
        backend.build(window)
    begin_us, end_us = still.answers_us
    images = exposed(backend, still, begin_us, middle(still), end_us)
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])
    after = shown(backend, [replace(windows[3], events=until(windows[3].events, 0))])
    assert np.array_equal(after, images[2])


def test_hot_pixels_and_time_offset_reach_the_content(tmp_path: Path) -> None:
    windows = stream(2)
    plain = shown(reconstructor(tmp_path), windows)
    hot = np.zeros((GEOMETRY.height, GEOMETRY.width), bool)
    hot[4:6, 7:9] = True
    ignored = [replace(w, calibration=replace(w.calibration, hot_pixels=hot)) for w in windows]
    assert not np.array_equal(shown(reconstructor(tmp_path), ignored), plain)
    # All events later, and the offset that says so: the same images.
    late = [
        replace(
            w,
            t0_us=w.t0_us + 2000,
            t1_us=w.t1_us + 2000,
            events=replace(w.events, t_us=w.events.t_us + 2000, watermark_us=w.events.watermark_us + 2000),
            calibration=replace(w.calibration, time_offset_us=2000.0),
        )
        for w in windows
    ]
    assert np.array_equal(shown(reconstructor(tmp_path), late), plain)


def test_pixel_that_is_found_to_be_hot_is_healed(tmp_path: Path) -> None:
    windows = stream(3)
    y, x = 6, 10
    mad = []
    for window in windows:
        extra = np.linspace(window.t0_us, window.t1_us - 1, 15).astype(np.int64)
        t_us = np.concatenate([window.events.t_us, extra])
        order = np.argsort(t_us, kind="stable")
        columns = [(window.events.x, x, np.uint16), (window.events.y, y, np.uint16), (window.events.p, 1, np.uint8)]
        rest = [np.concatenate([own, np.full(15, value, kind)])[order] for own, value, kind in columns]
        mad.append(replace(window, events=EventBatch(t_us[order], *rest, window.events.watermark_us)))
    hot = np.zeros((GEOMETRY.height, GEOMETRY.width), bool)
    hot[y, x] = True
    backend = reconstructor(tmp_path, "physics")
    backend.build(mad[0])
    dot = exposed(backend, mad[1], middle(mad[1]))[0]
    found = replace(mad[2], calibration=replace(mad[2].calibration, hot_pixels=hot))
    healed = exposed(backend, found, middle(found))[0]
    around = np.sort(healed[y - 1 : y + 2, x - 1 : x + 2, 0].ravel())
    assert dot[y, x, 0] == 255
    assert around[0] <= healed[y, x, 0] <= around[-2]


def test_frames_are_refused(tmp_path: Path) -> None:
    from tests.nire.windows import random_frame

    window = stream(1)[0]
    framed = replace(window, frames=(random_frame(1, 0, 330_000, 340_000, geometry=Geometry(20, 13)),))
    with pytest.raises(ConfigError, match="without frames, this one has 1"):
        reconstructor(tmp_path).build(framed)


@pytest.mark.parametrize("size", ["nano", "small", "base"])
def test_size_of_the_network_for_frames_leaves_events_alone_their_weights(size: str) -> None:
    assert events_only.weights_file(size) == weights.shipped("nano_events_only")
    assert events_only.weights_file(size, "/own.safetensors") == Path("/own.safetensors")
