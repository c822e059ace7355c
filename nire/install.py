"""What is known of the place that this code runs in: how its optional parts are installed there, and the machine."""

from __future__ import annotations

import contextlib
import platform
import shlex
from pathlib import Path


def checkout() -> Path | None:
    """Find the checkout that this code runs from; None where it was installed as a package."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def pip_install(extra: str) -> str:
    """Say the command that installs an extra: of the checkout, seen from the working folder, or of the package.

    Args:
        extra: its name in pyproject.toml, e.g. "davis".
    """
    root = checkout()
    if root is None:
        return f"pip install {shlex.quote(f'nire-live[{extra}]')}"
    folder = "." if root.samefile(".") else str(root)
    return f"pip install -e {shlex.quote(f'{folder}[{extra}]')}"


def processor() -> str:
    """Name this machine's processor, as it calls itself."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
        if named:
            return named
    return platform.machine()
