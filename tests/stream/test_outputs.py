"""Files of exposed frames: PNG with an index, and mp4."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import ExposedFrame, Stamps
from stream.images import write_png
from stream.outputs import open_output
from stream.outputs.frames import FrameFolder
from stream.outputs.gif import Gif
from stream.outputs.video import Video

GRAY = np.arange(48 * 64, dtype=np.uint32).astype(np.uint8).reshape(48, 64, 1)
COLOUR = np.stack([GRAY[..., 0], 255 - GRAY[..., 0], GRAY[..., 0] // 2], axis=2)


def exposed(pixels: np.ndarray = GRAY, t_us: float = 1000.0) -> ExposedFrame:
    return ExposedFrame(
        index=0,
        window=3,
        pixels=pixels,
        shutter=Shutter.instant(t_us, pixels.shape[0], row_delay_us=2.0),
        tag="test",
        stamps=Stamps(device_us=t_us),
        backend="edi",
    )


@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("name", ["a.png", "a", "a.jpg"])
def test_png_gives_back_every_pixel_whatever_its_name(tmp_path: Path, pixels: np.ndarray, name: str) -> None:
    write_png(tmp_path / name, pixels)
    assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    image = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint8
    assert (image == (pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., ::-1])).all()


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write the image .*No such file"):
        write_png(tmp_path / "none" / "a.png", GRAY)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write to"):
        FrameFolder(tmp_path / "file")
    with pytest.raises(ConfigError, match="video"), Video(tmp_path / "none" / "a.mp4") as video:
        video.append(GRAY)


def test_line_of_a_frame_has_the_keys_of_the_contract(tmp_path: Path) -> None:
    with FrameFolder(tmp_path) as folder:
        folder.write(exposed(t_us=1643243628737093.0), index=7)
        folder.write(exposed(t_us=0.5), index=8)
    first, second = map(json.loads, (tmp_path / "frames.jsonl").read_text().splitlines())
    assert first == {
        "index": 7,
        "file": "frames/000007.png",
        "tag": "test",
        "t_a_us": 1643243628737093,
        "t_b_us": 1643243628737093,
        "row_delay_us": 2,
        "window": 3,
        "backend": "edi",
    }
    assert second["t_a_us"] == 0.5
    assert (tmp_path / first["file"]).exists()


def test_lines_written_later_are_in_the_order_of_their_indices(tmp_path: Path) -> None:
    with FrameFolder(tmp_path, in_order=False) as folder:
        for index in (5, 2, 9, 2):
            folder.write(exposed(t_us=float(index)), index=index)
    found = [json.loads(line)["index"] for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert found == [2, 5, 9]


@pytest.mark.parametrize("fast", [True, False], ids=["pyav", "opencv"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63), (260, 346)])
def test_video_plays_and_looks_like_its_images(
    tmp_path: Path, size: tuple[int, int], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fast:
        pytest.importorskip("av")
    monkeypatch.setattr("stream.video_file.has_fast_encoder", lambda: fast)
    pixels = np.tile(np.linspace(20, 230, size[1]).astype(np.uint8), (size[0], 1))[..., None]
    with Video(tmp_path / "a.mp4") as video:
        for _ in range(5):
            video.append(pixels)
    reader = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    seen = []
    while (result := reader.read())[0]:
        seen.append(result[1])
    reader.release()
    assert len(seen) == 5
    height, width = size[0] // 2 * 2, size[1] // 2 * 2
    assert seen[0].shape[:2] == (height, width)
    assert np.abs(seen[-1][..., 0].astype(int) - pixels[:height, :width, 0]).mean() < 8


def test_film_of_many_images_stays_small_and_as_long_as_it_is(tmp_path: Path) -> None:
    gif = Gif(tmp_path / "a.gif")
    with gif:
        for index in range(1000):
            gif.write(exposed(np.full((8, 8, 1), index % 256, np.uint8), t_us=index * 40_000.0), index=index)
    assert "250 images (one of 4)" in gif.summary()
    assert "6.25 images a second, real time" in gif.summary()
    with Image.open(tmp_path / "a.gif") as film:
        assert getattr(film, "n_frames", 1) == 250
        film.seek(10)
        assert film.convert("L").getpixel((3, 3)) == 40


def test_video_without_frames_is_no_file(tmp_path: Path) -> None:
    with Video(tmp_path / "a.mp4"):
        pass
    assert not (tmp_path / "a.mp4").exists()


def test_unknown_output_names_the_nearest_and_one_that_lacks_something_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'video'"):
        open_output("vidoe", tmp_path, in_order=True)
    monkeypatch.setattr("stream.outputs.video.missing", lambda: "a package", raising=False)
    with pytest.raises(ConfigError, match="needs a package"):
        open_output("video", tmp_path, in_order=True)


def test_video_of_frames_in_any_order_shows_them_by_index_and_the_last_of_each(tmp_path: Path) -> None:
    levels = {2: 40, 0: 220, 1: 130}
    with open_output("video", tmp_path, in_order=False, plain=True) as video:
        for index in (2, 0, 1):
            for level in (5, levels[index]):
                image = np.full((64, 64, 3), (level, 0, 0), np.uint8)
                video.write(replace(exposed(t_us=0.0), pixels=image), index=index)
    film = cv2.VideoCapture(str(tmp_path / "video.mp4"))
    seen = [film.read()[1][32, 32] for _ in range(3)]
    assert not film.read()[0]
    film.release()
    for index, (blue, _, red) in enumerate(seen):
        assert abs(int(red) - levels[index]) < 15
        assert blue < 30
