"""Sizes of the network that remembers."""

from __future__ import annotations

from dataclasses import dataclass

from nire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RecurrentConfig:
    """Describes the network; kept inside its weights.

    Attributes:
        size: its name.
        bins: K, equal parts of a window; each ends with a plane.
        channels: of the maps at strides 2, 4, 8, ...; all but the finest are remembered.
        blocks: residual blocks at each stride, on the way back to the finest.
    """

    size: str
    bins: int
    channels: tuple[int, ...]
    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ConfigError: names the field.
        """
        if len(self.channels) < 2:
            raise ConfigError(f"network.channels are {self.channels}; give two strides at least")
        if len(self.blocks) != len(self.channels):
            raise ConfigError(
                f"network.blocks has {len(self.blocks)} entries, expected {len(self.channels)}, one for each of "
                "network.channels"
            )
        if self.bins < 1:
            raise ConfigError(f"network.bins is {self.bins}; a window needs one at least")

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Round a sensor's size up to what the network takes."""
        step = 2 ** len(self.channels)
        return -(-height // step) * step, -(-width // step) * step


NANO = RecurrentConfig(size="nano", bins=4, channels=(16, 32, 48, 64), blocks=(1, 1, 1, 2))
"""Two CPU cores, live."""

SIZES = {config.size: config for config in (NANO,)}
