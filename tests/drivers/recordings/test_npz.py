"""Frames and events in named arrays: colours, depths and types that are read, and values that are refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drivers.detect import open_recording
from drivers.packets.cleaning import cleaned
from drivers.source import SourceInfo
from nire.errors import ConfigError, NireError, SourceError
from nire.types import EventBatch, Frame

EVENTS, HEIGHT, WIDTH = 400, 12, 16
RNG = np.random.default_rng(3)
T_US = np.sort(RNG.integers(0, 100_000, EVENTS))
X, Y, P = RNG.integers(0, WIDTH, EVENTS), RNG.integers(0, HEIGHT, EVENTS), RNG.integers(0, 2, EVENTS)
FRAMES = RNG.integers(0, 256, (3, HEIGHT, WIDTH), np.uint8)
STARTS_US = np.array([5000, 45_000, 85_000])


def written(path: Path, **changes: Any) -> Path:
    """Write a recording whose events go on between exposures."""
    arrays = {
        "frames": FRAMES,
        "exposure_start_us": STARTS_US,
        "exposure_end_us": STARTS_US + 10_000,
        "t_us": T_US,
        "x": X,
        "y": Y,
        "p": P,
    }
    np.savez(path / "a.npz", **(arrays | changes))
    return path / "a.npz"


def read(path: Path, **settings: Any) -> tuple[SourceInfo, list[Frame], list[NDArray[Any]]]:
    """Read what a stream gets: frames, and the columns of all events."""
    with open_recording(path, **settings) as source:
        packets, info = list(cleaned(source)), source.info
    batches = [packet for packet in packets if isinstance(packet, EventBatch)]
    columns = [np.concatenate([getattr(batch, name) for batch in batches]) for name in ("t_us", "x", "y", "p")]
    return info, [packet for packet in packets if isinstance(packet, Frame)], columns


@pytest.mark.parametrize("t", [np.int32, np.int64, np.uint64, np.float64], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("xy", [np.uint8, np.int16, np.uint16, np.float32], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "p", [P.astype(np.bool_), P.astype(np.uint8), (2 * P - 1).astype(np.int8), P.astype(np.float32)], ids=str
)
def test_events_of_any_type_are_the_same(tmp_path: Path, t: type, xy: type, p: NDArray[Any]) -> None:
    _, _, columns = read(written(tmp_path, t_us=T_US.astype(t), x=X.astype(xy), y=Y.astype(xy), p=p))
    for found, expected in zip(columns, (T_US, X, Y, P), strict=True):
        assert np.array_equal(found, expected)


REFUSED = [
    ("t_us", T_US / 1e6, r"t_us is 0\.\d+ in row \d+, expected whole microseconds"),
    ("t_us", T_US + 0.25, r"t_us is \d+\.25 in row 0"),
    ("t_us", np.where(np.arange(EVENTS) == 7, np.nan, T_US), "t_us is nan in row 7"),
    ("t_us", np.where(np.arange(EVENTS) == 9, np.inf, T_US), "t_us is inf in row 9"),
    ("t_us", T_US.astype(np.uint64) + np.uint64(2**63), r"t_us is 9\.22\d+e\+18 in row 0"),
    ("t_us", T_US.astype("U8"), "t_us is of type <U8"),
    ("x", X + 0.5, r"x is \d+\.5 in row 0, expected whole pixels"),
    ("y", np.where(np.arange(EVENTS) == 3, np.nan, Y), "y is nan in row 3"),
    ("x", X + 65536, "events lie outside the sensor of 16 x 12"),
    ("y", Y - 65536, "events lie outside the sensor"),
    ("p", P * 256, "the polarities are 0, 256, expected 0 and 1, or -1 and 1"),
    ("p", P / 2, "the polarities are 0, 0.5"),
    ("p", P + 1, "the polarities are 1, 2"),
    ("exposure_start_us", STARTS_US + 0.5, r"exposure_start_us is 5000\.5 in row 0"),
    ("exposure_end_us", STARTS_US + 60_000, r"goes from 5000 to 65000 us, expected an end before the next one starts"),
    ("frames", np.zeros((3, HEIGHT, WIDTH, 2), np.uint8), "frames have 2 channels, expected 1 or, in RGB, 3"),
    ("frames", np.zeros((3, HEIGHT, WIDTH, 5), np.uint8), "frames have 5 channels"),
    ("frames", FRAMES.astype(np.int32), "images of int32"),
]


@pytest.mark.parametrize(("name", "values", "message"), REFUSED, ids=[message[:24] for _, _, message in REFUSED])
def test_values_that_are_not_what_their_name_says_are_refused(
    tmp_path: Path, name: str, values: NDArray[Any], message: str
) -> None:
    with pytest.raises(NireError, match=message):
        read(written(tmp_path, **{name: values}))


def test_polarity_may_be_set(tmp_path: Path) -> None:
    path = written(tmp_path, p=P * 256)
    assert np.array_equal(read(path, polarity="positive")[2][3], P)
    assert np.array_equal(read(path, polarity="inverted")[2][3], 1 - P)
    for wrong in ({"polarity": "upwards"}, {"bits": 9}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            read(path, **wrong)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_are_those_of_the_arrays(tmp_path: Path, channels: int) -> None:
    images = RNG.integers(0, 256, (3, HEIGHT, WIDTH, channels), np.uint8)
    info, frames, _ = read(written(tmp_path, frames=images))
    assert info.geometry.channels == min(channels, 3)
    assert np.array_equal(np.stack([frame.pixels for frame in frames]), images[..., :3])


def test_frames_of_16_bits_become_8(tmp_path: Path) -> None:
    wide = FRAMES.astype(np.uint16) << 2
    info, frames, _ = read(written(tmp_path, frames=wide))
    assert np.array_equal(np.stack([frame.pixels[..., 0] for frame in frames]), FRAMES)
    assert any(found.what == "bits of pixels" for found in info.found)
    with pytest.raises(SourceError, match=r"set source\.settings\.bits"):
        read(written(tmp_path, frames=wide >> 3))
    assert np.array_equal(read(written(tmp_path, frames=wide >> 3), bits=10)[1][0].pixels[..., 0], FRAMES[0] >> 3)


def test_time_before_zero_is_time_and_minus_one_is_none(tmp_path: Path) -> None:
    earlier = {"t_us": T_US - 50_000, "exposure_start_us": STARTS_US - 50_000, "exposure_end_us": STARTS_US - 40_000}
    _, frames, columns = read(written(tmp_path, **earlier))
    assert [frame.exposure_start_us for frame in frames] == (STARTS_US - 50_000).tolist()
    assert columns[0][0] == T_US[0] - 50_000
    starts, ends = STARTS_US.copy(), STARTS_US + 10_000
    starts[1] = ends[1] = -1
    _, frames, _ = read(written(tmp_path, exposure_start_us=starts, exposure_end_us=ends))
    assert [frame.index for frame in frames] == [0, 2]


def test_frame_that_is_there_twice_is_used_once(tmp_path: Path) -> None:
    twice = np.array([0, 1, 1, 2])
    changes = {"frames": FRAMES[twice], "exposure_start_us": STARTS_US[twice], "frame_id": twice}
    _, frames, _ = read(written(tmp_path, **changes, exposure_end_us=STARTS_US[twice] + 10_000))
    assert [frame.index for frame in frames] == [0, 1, 2]
