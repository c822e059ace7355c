"""The video device: the kernel's own structure, the pixels as a reader decodes them, and what is missing."""

from __future__ import annotations

import ctypes
import fcntl
from pathlib import Path

import cv2
import numpy as np
import pytest

from nire.errors import ConfigError
from stream.outputs import follow_output, lacks, output_module, video_device
from tests.stream.test_outputs import COLOUR, GRAY, exposed


class PixFormat(ctypes.Structure):
    """`struct v4l2_pix_format` of linux/videodev2.h."""

    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("width", "height", "pixelformat", "field", "bytesperline", "sizeimage", "colorspace", "priv")
    ]


class Format(ctypes.Structure):
    """`struct v4l2_format` of linux/videodev2.h: its union is aligned as a pointer is."""

    class _Union(ctypes.Union):
        _fields_ = [("pix", PixFormat), ("raw", ctypes.c_uint8 * 200), ("pointer", ctypes.c_void_p)]

    _fields_ = [("type", ctypes.c_uint32), ("fmt", _Union)]


@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
def test_device_is_told_the_format_once_and_gets_the_images(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, asked = tmp_path / "video9", []
    device.touch()
    # A file stands in for the device, which takes images by plain writes; what the kernel is asked is looked at.
    monkeypatch.setattr(video_device, "missing", lambda: "")
    monkeypatch.setattr(fcntl, "ioctl", lambda file, request, data: asked.append((request, data)) or 0)
    with follow_output("video_device", str(device)) as output:
        output.write(exposed(pixels), index=0)
        output.write(exposed(pixels), index=1)
    ((request, data),) = asked
    assert request == 3 << 30 | ctypes.sizeof(Format) << 16 | ord("V") << 8 | 5  # _IOWR('V', 5, struct v4l2_format)
    wanted = Format.from_buffer_copy(data)
    pix = wanted.fmt.pix
    assert (wanted.type, pix.width, pix.height, pix.pixelformat.to_bytes(4, "little")) == (2, 64, 48, b"YUYV")
    assert (pix.bytesperline, pix.sizeimage, pix.field) == (128, 128 * 48, 1)
    written = np.fromfile(device, np.uint8).reshape(2, 48, 64, 2)
    assert (written[0] == written[1]).all()
    seen = cv2.cvtColor(written[0], cv2.COLOR_YUV2RGB_YUY2)
    smooth = pixels.shape[2] == 1
    assert np.abs(seen.astype(int) - pixels).max() <= (2 if smooth else 255)
    assert np.abs(seen.astype(int) - pixels).mean() < 12


@pytest.mark.skipif(bool(lacks(video_device)), reason="needs the kernel module v4l2loopback")
def test_opencv_reads_the_device() -> None:
    with follow_output("video_device") as output:
        output.write(exposed(GRAY), index=0)
        reader = cv2.VideoCapture(str(video_device._virtual()[0]))
        output.write(exposed(GRAY), index=1)
        good, image = reader.read()
        reader.release()
    assert good
    assert np.abs(image[..., 0].astype(int) - GRAY[..., 0]).mean() < 4


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(video_device, "_VIRTUAL", tmp_path / "none")
    assert "v4l2loopback-dkms" in lacks(output_module("video_device"))
    with pytest.raises(ConfigError, match="modprobe v4l2loopback"):
        follow_output("video_device")


def test_device_that_cannot_be_opened_or_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_device, "missing", lambda: "")
    with pytest.raises(ConfigError, match=r"there is no .*devices of v4l2loopback: none"):
        follow_output("video_device", str(tmp_path / "video7"))
    plain = tmp_path / "video8"
    plain.touch()
    with follow_output("video_device", str(plain)) as output, pytest.raises(ConfigError, match="takes no images"):
        output.write(exposed(GRAY), index=0)  # a file knows no such request


def test_odd_width_loses_its_last_column() -> None:
    assert video_device.yuyv(np.zeros((2, 5, 1), np.uint8)).shape == (2, 4, 2)
