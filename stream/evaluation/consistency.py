"""How still the exposed instants are where nothing happens: within a window, and over the seam to the next one."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nire.errors import ConfigError
from nire.shutter import Shutter
from nire.types import ContentWindow, EventBatch, Film, Gap, Query, Reconstructor
from stream.evaluation.recording import Recorded, cut, opened, parser, windows_of
from stream.progress import progress_bar

POLICIES: tuple[str, ...] = ("pair", "single")
CAPTURED = "captured"
"""Name of the reference: from one captured frame to the next."""
# Films exposed by one call.
_BATCH = 8

Image = NDArray[np.uint8]
Key = tuple[str, str]


@dataclass(slots=True)
class Stillness:
    """Running sums of one method and task.

    Attributes:
        difference: sum of absolute differences, levels.
        pixels: compared.
        looked_at: pixels, those near events included.
        steps: pairs of neighbouring images compared.
    """

    difference: float = 0.0
    pixels: int = 0
    looked_at: int = 0
    steps: int = 0

    @property
    def levels(self) -> float:
        """Mean absolute difference, levels of the captured transfer; NaN where nothing was compared."""
        return self.difference / self.pixels if self.pixels else math.nan

    @property
    def share(self) -> float:
        """Share of the pixels that were far enough from events to be compared; NaN where nothing was looked at."""
        return self.pixels / self.looked_at if self.looked_at else math.nan

    def add(self, before: Image, after: Image, still: NDArray[np.bool_]) -> None:
        """Compare two images [H, W, C] where `still`, bool [H, W], says."""
        self.difference += float(cv2.absdiff(before, after)[still].sum(dtype=np.int64)) / before.shape[2]
        self.pixels += int(still.sum())
        self.looked_at += still.size
        self.steps += 1


@dataclass(frozen=True, slots=True, eq=False)
class _Instant:
    """What all methods exposed at one instant."""

    t_us: float
    window: int
    offset_us: float
    images: Mapping[str, Image]


class Quiet:
    """Tells which pixels saw no event."""

    def __init__(self, events: EventBatch, gaps: Sequence[Gap], *, shape: tuple[int, int]) -> None:
        """Remember all events and gaps of a recording; `shape` is (H, W)."""
        self._events = events
        self._gaps = gaps
        self._shape = shape

    def pixels(self, t0_us: float, t1_us: float) -> NDArray[np.bool_]:
        """Find the pixels without an event in [t0, t1) in the 3 x 3 around them: bool [H, W]; event time."""
        # Whole microseconds: a float key would make numpy convert all events first.
        low, high = np.searchsorted(self._events.t_us, (math.ceil(t0_us), math.ceil(t1_us)))
        fired = np.zeros(self._shape, np.uint8)
        fired[self._events.y[low:high], self._events.x[low:high]] = 1
        return np.asarray(cv2.dilate(fired, np.ones((3, 3), np.uint8)) == 0)

    def is_known(self, t0_us: float, t1_us: float) -> bool:
        """Tell whether no gap touches [t0, t1); event time."""
        return not any(gap.t1_us > t0_us and gap.t0_us < t1_us for gap in self._gaps)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0.

    Raises:
        NireError: an argument or the recording cannot be used.
    """
    made = parser("consistency", __doc__)
    made.add_argument("--rate", type=float, default=500.0, metavar="HZ", help="instants a second (default 500)")
    asked = made.parse_args(arguments)
    if not 1 <= asked.rate <= 100_000:
        raise ConfigError(f"--rate {asked.rate:g}: expected 1 to 100000 instants a second")
    recorded, backends, columns = opened(asked)
    found = measure(recorded, backends, columns, period_us=1e6 / asked.rate)
    Console().print(_table(found, asked.recording.name))
    if asked.json:
        _write_json(asked.json, asked.recording.name, found)
    return 0


def measure(
    recorded: Recorded, backends: Mapping[str, Reconstructor], columns: slice, *, period_us: float
) -> dict[Key, Stillness]:
    """Compare neighbouring instants, and captured frames, at the pixels that saw no event from one to the other.

    Steps that touch a gap are left out, because there no event means nothing. Captured frames are compared over gaps
    too: where events are only recorded during exposures, nothing else would be left.

    Args:
        recorded: the recording.
        backends: by name.
        columns: to compare.
        period_us: from instant to instant; they lie on its multiples, in every window under both policies.

    Returns:
        By (backend, "pair within", "pair seam", "single within" or "single seam"), and by ("captured", "frame to
        frame").
    """
    geometry = recorded.info.geometry
    quiet = Quiet(recorded.events(), recorded.gaps, shape=(geometry.height, geometry.width))
    found: dict[Key, Stillness] = {}
    # Within a bin light changes evenly: an event is felt up to a bin away from it.
    guard_us = recorded.config.planes.bin_us
    offset_us = 0.0
    for policy in POLICIES:
        previous: _Instant | None = None
        for instant in _instants(recorded, backends, policy, period_us=period_us):
            if previous is not None:
                place = "within" if previous.window == instant.window else "seam"
                span_us = previous.t_us + previous.offset_us - guard_us, instant.t_us + instant.offset_us + guard_us
                still = quiet.pixels(*span_us)[:, columns]
                for name in backends:
                    sums = found.setdefault((name, f"{policy} {place}"), Stillness())
                    if quiet.is_known(*span_us):
                        sums.add(cut(previous.images[name], columns), cut(instant.images[name], columns), still)
            previous, offset_us = instant, instant.offset_us
    found[CAPTURED, "frame to frame"] = _captured(recorded, quiet, columns, offset_us=offset_us)
    return found


def _instants(
    recorded: Recorded, backends: Mapping[str, Reconstructor], policy: str, *, period_us: float
) -> Iterator[_Instant]:
    """Expose every instant that a policy's windows answer, by all methods, in the order of time."""
    newest_us = max(frame.last_us for frame in recorded.frames)
    first_us = recorded.frames[0].first_us
    with progress_bar(f"exposing instants, policy {policy}") as bar:
        for window in windows_of(recorded, recorded.packets, policy):
            film = Film(window.geometry.height, window.geometry.width, window.frames[-1].pixels.shape[2])
            times_us = _times_us(window, period_us)
            bar.at(window.answers_us[0] - first_us, newest_us - first_us)
            contents = {name: backend.build(window) for name, backend in backends.items()}
            for start in range(0, len(times_us), _BATCH):
                some_us = times_us[start : start + _BATCH]
                queries = [Query(film, Shutter.instant(t_us, film.height), "consistency") for t_us in some_us]
                images = {name: np.array(backend.expose(contents[name], queries)) for name, backend in backends.items()}
                for k, t_us in enumerate(some_us):
                    each = {name: stack[k] for name, stack in images.items()}
                    yield _Instant(t_us, window.index, window.calibration.time_offset_us, each)


def _times_us(window: ContentWindow, period_us: float) -> list[float]:
    """List the multiples of a period that a window answers."""
    first_us, last_us = window.answers_us
    numbers = range(math.ceil(first_us / period_us) - 1, math.ceil(last_us / period_us) + 1)
    return [k * period_us for k in numbers if first_us <= k * period_us < last_us]


def _captured(recorded: Recorded, quiet: Quiet, columns: slice, *, offset_us: float) -> Stillness:
    """Compare captured frames with the next ones where neither exposure nor the time between saw an event."""
    sums = Stillness()
    for before, after in itertools.pairwise(recorded.frames):
        if before.epoch == after.epoch and before.index + 1 == after.index:
            still = quiet.pixels(before.first_us + offset_us, after.last_us + offset_us)[:, columns]
            sums.add(cut(before.pixels, columns), cut(after.pixels, columns), still)
    return sums


def _table(found: Mapping[Key, Stillness], name: str) -> Table:
    title = f"{name}: mean absolute difference of neighbouring instants where no event fired, levels (steps)"
    drawn = Table("method", title=title)
    tasks = [f"{policy} {place}" for policy in POLICIES for place in ("within", "seam")]
    for task in tasks:
        drawn.add_column(task)
    for method in dict.fromkeys(method for method, _ in found if method != CAPTURED):
        drawn.add_row(method, *(_cell(found.get((method, task), Stillness())) for task in tasks))
    captured = found[CAPTURED, "frame to frame"]
    drawn.caption = f"captured frames, from one to the next: {_cell(captured)}, {captured.share:.0%} of the pixels"
    return drawn


def _cell(sums: Stillness) -> str:
    return f"{sums.levels:.3f} ({sums.steps})" if sums.pixels else "-"


def _write_json(path: Path, recording: str, found: Mapping[Key, Stillness]) -> None:
    rows = [
        {
            "method": method,
            "task": task,
            "levels": round(sums.levels, 4),
            "share": round(sums.share, 3),
            "n": sums.steps,
        }
        for (method, task), sums in found.items()
        if sums.pixels
    ]
    document = {"protocol": "consistency", "recording": recording, "rows": rows}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
