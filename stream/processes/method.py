"""The method of a stream, loaded and warmed up: by the consumer, or ahead of it by its spare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drivers.source import SourceInfo
from nire.types import HasSiblings, Reconstructor
from stream.config import Config
from stream.processes.child import give_large_blocks_back
from stream.rings.packets import unpack_info
from stream.rings.place import RingSpace


@dataclass(frozen=True, slots=True)
class Method:
    """A backend that is loaded and has worked once: its first window is as fast as the others.

    Attributes:
        config: that it was made by.
        info: of the source that it was made for.
        reconstructor: the backend.
    """

    config: Config
    info: SourceInfo
    reconstructor: Reconstructor

    @classmethod
    def opened(cls, config: Config, info: SourceInfo) -> Method:
        """Open the configured one for a source."""
        # Only now, because torch takes a second: whoever waits for the bound socket has subscribed by the first frame,
        # and a short recording, played as fast as possible, is over before another second has passed.
        from stream.backends import open_reconstructor, warm_up

        give_large_blocks_back(info.geometry.width * info.geometry.height)
        reconstructor = open_reconstructor(config, info.geometry, has_frames=info.has_frames)
        warm_up(reconstructor, info.geometry)
        return cls(config, info, reconstructor)

    @classmethod
    def beside(cls, others: Iterable[Method], config: Config, info: SourceInfo) -> Method | None:
        """Make one that shares what another one has loaded; None where none is alike, or it cannot be shared."""
        for other in others:
            if other.suits(info) and other._is_as(config) and isinstance(other.reconstructor, HasSiblings):
                sibling = other.reconstructor.sibling()
                if sibling is not None:
                    from stream.backends import warm_up

                    warm_up(sibling, info.geometry)
                    return cls(config, info, sibling)
        return None

    def _is_as(self, config: Config) -> bool:
        return (config.reconstructor, config.planes) == (self.config.reconstructor, self.config.planes)

    def suits(self, info: SourceInfo) -> bool:
        """Tell whether it can be used for a source."""
        return (info.geometry, info.has_frames) == (self.info.geometry, self.info.has_frames)


def make_ready(configs: Sequence[Config]) -> dict[str, Method] | None:
    """Load what a consumer needs, as its spare, and let it work once; None on a GPU, whose memory is not for two.

    Args:
        configs: a camera each.

    Returns:
        By the name of the stream; without those whose camera is not there.
    """
    from stream.backends import runs_on_cpu

    hellos = [(config, RingSpace.of(config.stream_name).read_hello()) for config in configs]
    there = [(config, unpack_info(hello)[0]) for config, hello in hellos if hello]
    if not there or not runs_on_cpu(configs[0]):
        return None
    made: dict[str, Method] = {}
    for config, info in there:
        made[config.stream_name] = Method.beside(made.values(), config, info) or Method.opened(config, info)
    return made
