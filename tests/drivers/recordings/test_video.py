"""A video is light: frames are its exposures, events its changes, and a damaged one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivers.detect import open_recording
from drivers.recordings.video import open_source, recognise
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.light import decode_table
from nire.types import EventBatch, Frame, SourcePacket
from tests.drivers.recordings import videos

IDEAL: dict[str, Any] = {"noise": "ideal", "frame_rate_hz": 25.0, "exposure_us": 20_000}


def _read(path: Path, **settings: Any) -> tuple[list[EventBatch], list[Frame]]:
    with open_recording(path, **{**IDEAL, **settings}) as source:
        packets = list(source)
    return [p for p in packets if isinstance(p, EventBatch)], [p for p in packets if isinstance(p, Frame)]


def test_frame_is_the_mean_of_linear_light_over_its_exposure(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.avi", [*videos.flat(60, count=1), *videos.flat(200, count=2)])
    for transfer in ("linear", "srgb"):
        _, frames = _read(path, transfer=transfer)
        # Light rises linearly over the first 20 ms, which is the first exposure: its mean is the mean of both.
        dark, bright = decode_table("srgb")[[60, 200]]
        found = decode_table(transfer)[frames[0].pixels]
        np.testing.assert_allclose(found, (dark + bright) / 2, atol=3)  # JPEG and 8 bits
        assert (frames[0].exposure_start_us, frames[0].exposure_end_us) == (0, 20_000)
        assert frames[0].transfer == transfer


def test_pixel_that_gets_brighter_fires_once_a_threshold(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.avi", [*videos.flat(100, count=1), *videos.flat(160, count=1)])
    batches, _ = _read(path, sensor={"threshold_positive": 0.1})
    first, last = decode_table("srgb")[[100, 160]]
    expected = int(np.log(last / first) / 0.1)
    events = np.concatenate([batch.p for batch in batches])
    assert events.all()
    assert events.size == 32 * 24 * expected
    assert batches[-1].watermark_us == 20_000


def test_colours_keep_their_channels_and_events_see_the_luma(tmp_path: Path) -> None:
    red = np.zeros((24, 32, 3), np.uint8)
    red[..., 0] = 220
    path = videos.write(tmp_path / "a.avi", [red] * 3)
    _, (frame, *_) = _read(path)
    assert frame.pixels.shape == (24, 32, 3)
    assert frame.pixels[..., 0].min() > 200
    assert frame.pixels[..., 1:].max() < 20
    _, (gray, *_) = _read(path, colour=False, transfer="linear")
    assert gray.pixels.shape == (24, 32, 1)
    assert gray.pixels.mean() == pytest.approx(0.2126 * decode_table("srgb")[220], abs=2)


def test_slow_motion_plays_at_the_speed_of_the_scene(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.avi", videos.sliding(count=17))
    batches, frames = _read(path, slow_down=8.0, frame_rate_hz=100.0, exposure_us=5_000, step_us=500)
    assert batches[-1].watermark_us == 40_000  # 16 periods of 20 ms, eight times as fast
    assert [frame.exposure_start_us for frame in frames] == [0, 10_000, 20_000, 30_000]


def test_length_and_width_are_as_asked(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.avi", videos.sliding(count=12))
    with open_recording(path, max_width=32, seconds=0.1) as source:
        assert (source.info.geometry.width, source.info.geometry.height) == (32, 24)
        assert source.info.duration_us == 100_000
        watermarks = [packet.watermark_us for packet in source if isinstance(packet, EventBatch)]
    assert watermarks[-1] == 100_000


def test_kind_is_told_from_the_content(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.avi", videos.sliding(count=3)).rename(tmp_path / "a.aedat4")
    with open_recording(path) as source:
        assert source.info.geometry.channels == 3
    assert recognise(b"\x47" + bytes(187) + (b"\x47" + bytes(187)) * 3, path)
    assert not recognise(b"\x47" + bytes(4000), path)
    assert not recognise(b"PK\x03\x04" + bytes(100), path)


def test_cut_video_gives_what_is_there_and_then_says_where_it_ends(tmp_path: Path) -> None:
    whole = videos.write(tmp_path / "a.avi", videos.sliding(count=40)).read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: len(whole) // 2])
    with open_recording(path) as source:
        delivered: list[SourcePacket] = []
        with pytest.raises(RecordingDamaged, match="ends after image") as damage:
            delivered.extend(source)
    assert len([packet for packet in delivered if isinstance(packet, Frame)]) > 2
    assert damage.value.position is not None
    assert 5 < damage.value.position < 30


def test_what_only_looks_like_a_video_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(300))
    with pytest.raises(SourceError, match=r"cannot be opened as a video|no image"), open_recording(path):
        pass
    with pytest.raises(SourceError, match="there is no file"), open_source(tmp_path / "none.mp4"):
        pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exposure_us": 50_000}, "exposure_us = 50000, expected 0 to the frame period of 40000"),
        ({"slow_down": 0}, "slow_down = 0, expected"),
        ({"max_width": 2.5}, "max_width = 2.5, expected a whole number"),
        ({"transfer": "gamma"}, "transfer = 'gamma'"),
        ({"noise": "loud"}, "noise = 'loud'"),
        ({"sensor": {"thresholds": 1}}, "'sensor' may set threshold_positive"),
    ],
)
def test_bad_setting_is_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_source(tmp_path / "a.mp4", **settings)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "size"),
    [("sam2_01_dog.mp4", (640, 360)), ("intel_asl_walk.mkv", (640, 480)), ("mdn_flower.mp4", (640, 360))],
)
def test_real_videos_become_frames_and_events(shared_data: Path, name: str, size: tuple[int, int]) -> None:
    with open_recording(shared_data / "videos" / name, seconds=0.2, max_width=320) as source:
        assert source.info.geometry.width == 320
        assert source.info.geometry.height == round(size[1] * 320 / size[0])
        packets = list(source)
    frames = [packet for packet in packets if isinstance(packet, Frame)]
    assert [frame.exposure_end_us for frame in frames] == [20_000, 60_000, 100_000, 140_000, 180_000]
    assert sum(len(packet) for packet in packets if isinstance(packet, EventBatch)) > 1000
