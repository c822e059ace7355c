"""Says how an optional part of this project is installed from where the user is: a checkout, or a package."""

from __future__ import annotations

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
