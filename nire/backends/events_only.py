"""Images from events alone: by the network that remembers, or by the paper's, which begins each window with gray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nire.backends import neural, prepare_torch
from nire.engines import Job
from nire.errors import ConfigError, WeightsError
from nire.explicit.network import KeyPlaneNetwork
from nire.network import weights as weight_files
from nire.recurrent.engines import open_runner
from nire.recurrent.network import RecurrentNetwork
from nire.recurrent.reconstructor import RecurrentReconstructor
from nire.types import Content, ContentWindow, Geometry, Query


class EventsOnlyReconstructor:
    """The network of the paper, for windows without frames.

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
) -> RecurrentReconstructor | EventsOnlyReconstructor:
    """Make the backend; arguments and errors are those of `neural.create`.

    The shipped weights are of the network that remembers; weights of the paper's network serve too, and begin each
    window anew.
    """
    path = weights_file(size, weights)
    network = weight_files.load_any(path)
    if isinstance(network, RecurrentNetwork):
        chosen = prepare_torch(device, threads)
        padded = network.config.padded(geometry.height, geometry.width)
        job = Job(*padded, (0,), chosen, precision)
        runner = open_runner(engine, network, job)
        return RecurrentReconstructor(geometry, runner, network.config, job=job, bin_us=bin_us)
    if isinstance(network, KeyPlaneNetwork):
        raise WeightsError(
            f"{path}: these weights clean what frames tell, and events_only has no frames; give weights that learned "
            "from events alone, or leave reconstructor.weights empty"
        )
    made = neural.create(
        geometry,
        device,
        bin_us=bin_us,
        threads=threads,
        size=size,
        weights=str(path),
        engine=engine,
        precision=precision,
        frames=(0,),
    )
    assert isinstance(made, neural.NeuralReconstructor)
    return EventsOnlyReconstructor(made)


def weights_file(size: str = "nano", weights: str = "") -> Path:
    """Find the weights that `create` loads; arguments and errors are those of `neural.weights_file`.

    Those of a size are for windows with frames. For events alone there may be one size only, which then serves for all.
    """
    own = weight_files.shipped(f"{size}_events_only") or weight_files.shipped("nano_events_only")
    return neural.weights_file(size, weights or str(own or ""))
