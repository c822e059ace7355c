"""The network, with the double integral to fall back to where a stream must keep time and the network does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nire.backends import edi, neural
from nire.types import (
    Content,
    ContentWindow,
    Geometry,
    HasSiblings,
    Query,
    Reconstructor,
    Rolls,
    WorksAhead,
    WorksBeside,
)


class AutoReconstructor:
    """Gives each window to one of two methods. What it gives does not depend on time: `falls_back` is set by others."""

    needs_frames = True

    def __init__(self, best: Reconstructor, fallback: Reconstructor) -> None:
        """Take both; each is this object's alone."""
        self.falls_back = False
        self._best, self._fallback = best, fallback
        self._answering = best

    @property
    def name(self) -> str:
        """Of the method that built the newest content."""
        return self._answering.name

    @property
    def engine(self) -> str:
        """Of the method that built the newest content."""
        return self._answering.engine

    @property
    def rolls(self) -> bool:
        """Whether the best method's content goes on from the window before."""
        return isinstance(self._best, Rolls) and self._best.rolls

    @property
    def out_of_memory(self) -> int:
        """How many batches an engine has cut because they did not fit."""
        return sum(int(getattr(method, "out_of_memory", 0)) for method in (self._best, self._fallback))

    def sibling(self) -> AutoReconstructor | None:
        """Make another one for the same sensor, which shares the network; None where one of the methods has no such."""
        best, fallback = (
            method.sibling() if isinstance(method, HasSiblings) else None for method in (self._best, self._fallback)
        )
        return AutoReconstructor(best, fallback) if best is not None and fallback is not None else None

    @property
    def works_beside(self) -> bool:
        """Whether both methods do."""
        return all(isinstance(m, WorksBeside) and m.works_beside for m in (self._best, self._fallback))

    def beside(self) -> AutoReconstructor:
        """Make another one for other windows of the same stream."""
        assert isinstance(self._best, WorksBeside)
        assert isinstance(self._fallback, WorksBeside)
        return AutoReconstructor(self._best.beside(), self._fallback.beside())

    def expect(self, window: ContentWindow) -> None:
        """Tell the method in force what it will build: as `WorksBeside.expect`."""
        if isinstance(self._in_force, WorksBeside):
            self._in_force.expect(window)

    def build(self, window: ContentWindow) -> Content:
        """Build the content of a window by the method in force; errors are the method's."""
        self._answering = self._in_force
        return self._answering.build(window)

    def ahead(self, window: ContentWindow) -> bool:
        """Begin a window by the method in force."""
        method = self._in_force
        return isinstance(method, WorksAhead) and method.ahead(window)

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose films by the method that built the content; errors are the method's."""
        return self._answering.expose(content, queries)

    @property
    def _in_force(self) -> Reconstructor:
        return self._fallback if self.falls_back else self._best


def create(
    geometry: Geometry,
    device: str = "cpu",
    *,
    bin_us: int = 500,
    threads: int = 0,
    size: str = "nano",
    weights: str = "",
    engine: str = "auto",
    precision: str = "auto",
) -> AutoReconstructor:
    """Make both methods; arguments and errors as those of `nire.backends.neural.create`."""
    # The network comes last: how many threads torch has is its to say.
    fallback = edi.create(geometry, device, bin_us=bin_us, threads=threads)
    best = neural.create(
        geometry, device, bin_us=bin_us, threads=threads, size=size, weights=weights, engine=engine, precision=precision
    )
    return AutoReconstructor(best, fallback)


def weights_file(size: str = "nano", weights: str = "") -> Path:
    """Find the weights that `create` loads, as `nire.backends.neural.weights_file`."""
    return neural.weights_file(size, weights)
