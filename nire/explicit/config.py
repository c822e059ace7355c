"""Sizes of the network that cleans key planes: everything that is fixed before a weight exists."""

from __future__ import annotations

from dataclasses import dataclass

from nire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ExplicitConfig:
    """What one network is made of.

    Attributes:
        size: name, free.
        bins: K; a window has K + 1 key planes, the first at its start and the last at its end.
        channels: of the body, one entry per stride 2, 4, 8, ...
        encoder_blocks: residual blocks per stride.
        decoder_blocks: the same of the decoder, which ends at stride 4: of strides 4, 8, ... but the coarsest.
        guide: channels that the body gives to each plane.
        head: channels of the head that all planes share.
    """

    size: str
    bins: int
    channels: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    guide: int
    head: int

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ConfigError: names the field.
        """
        levels = len(self.channels)
        if levels < 2:
            raise ConfigError(f"network.channels are {self.channels}; give two strides at least")
        for name, wanted in (("encoder_blocks", levels), ("decoder_blocks", levels - 2)):
            if len(getattr(self, name)) != wanted:
                raise ConfigError(
                    f"network.{name} has {len(getattr(self, name))} entries, expected {wanted} for {levels} channels"
                )
        if self.bins < 1:
            raise ConfigError(f"network.bins is {self.bins}; a window needs one at least")

    @property
    def planes(self) -> int:
        """Number of key planes, K + 1."""
        return self.bins + 1

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Round a sensor's size up to what the network takes."""
        step = 2 ** len(self.channels)
        return -(-height // step) * step, -(-width // step) * step


NANO = ExplicitConfig(
    size="nano",
    bins=4,
    channels=(24, 48, 64, 64),
    encoder_blocks=(0, 2, 1, 3),
    decoder_blocks=(1, 1),
    guide=8,
    head=16,
)
"""Two CPU cores, live."""

SMALL = ExplicitConfig(
    size="small",
    bins=8,
    channels=(48, 96, 128, 128),
    encoder_blocks=(0, 2, 1, 3),
    decoder_blocks=(1, 1),
    guide=16,
    head=32,
)
"""A laptop, or offline on a CPU."""

SIZES = {config.size: config for config in (NANO, SMALL)}
