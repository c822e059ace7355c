"""Whether this machine shows windows."""

from __future__ import annotations

import os
import sys


def has_display() -> bool:
    """Whether a browser or a viewer that is started here can be seen."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
