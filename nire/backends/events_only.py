"""The network without frames: a guess of what the events came from, starting from gray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nire.backends import neural
from nire.errors import ConfigError, WeightsError
from nire.network import weights as weight_files
from nire.types import Content, ContentWindow, Geometry, Query


class EventsOnlyReconstructor:
    """The network of `neural`, for windows without frames.

    Events tell how light changed, never how bright it was: where nothing moves the image stays middle gray, and the
    brightness of large surfaces is guessed. Images are "srgb".
    """

    name = "events_only"
    needs_frames = False

    def __init__(self, network: neural.NeuralReconstructor) -> None:
        """Put a network to work on events alone."""
        self.engine = network.engine
        self._network = network

    def build(self, window: ContentWindow) -> Content:
        """Build the content of a window without frames (g, Eq. 7).

        Raises:
            ConfigError: the window has frames, which would be ignored.
        """
        if window.frames:
            raise ConfigError(
                f"reconstructor.backend = 'events_only' takes windows without frames, this one has "
                f"{len(window.frames)}. Use window.policy = 'auto', or reconstructor.backend = 'neural'"
            )
        return self._network.build(window)

    def expose(self, content: Content, queries: Sequence[Query]) -> NDArray[np.uint8]:
        """Expose films (f, Eq. 6): uint8 [Q, H, W, C], "srgb"; valid until the next call.

        Raises:
            ShutterOutsideWindow: a shutter reaches beyond the window's `covered_us`.
            ValueError: the content is not the last one built.
        """
        return self._network.expose(content, queries)


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
) -> EventsOnlyReconstructor:
    """Make the backend; arguments and errors are those of `neural.create`.

    The shipped weights are those of the size that learned from windows without frames alone, where there are any.
    """
    network = neural.create(
        geometry,
        device,
        bin_us=bin_us,
        threads=threads,
        size=size,
        weights=str(weights_file(size, weights)),
        engine=engine,
        precision=precision,
        frames=(0,),
    )
    if not isinstance(network, neural.NeuralReconstructor):
        raise WeightsError(
            f"{weights or size}: these weights clean what frames tell, and events_only has no frames; give weights of "
            "the paper's network, or leave reconstructor.weights empty"
        )
    return EventsOnlyReconstructor(network)


def weights_file(size: str = "nano", weights: str = "") -> Path:
    """Find the weights that `create` loads; arguments and errors are those of `neural.weights_file`."""
    own = weight_files.shipped(f"{size}_events_only")
    return neural.weights_file(size, weights or str(own or ""))
