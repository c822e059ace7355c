"""`info` and `offline` take recordings of every kind as users name them: files, folders, archives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.drivers.recordings import aedat_files, hdf5_files, image_folders, mat_files, ros_files, text_files, videos
from tests.stream.command import CONFIG, call


def _hdf5(folder: Path) -> Path:
    pytest.importorskip("h5py")
    return hdf5_files.write_common(folder / "a.h5")


def _ros(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pytest.importorskip("rosbags")
        return ros_files.KINDS[kind](folder)

    return write


def _dvs128(folder: Path) -> Path:
    words = [aedat_files.dvs128_event(20 * n, n % 128, n % 100) for n in range(3000)]
    return aedat_files.write_2(folder / "a.aedat", words, chip="DVS128")


# Kind -> what writes it, its frames.
KINDS: dict[str, tuple[Callable[[Path], Path], int]] = {
    "aedat 2": (_dvs128, 0),
    "hdf5": (_hdf5, 3),
    "text": (lambda folder: text_files.write_folder(folder / "a", exposures=True), 2),
    "text zipped": (lambda folder: text_files.zipped(text_files.write_folder(folder / "a")), 2),
    "ros 1": (_ros("ros 1"), 2),
    "ros 2 folder": (_ros("ros 2 folder"), 2),
    "mcap": (_ros("mcap"), 2),
    "mat pairs": (lambda folder: mat_files.write(folder / "a"), 3),
    "image folder": (lambda folder: image_folders.write(folder / "a"), 3),
    "video": (lambda folder: videos.write(folder / "a.avi", videos.sliding()), 6),
}


@pytest.mark.parametrize("kind", KINDS)
def test_info_counts_the_frames(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, frames = KINDS[kind]
    done = call(capsys, "info", write(tmp_path))
    assert done.code == 0, done.err
    assert (f"{frames}, " if frames else "none: ") in next(line for line in done.out.splitlines() if "frames  " in line)


@pytest.mark.parametrize("kind", [kind for kind, (_, frames) in KINDS.items() if frames])
def test_offline_exposes_the_frames_afresh(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, frames = KINDS[kind]
    settings = ("plan.name=deblur", "source.exposure_us=1000", "reconstructor.threads=1")
    out = tmp_path / "out"
    done = call(capsys, "offline", CONFIG, write(tmp_path), out, *(w for s in settings for w in ("--set", s)))
    assert done.code == 0, done.err
    assert len(list((out / "frames").iterdir())) == frames


def test_recording_on_the_command_line_is_the_one_that_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, another = videos.write(tmp_path / "a.avi", videos.sliding()), ("--set", "source.settings.path='b'")
    done = call(capsys, "info", path, "--set", "source.driver=video", *another)
    assert done.code == 0, done.err
    assert "a.avi" in done.out
    done = call(capsys, "info", path, *another)  # a recording that is told from its content has no other path
    assert done.code == 2
    assert "leave out the setting path = 'b'" in done.err


def test_value_of_a_wrong_type_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = videos.write(tmp_path / "a.avi", videos.sliding()), tmp_path / "out"
    done = call(capsys, "offline", CONFIG, path, out, "--set", "source.settings.seconds=abc")
    assert done.code == 2
    assert "the driver 'video': seconds = 'abc', expected a number" in done.err
    assert not out.exists()
