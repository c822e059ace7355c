"""An event camera and a frame camera as one source: exposures by edges, frames on the event sensor's pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivers.cameras.hybrid.source import HybridSource, open_source
from nire.errors import ConfigError, SourceError
from nire.metrics import psnr
from nire.types import EventBatch, Frame, Trigger
from tests.drivers.cameras.hybrid import rig as hybrid_rig
from tests.drivers.cameras.hybrid.rig import EVENT_SIZE, FIRST_US, PERIOD_US, Rig, build

# Frame 4 loses its end, frame 7 both edges; one edge before the first exposure, two between, one inside.
LOST = ((4, False), (7, True), (7, False))
SPURIOUS_US = (3_000, 2 * PERIOD_US + 2_000, 5 * PERIOD_US + 36_500, 9 * PERIOD_US + 17_000)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """Jitter, a drifting clock, lost and spurious edges."""
    return build(tmp_path_factory.mktemp("rig"), lost=LOST, spurious_us=SPURIOUS_US)


def opened(rig: Rig, **settings: object) -> HybridSource:
    source = open_source(**rig.settings(**settings))
    assert isinstance(source, HybridSource)
    return source


def frames_of(source: HybridSource) -> dict[int, Frame]:
    with source:
        return {packet.index: packet for packet in source if isinstance(packet, Frame)}


def test_exposures_are_right_to_a_microsecond_and_losses_are_visible(rig: Rig) -> None:
    source = opened(rig)
    frames = frames_of(source)
    assert set(frames) == set(range(len(rig.exposures_us))) - {7}  # a hole in the indices is a lost frame
    for index, frame in frames.items():
        start_us, end_us = rig.exposures_us[index]
        assert abs(frame.exposure_start_us - start_us) <= 1, index
        assert abs(frame.exposure_end_us - end_us) <= 1, index
    counters = source.counters
    assert (counters.exposures_exact, counters.exposures_estimated, counters.frames_without_edges) == (10, 1, 1)
    assert counters.edges_ignored >= 2 * len(SPURIOUS_US) - 1


def test_frames_lie_on_the_pixels_of_the_events_with_their_colours(rig: Rig) -> None:
    with opened(rig) as source:
        assert (source.info.geometry.width, source.info.geometry.height) == EVENT_SIZE
        assert source.info.geometry.channels == 3
        frame = next(packet for packet in source if isinstance(packet, Frame))
    steps = np.linspace(*rig.exposures_us[frame.index], 21)
    exposed = np.mean([rig.truth(t_us).astype(np.float64) for t_us in steps], axis=0).round().astype(np.uint8)
    seen = frame.pixels.any(axis=2)
    assert seen.mean() > 0.97
    assert psnr(frame.pixels[seen], exposed[seen]) > 38
    assert psnr(frame.pixels[seen][:, ::-1], exposed[seen]) < 25  # red is not blue


def test_events_that_the_frame_camera_does_not_see_are_dropped_or_kept(rig: Rig) -> None:
    def places(outside: str) -> set[tuple[int, int]]:
        with opened(rig, outside=outside) as source:
            batches = [packet for packet in source if isinstance(packet, EventBatch)]
        return {(int(x), int(y)) for b in batches for x, y in zip(b.x, b.y, strict=True)}

    frame = next(iter(frames_of(opened(rig)).values()))
    dark = {(int(x), int(y)) for y, x in np.argwhere(~frame.pixels.any(axis=2))}
    assert dark
    assert not places("drop") & dark
    assert places("keep") & dark


def test_edges_are_passed_on_and_frames_follow_their_events(rig: Rig) -> None:
    watermark_us = -np.inf
    edges = 0
    with opened(rig) as source:
        for packet in source:
            if isinstance(packet, EventBatch):
                watermark_us = packet.watermark_us
            elif isinstance(packet, Frame):
                assert packet.last_us <= watermark_us
            edges += isinstance(packet, Trigger)
    assert edges == 2 * len(rig.exposures_us) - len(LOST) + 2 * len(SPURIOUS_US)


def test_row_delay_and_delays_of_the_line_are_taken_to_the_event_sensors_rows(rig: Rig) -> None:
    plain = frames_of(opened(rig))
    tilted = frames_of(opened(rig, row_delay_us=20.0, start_delay_us=5.0, end_delay_us=9.0))
    inverse = np.linalg.inv(hybrid_rig.FRAME_TO_EVENTS)
    middle = EVENT_SIZE[0] / 2
    rows = [float((inverse @ [middle, y, 1])[1]) for y in (0, 50)]  # rows of the frame camera
    for index, frame in tilted.items():
        assert frame.exposure_start_us - plain[index].exposure_start_us == pytest.approx(20 * rows[0] - 5, abs=25)
        assert frame.exposure_end_us - frame.exposure_start_us == pytest.approx(20_000 - 4, abs=2)
        assert frame.row_delay_us == pytest.approx(20 * (rows[1] - rows[0]) / 50, rel=0.02)


def test_line_that_falls_at_the_start_or_signals_only_the_start(rig: Rig) -> None:
    # The same edges read upside down: what was between exposures is taken for one, so the order of starts is another.
    low = frames_of(opened(rig, active="low"))
    assert all(frame.exposure_start_us not in dict(rig.exposures_us) for frame in low.values())
    given = frames_of(opened(rig, exposure_us=12_345))
    starts = {index: frame.exposure_start_us for index, frame in given.items()}
    assert starts.items() <= {index: start for index, (start, _) in enumerate(rig.exposures_us)}.items()
    assert {frame.exposure_end_us - frame.exposure_start_us for frame in given.values()} == {12_345}


def test_frames_that_no_edge_fits_are_an_error_that_says_what_was_seen(rig: Rig) -> None:
    source = opened(rig, channel=1)
    with pytest.raises(SourceError, match=r"none of 12 frames .* on channel 6.*channel"):
        frames_of(source)


def test_settings_that_cannot_be_are_refused_with_a_remedy(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.settings\.registration"), opened(rig, registration=""):
        pass
    with pytest.raises(ConfigError, match="cannot read"), opened(rig, registration=str(tmp_path / "none.toml")):
        pass
    for wrong, named in (
        ({"active": "up"}, "active"),
        ({"frames": {}}, "frames"),
        ({"frames": {"driver": "record"}}, "recorded"),
        ({"frames": {"driver": "recorded", "path": "x", "time": ""}}, "did you mean 'times'"),
        ({"events": None}, "events"),
        ({"events": {"driver": "hybrid"}}, "another one"),
    ):
        with pytest.raises(ConfigError, match=named):
            open_source(**rig.settings(**wrong))


def test_edges_on_two_channels_ask_for_a_choice(rig: Rig, tmp_path: Path) -> None:
    other = Trigger(FIRST_US + 500, 2, True)
    path = tmp_path / "two.nire"
    hybrid_rig._write_events(path, [EventBatch.empty(FIRST_US + 1000)], [other, Trigger(FIRST_US + 600, 6, True)])
    source = open_source(**rig.settings(channel=None, events={"driver": "auto", "path": str(path)}))
    with pytest.raises(ConfigError, match="channels 2, 6"), source:
        list(source)
