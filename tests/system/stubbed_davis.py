"""A DAVIS346 at the boundary of its SDK, in real time: `source.driver = "tests.system.stubbed_davis"`.

It is unplugged once, after `seconds_plugged`, and back when it was looked for in vain once. `marker` remembers that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.cameras import davis346
from tests.drivers.cameras import stub_davis as stub


def open_source(marker: str, seconds_plugged: float = 0.0, **settings: Any) -> davis346.Davis:
    """The real driver, over a camera that sends a moving bar."""
    gone, missed = Path(marker), Path(f"{marker}-and-missed")

    def play(camera: stub.StubDavis) -> Iterator[Any]:
        plugged_s = 600.0 if gone.exists() or not seconds_plugged else seconds_plugged
        yield from stub.moving_bar(plugged_s)(camera)
        gone.touch()

    bus = stub.StubBus({"00000": play}, paced=True)
    if gone.exists() and not missed.exists():
        missed.touch()
        bus.unplug("00000")
    bus.install(pytest.MonkeyPatch())
    return davis346.open_source(**settings)
