"""The method of a stream, loaded and warmed up: by the consumer, or ahead of it by its spare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.source import SourceInfo
from nire.types import Reconstructor
from stream.config import Config
from stream.rings.packets import unpack_info
from stream.rings.place import RingSpace


@dataclass(frozen=True, slots=True)
class Method:
    """A backend that is loaded and has worked once: its first window is as fast as the others.

    Attributes:
        info: of the source that it was made for.
        reconstructor: the backend.
    """

    info: SourceInfo
    reconstructor: Reconstructor

    @classmethod
    def opened(cls, config: Config, info: SourceInfo) -> Method:
        """Open the configured one for a source."""
        # Only now, because torch takes a second: whoever waits for the bound socket has subscribed by the first frame,
        # and a short recording, played as fast as possible, is over before another second has passed.
        from stream.backends import open_reconstructor, warm_up

        reconstructor = open_reconstructor(config, info.geometry, has_frames=info.has_frames)
        warm_up(reconstructor, info.geometry)
        return cls(info, reconstructor)

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
    return {config.stream_name: Method.opened(config, info) for config, info in there}
