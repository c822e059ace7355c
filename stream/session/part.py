"""A recording in parts: each process reads and calibrates on all of it, and answers the windows of its part alone.

What goes on from window to window (calibration, rolling content, the numbers of windows and images) is then the same in
every part as in one run over the whole, and so is each image, on both sides of a seam.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nire.types import ContentWindow


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts: stretches of a recording, dealt out in turn.

    Attributes:
        number: 0 .. count - 1.
        count: of parts.
        stretch_us: length of a stretch, device time.
    """

    number: int
    count: int
    stretch_us: float

    def chooser(self) -> Callable[[ContentWindow], bool]:
        """Make what tells, of all windows of a recording in their order, which are of this part."""
        origin_us: int | None = None

        def is_ours(window: ContentWindow) -> bool:
            nonlocal origin_us
            origin_us = window.t0_us if origin_us is None else origin_us
            return (window.t0_us - origin_us) // self.stretch_us % self.count == self.number

        return is_ours
