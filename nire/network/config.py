"""Sizes and switches of the network: everything that is fixed before a weight exists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from nire.errors import ConfigError

FilmKind = Literal["pre_exposed", "learned"]
AttentionKind = Literal["cached", "joint"]


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What one network is made of; two networks share weights only where all of this is the same but `attention`.

    Tuples have one entry per level, finest first.

    Attributes:
        size: name, free.
        strides: pixels per token and side; each twice the one before. The paper: 1, 2, 4, 8.
        channels: C_l.
        head_dim: channels of one attention head; C_l // head_dim heads, at least one.
        window: r, side of the attention's windows in tokens.
        bands: K of Eq. 10.
        segments, bins: M and B of Sec. 4.1.
        image_blocks, event_blocks, decoder_blocks: residual blocks per level.
        recurrent_levels: levels whose segments pass the bi-directional LSTM; the others learn of it by enhancement.
        content_levels: levels whose maps attend to one another while the content is built; the others learn of it by
            enhancement. None is all of them, as in the paper. Films attend to the content at every level.
        content_blocks, film_blocks: times that temporalized attention (and enhancement) is applied.
        ffn_ratio: width of the FFN over C_l.
        enhance_kernel: side of the deformable convolution, 1 or 3.
        film_enhancement: whether the film is enhanced too after each of its attentions.
        head_unshuffle: stride at which the full-resolution head computes; divides strides[0].
        head_channels: its width.
        film: "pre_exposed" starts from the analytic re-exposures, "learned" is the paper's.
        attention: "cached" films read the content and leave it as it is, "joint" is the paper's.
        use_events, use_time_encoding, use_enhancement: Table 5's ablations.
    """

    size: str
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    image_blocks: tuple[int, ...]
    event_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    recurrent_levels: tuple[int, ...]
    segments: int
    bins: int
    head_dim: int = 32
    window: int = 2
    bands: int = 8
    content_levels: tuple[int, ...] | None = None
    content_blocks: int = 1
    film_blocks: int = 1
    ffn_ratio: int = 2
    enhance_kernel: int = 3
    film_enhancement: bool = False
    head_unshuffle: int = 1
    head_channels: int = 16
    film: FilmKind = "pre_exposed"
    attention: AttentionKind = "cached"
    use_events: bool = True
    use_time_encoding: bool = True
    use_enhancement: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            ConfigError: names the field.
        """
        levels = len(self.strides)
        for name in ("channels", "image_blocks", "event_blocks", "decoder_blocks"):
            if len(getattr(self, name)) != levels:
                raise ConfigError(
                    f"network.{name} has {len(getattr(self, name))} entries, strides {levels}; give one per level"
                )
        if levels == 0 or any(coarse != 2 * fine for fine, coarse in zip(self.strides, self.strides[1:], strict=False)):
            raise ConfigError(f"network.strides are {self.strides}; each must be twice the one before")
        if any(stride < 1 or stride & (stride - 1) for stride in (self.strides[0], self.head_unshuffle)):
            raise ConfigError(
                f"network.strides[0] and head_unshuffle are {self.strides[0]} and {self.head_unshuffle}; both must be "
                "powers of two"
            )
        if self.strides[0] % self.head_unshuffle:
            raise ConfigError(
                f"network.head_unshuffle is {self.head_unshuffle}; it must divide the finest stride, {self.strides[0]}"
            )
        for name in ("recurrent_levels", "content_levels"):
            if any(not 0 <= level < levels for level in getattr(self, name) or ()):
                raise ConfigError(f"network.{name} are {getattr(self, name)}; levels are 0 to {levels - 1}")
        if self.enhance_kernel not in (1, 3):
            raise ConfigError(f"network.enhance_kernel is {self.enhance_kernel}; choose 1 or 3")
        if self.film not in ("pre_exposed", "learned"):
            raise ConfigError(f"network.film is {self.film!r}; choose 'pre_exposed' or 'learned'")
        if self.attention not in ("cached", "joint"):
            raise ConfigError(f"network.attention is {self.attention!r}; choose 'cached' or 'joint'")
        for channels in self.channels:
            if channels % self.heads(channels):
                raise ConfigError(f"network.channels hold {channels}, no multiple of its {self.heads(channels)} heads")

    def heads(self, channels: int) -> int:
        """Count the attention heads of a level with that many channels."""
        return max(1, channels // self.head_dim)

    @property
    def pad_to(self) -> int:
        """Height and width of everything given to the network are multiples of this, so that r x r windows fit."""
        return self.strides[-1] * self.window

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Round a sensor's size up to what the network takes."""
        step = self.pad_to
        return -(-height // step) * step, -(-width // step) * step


NANO = NetworkConfig(
    size="nano",
    strides=(4, 8, 16),
    channels=(32, 48, 64),
    image_blocks=(0, 1, 1),
    event_blocks=(0, 1, 1),
    decoder_blocks=(0, 0, 0),
    recurrent_levels=(2,),
    segments=4,
    bins=4,
    content_levels=(1, 2),
    enhance_kernel=1,
    head_unshuffle=2,
    head_channels=16,
)
"""Two CPU cores, live."""

SMALL = NetworkConfig(
    size="small",
    strides=(2, 4, 8, 16),
    channels=(24, 48, 96, 128),
    image_blocks=(0, 0, 1, 2),
    event_blocks=(0, 0, 0, 1),
    decoder_blocks=(0, 1, 1, 1),
    recurrent_levels=(3,),
    segments=5,
    bins=4,
    head_unshuffle=1,
    head_channels=16,
)
"""A laptop's GPU."""

BASE = NetworkConfig(
    size="base",
    strides=(1, 2, 4, 8),
    channels=(32, 64, 128, 256),
    image_blocks=(1, 2, 4, 6),
    event_blocks=(0, 0, 0, 0),
    decoder_blocks=(1, 2, 4, 8),
    recurrent_levels=(0, 1, 2, 3),
    segments=6,
    bins=6,
    content_blocks=2,
    film_blocks=2,
    ffn_ratio=4,
    film_enhancement=True,
    head_channels=32,
)
"""The paper's size; a workstation's GPU."""

_SIZES = {config.size: config for config in (NANO, SMALL, BASE)}
SIZES = tuple(_SIZES)


def named(size: str, *, film: FilmKind = "pre_exposed", attention: AttentionKind = "cached") -> NetworkConfig:
    """Look a size up.

    Raises:
        ConfigError: there is no such size.
    """
    if size not in _SIZES:
        raise ConfigError(f"there is no network size {size!r}; choose one of {', '.join(SIZES)}")
    return replace(_SIZES[size], film=film, attention=attention)
