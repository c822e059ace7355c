"""The text at the beginning of Prophesee's RAW and DAT files: its fields, and what they tell of sensor and encoding."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from drivers.settings import LARGEST_PX
from nire.errors import SourceError
from nire.types import Geometry

_MOST_BYTES = 1 << 16
_VGA, _HD = (640, 480), (1280, 720)
# Families of sensors, by how plug-ins, sensors and generations are named. The first that fits is taken.
_FAMILIES = (
    (re.compile(r"genx320|320\.0"), (320, 320)),
    (re.compile(r"imx[67]\d\d|gen4|evc4|\b4\.\d"), _HD),
    (re.compile(r"gen3|evc3|\b3\.\d"), _VGA),
)
_NAMES = ("plugin_name", "sensor_name", "sensor_generation", "generation")


@dataclass(frozen=True, slots=True)
class PropheseeHeader:
    """What the text says.

    Attributes:
        fields: value by keyword, keywords in lower case; the last of repeated ones.
        first_byte: where the data begins.
    """

    fields: dict[str, str]
    first_byte: int

    @property
    def is_dat(self) -> bool:
        """Tell a DAT file (decoded events)."""
        return self.fields.get("data", "").startswith("file containing")

    @property
    def is_raw(self) -> bool:
        """Tell a RAW file (words as the sensor sent them), of any encoding."""
        known = re.match(r"EVT|HISTO|DIFF|MTR|EHC|AER", self.fields.get("format", ""), re.IGNORECASE)
        return not self.is_dat and ("evt" in self.fields or known is not None)

    @property
    def encoding(self) -> tuple[str, dict[str, str]]:
        """Name as in `EVT21`, and options, of a field as `format EVT3;height=720;width=1280`; else of `evt 3.0`."""
        name, *options = self.fields.get("format", "").split(";")
        if not name:
            name = "EVT" + self.fields.get("evt", "").replace(".", "").removesuffix("0")
        pairs = (option.partition("=") for option in options)
        return name.strip().upper(), {key.strip().lower(): value.strip().lower() for key, _, value in pairs}

    @property
    def camera(self) -> str:
        """Plug-in and serial number of the camera, "" where not said."""
        return " ".join(self.fields[key] for key in ("plugin_name", "serial_number") if self.fields.get(key))

    @property
    def says_size(self) -> bool:
        """Tell whether the size of the sensor is known from the header."""
        return self._size() is not None

    def geometry(self, path: Path, size: tuple[int, int] | None) -> Geometry:
        """Find the size of the sensor.

        Args:
            path: of the file, for errors.
            size: as set by the user, width and height in pixels; None = not set.

        Raises:
            SourceError: nothing tells it.
        """
        size = size or self._size()
        if size is None:
            named = ", ".join(f"{key} {self.fields[key]}" for key in _NAMES if key in self.fields) or "no plugin_name"
            raise SourceError(
                f"{path}: the header tells neither the sensor's size (% geometry) nor a known sensor ({named}). "
                "To fix it, set width and height in [source.settings]"
            )
        return Geometry(*size)

    def _size(self) -> tuple[int, int] | None:
        options = self.encoding[1]
        across, _, down = self.fields.get("geometry", "").partition("x")
        pairs = (
            (across, down),
            (options.get("width", ""), options.get("height", "")),
            (self.fields.get("width", ""), self.fields.get("height", "")),
        )
        for pair in pairs:
            width, height = (int(text) if re.fullmatch(r"\s*\d{1,5}\s*", text) else 0 for text in pair)
            if 0 < width <= LARGEST_PX and 0 < height <= LARGEST_PX:
                return width, height
        named = " ".join(self.fields.get(key, "") for key in _NAMES).lower()
        return next((size for pattern, size in _FAMILIES if pattern.search(named)), None)


def parse_header(head: bytes) -> PropheseeHeader:
    """Read lines `% keyword value` up to `% end`, or up to the first bytes that are no such line.

    Args:
        head: the first bytes of the file; a longer header is read as far as it is given.
    """
    fields: dict[str, str] = {}
    at = 0
    while head.startswith(b"% ", at):
        end = head.find(b"\n", at)
        line = _line(head[at + 2 : end]) if end >= 0 else None
        if line is None:
            break
        at = end + 1
        key, _, value = line.partition(" ")
        if key == "end":
            break
        fields[key.lower()] = value.strip()
    return PropheseeHeader(fields, at)


def read_header(path: Path) -> PropheseeHeader:
    """Read the header of a file.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return parse_header(file.read(_MOST_BYTES))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _line(data: bytes) -> str | None:
    """Decode a line; None where it is no text: where no `% end` stands, the data may begin with these bytes too."""
    try:
        text = data.decode().strip().replace("\t", " ")
    except UnicodeDecodeError:
        return None
    return text if text and text.isprintable() else None
