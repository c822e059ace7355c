"""Window policies: what lies in this folder is one, a file each with `create(held) -> Policy`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nire.types import ContentWindow, Frame
    from stream.windows.held import Held


class Policy(Protocol):
    """Decides which windows are cut from what is held, and when."""

    frames_begun: int
    """How many frames the window that is arriving has, at most; 0 = it cannot be looked at before it is complete."""

    def take_over(self) -> None:
        """Begin in the middle of a stream: nothing is answered twice, and nothing is left out."""
        ...

    def following(self) -> ContentWindow | None:
        """Cut the next window; None where it is not complete."""
        ...

    def remaining(self) -> Iterator[ContentWindow]:
        """Cut what only the end of the stream makes answerable."""
        ...

    def expected_us(self, frames: tuple[Frame, ...]) -> int:
        """Guess, rather early, where the window will end that begins with some frames."""
        ...

    def needed_us(self) -> float:
        """Tell from where on events may be needed, margins not counted."""
        ...


def policy_names() -> list[str]:
    """Names of all policies, sorted: what lies in this folder. Nothing is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def make_policy(name: str, held: Held) -> Policy:
    """Begin a policy over what is held, before the first frame."""
    policy: Policy = importlib.import_module(f"{__name__}.{name}").create(held)
    return policy
