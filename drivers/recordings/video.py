"""Any video as a recording: its images are the light in front of a simulated event camera."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from drivers.recording_file import RecordingFile
from drivers.simulated import packets_of_light, shutters
from drivers.source import SourceInfo
from nire.errors import ConfigError, RecordingDamaged, SourceError
from nire.light import LUMA, decode_table
from nire.simulation.pictures import Image
from nire.simulation.sensor_model import SensorModel, sensor_model
from nire.types import EventBatch, Frame, Geometry, Transfer

READS_APART = True
"""The library in C that reads these files can crash over damaged bytes."""
# First bytes of containers: (position, bytes). MP4 and MOV, Matroska, AVI, Ogg, MPEG, Flash, Windows Media, GIF, Y4M.
_MARKS = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI LIST"),
    (0, b"OggS"),
    (0, b"\0\0\x01\xba"),
    (0, b"\0\0\x01\xb3"),
    (0, b"FLV\x01"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (0, b"GIF8"),
    (0, b"YUV4MPEG2"),
)
_TRANSPORT_PACKET = 188  # bytes; MPEG transport streams repeat their sync byte at this distance
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """The settings of a video (`[source.settings]`). Equal settings give equal packets.

    Light between two images of the video is taken as linear between them. That is motion only where things move by
    about a pixel from image to image; where they jump, one image fades into the next, and so do the frames and events
    made of them. Footage at 120 images a second or more, or a small `max_width`, keeps that small.

    Attributes:
        max_width: larger videos are scaled down to it, pixels, at least 16.
        colour: True gives RGB frames; events see the luma in either case.
        slow_down: how much slower the file plays than the scene was: 8 for 240 images a second stored as 30.
        frame_rate_hz: captured frames a second; 0 = none.
        exposure_us: of each row of a captured frame, at most its period.
        row_delay_us: alpha of a rolling shutter, >= 0; 0 = global.
        transfer: of the captured frames' pixels: "srgb" looks like the video, "linear" is what a DAVIS delivers.
        noise: "realistic" or "ideal"; see `nire.simulation.sensor_model.REALISTIC` and `IDEAL`.
        sensor: fields of `nire.sensor_model.SensorModel` that shall differ from those of `noise`.
        seed: of the noise.
        seconds: of the scene, from the start; None = all.
        step_us: distance of the nodes at which light is computed.
        packet_us: period of event batches.
    """

    max_width: int = 640
    colour: bool = True
    slow_down: float = 1.0
    frame_rate_hz: float = 25.0
    exposure_us: float = 20_000.0
    row_delay_us: float = 0.0
    transfer: Transfer = "srgb"
    noise: Literal["realistic", "ideal"] = "realistic"
    sensor: Mapping[str, float] = field(default_factory=dict)
    seed: int = 7
    seconds: float | None = None
    step_us: int = 2000
    packet_us: int = 2000

    def __post_init__(self) -> None:
        """Check ranges that would otherwise show late.

        Raises:
            ConfigError: it names the setting.
        """
        period_us = 1e6 / self.frame_rate_hz if self.frame_rate_hz > 0 else math.inf
        checks = (
            ("max_width", self.max_width >= 16 and self.max_width % 1 == 0, "a whole number, at least 16"),
            ("slow_down", 0.01 <= self.slow_down <= 1000, "0.01 to 1000"),
            ("frame_rate_hz", 0 <= self.frame_rate_hz <= 10_000, "0 to 10000"),
            ("exposure_us", 0 <= self.exposure_us <= period_us, f"0 to the frame period of {period_us:g}"),
            ("row_delay_us", 0 <= self.row_delay_us <= 1e4, "0 to 10000"),
            ("transfer", self.transfer in ("linear", "srgb"), "'linear' or 'srgb'"),
            ("seed", self.seed >= 0, "0 or more"),
            ("seconds", self.seconds is None or self.seconds > 0, "a positive number"),
            ("step_us", 50 <= self.step_us <= 20_000 and self.step_us % 1 == 0, "50 to 20000, whole"),
            ("packet_us", self.packet_us >= self.step_us, f"at least step_us = {self.step_us}"),
        )
        for name, good, expected in checks:
            if not good:
                raise ConfigError(f"video: {name} = {getattr(self, name)!r}, expected {expected}")

    def model(self) -> SensorModel:
        """The sensor that looks at the video.

        Raises:
            ConfigError: `noise` or `sensor` does not describe one.
        """
        try:
            return replace(sensor_model(self.noise), **self.sensor)
        except (TypeError, ValueError) as error:
            names = ", ".join(item.name for item in fields(SensorModel))
            raise ConfigError(f"video: {error}; 'sensor' may set {names}") from error


def recognise(head: bytes, path: Path) -> bool:
    """Tell from its first bytes whether a file is a video; which codecs open depends on OpenCV's FFmpeg."""
    if any(head.startswith(mark, at) for at, mark in _MARKS):
        return True
    sync = head[: 4 * _TRANSPORT_PACKET : _TRANSPORT_PACKET]
    return len(sync) == 4 and sync == b"\x47" * 4


def open_source(
    path: str | Path,
    *,
    max_width: int = 640,
    colour: bool = True,
    slow_down: float = 1.0,
    frame_rate_hz: float = 25.0,
    exposure_us: float = 20_000.0,
    row_delay_us: float = 0.0,
    transfer: Transfer = "srgb",
    noise: Literal["realistic", "ideal"] = "realistic",
    sensor: Mapping[str, float] | None = None,
    seed: int = 7,
    seconds: float | None = None,
    step_us: int = 2000,
    packet_us: int = 2000,
) -> VideoSource:
    """Open a video; it is looked at on entry. Memory holds two of its images at a time.

    Args:
        path: the file.
        max_width, colour, slow_down, frame_rate_hz, exposure_us, row_delay_us: see `VideoSettings`, as all others.
        transfer, noise, sensor, seed, seconds, step_us, packet_us: likewise.

    Raises:
        ConfigError: a setting is out of range.
    """
    settings = VideoSettings(
        max_width=max_width,
        colour=colour,
        slow_down=slow_down,
        frame_rate_hz=frame_rate_hz,
        exposure_us=exposure_us,
        row_delay_us=row_delay_us,
        transfer=transfer,
        noise=noise,
        sensor=sensor or {},
        seed=seed,
        seconds=seconds,
        step_us=step_us,
        packet_us=packet_us,
    )
    return VideoSource(Path(path), settings)


class VideoSource(RecordingFile):
    """The source; each iteration reads the video from its start. Device time 0 is the video's first image."""

    def __init__(self, path: Path, settings: VideoSettings) -> None:
        """Remember path and settings.

        Raises:
            ConfigError: the sensor is unknown or out of range.
        """
        super().__init__(path)
        self.settings = settings
        self._model = settings.model()

    def _look(self) -> SourceInfo:
        """Look at the video's first image.

        Raises:
            SourceError: no such file, or no video that OpenCV can decode.
        """
        video = self._open()
        try:
            good, image = video.read()
            count, rate_hz = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        finally:
            video.release()
        if not good:
            raise SourceError(f"{self.path}: no image of this video can be decoded; is it whole? Try ffmpeg -i on it")
        height, width = self._scaled(image).shape[:2]
        known_s = count / rate_hz / self.settings.slow_down if count > 1 and rate_hz > 0 else None
        lengths_s = [s for s in (known_s, self.settings.seconds) if s is not None]
        return SourceInfo(
            name=f"{self.path.name}, simulated events",
            geometry=Geometry(width, height, channels=3 if self.settings.colour else 1),
            has_frames=self.settings.frame_rate_hz > 0,
            duration_us=round(min(lengths_s) * 1e6) if lengths_s else None,
            time_offset_us=0.0,
        )

    def _play(self) -> Iterator[EventBatch | Frame]:
        """Yield event batches every `packet_us` and each frame right after its read-out.

        Raises:
            RecordingDamaged: the video ends much earlier than its header says; all before was delivered.
        """
        geometry, chosen = self.info.geometry, self.settings
        return packets_of_light(
            self._nodes(),
            shutters(
                rate_hz=chosen.frame_rate_hz,
                exposure_us=chosen.exposure_us,
                row_delay_us=chosen.row_delay_us,
                height=geometry.height,
                start_us=0,
            ),
            self._model,
            step_us=chosen.step_us,
            packet_us=chosen.packet_us,
            seed=chosen.seed,
            transfer=chosen.transfer,
        )

    def _nodes(self) -> Iterator[tuple[int, Image]]:
        """Light at each node, linear between the images of the video."""
        end_us = math.inf if self.settings.seconds is None else self.settings.seconds * 1e6
        node_us = 0
        for (before_us, before), (after_us, after) in itertools.pairwise(self._images()):
            while node_us <= after_us and node_us <= end_us:
                share = (node_us - before_us) / (after_us - before_us)
                yield node_us, cv2.addWeighted(before, 1 - share, after, share, 0)
                node_us += self.settings.step_us
            if node_us > end_us:
                return

    def _images(self) -> Iterator[tuple[float, Image]]:
        """(time in us from the first image, linear light [H, W] or [H, W, 3] RGB), times strictly growing."""
        video = self._open()
        rate_hz = video.get(cv2.CAP_PROP_FPS) or 25.0
        count, latest_us, first_us = 0, -math.inf, 0.0
        try:
            while True:
                good, image = video.read()
                if not good:
                    break
                t_us = video.get(cv2.CAP_PROP_POS_MSEC) * 1000 / self.settings.slow_down
                first_us = t_us if count == 0 else first_us
                t_us -= first_us
                if t_us <= latest_us:  # no time stamps, or broken ones: the nominal rate goes on
                    t_us = latest_us + 1e6 / rate_hz / self.settings.slow_down
                count, latest_us = count + 1, t_us
                yield t_us, self._light(image)
            self._check_whole(video, count)
        finally:
            video.release()

    def _check_whole(self, video: cv2.VideoCapture, count: int) -> None:
        """FFmpeg ends quietly where a file was cut off; the header's count, an estimate in some, shows it."""
        expected = video.get(cv2.CAP_PROP_FRAME_COUNT)
        if expected > 0 and count < 0.9 * expected - 2:
            raise RecordingDamaged(
                f"{self.path} ends after image {count} of {expected:.0f}: it was cut off; all before was delivered",
                count,
            )

    def _light(self, image: Image) -> Image:
        """Linear light 0..1 of an image as OpenCV decodes it (8 bit, BGR, sRGB)."""
        light = decode_table("srgb")[self._scaled(image)] / np.float32(255)
        if light.ndim == 2:
            light = cv2.cvtColor(light, cv2.COLOR_GRAY2BGR)
        if self.settings.colour:
            return np.asarray(cv2.cvtColor(light, cv2.COLOR_BGR2RGB), np.float32)
        return np.asarray(cv2.transform(light, LUMA[::-1].reshape(1, 3)), np.float32)

    def _scaled(self, image: Image) -> Image:
        height, width = image.shape[:2]
        if width <= self.settings.max_width:
            return image
        size = (self.settings.max_width, max(1, round(height * self.settings.max_width / width)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))

    def _open(self) -> cv2.VideoCapture:
        if not self.path.is_file():
            raise SourceError(f"there is no file {self.path}")
        video = cv2.VideoCapture(str(self.path))
        if not video.isOpened():
            raise SourceError(
                f"{self.path} cannot be opened as a video: OpenCV knows neither its container nor its codec. "
                "Convert it, e.g. ffmpeg -i IN -c:v libx264 OUT.mp4"
            )
        return video
