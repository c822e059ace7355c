"""The configs that come along: which there are, and their text, to begin an own one with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from nire.errors import ConfigError
from nire.install import checkout
from stream.config_advice import nearest


def command(
    name: Annotated[str | None, typer.Argument(help="Print this one; none = list them.", show_default=False)] = None,
) -> None:
    """List the configs that come along, or print one: config NAME > my.toml."""
    files = {path.stem: path for path in sorted(_folder().glob("*.toml"))}
    if name is None:
        width = max(map(len, files), default=0)
        for stem, file in files.items():
            print(f"{stem:{width}}  {_first_comment(file)}")
        return
    chosen = files.get(name.removesuffix(".toml"))
    if chosen is None:
        raise ConfigError(f"there is no config {name!r}; {nearest(name, list(files))}")
    sys.stdout.write(chosen.read_text(encoding="utf-8"))


def _folder() -> Path:
    """`configs/` of the checkout, or the copy that an installed package holds (pyproject.toml, package-dir)."""
    root = checkout()
    return root / "configs" if root else Path(__file__).parents[1] / "_configs"


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.lstrip("# ").rstrip(":") for line in lines if line.startswith("#")), "")
