"""Neural Image Re-Exposure: I = f(g(I_hat, E), Omega) (paper Sec. 4, Fig. 2, Eq. 8).

`build` is g, Eq. 7: the content of a window, once. `expose` is f, Eq. 6: any number of images of it. Both have fixed
graphs for fixed shapes: N, M, B, Q, H and W decide what runs, values never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nire.network.attention import Memory
from nire.network.config import NetworkConfig
from nire.network.content import ContentConstructor
from nire.network.decoder import Head, TopDownDecoder
from nire.network.encoding import content_ranges, encode_range, to_level
from nire.network.event_encoder import EventEncoder
from nire.network.exposure import ExposureSimulation
from nire.network.film import NeuralFilm, Slots, two_slots
from nire.network.image_encoder import ImageEncoder

Pyramid = list[Tensor]
"""Feature maps of some frames or segments, one tensor [b, n, h, w, C] per level, finest first."""


class NeuralContent(NamedTuple):
    """Visual content of b windows.

    Attributes:
        image_ranges: float32 [b, N, H, 2].
        memory: keys and values per block and level ("cached"); empty for "joint".
        maps: per level [b, n, h, w, C_l] ("joint"); empty for "cached".
        times: per level [b, n, h, 1, 4 K] ("joint"); empty for "cached".
    """

    image_ranges: Tensor
    memory: list[Memory]
    maps: list[Tensor]
    times: list[Tensor]


class ReExposureNetwork(nn.Module):
    """The whole network. One set of weights serves 0, 1 and 2 frames and any number of queries."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make all layers, untrained."""
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.event_encoder = EventEncoder(config) if config.use_events else None
        self.content = ContentConstructor(config)
        self.film = NeuralFilm(config)
        self.exposure = ExposureSimulation(config)
        self.decoder = TopDownDecoder(config)
        self.head = Head(config)

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.film.vectors[0].dtype

    def build(
        self, images: Tensor, voxels: Tensor, image_ranges: Tensor, segment_ranges: Tensor, observed: Tensor
    ) -> NeuralContent:
        """Build the content of b windows (Eq. 7).

        Args:
            images: [b, N, 1, H, W], N 0 to 2, in order of time; square root of linear-light luma, in [0, 1].
            voxels: [b, M, B, H, W], signed sum of events per bin times their estimated thresholds: change of log light.
            image_ranges: float32 [b, N, H, 2], exposure of each row; times normalised to the window, [0, 1].
            segment_ranges: float32 [b, M, 2], normalised.
            observed: [b, M, B], 1 where the bin was observed, 0 where events are missing.

        Returns:
            The content; for `expose`.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        self.check_build(images, voxels, image_ranges, segment_ranges, observed)
        segments = [] if self.event_encoder is None else [self.encode_segments(voxels, observed)]
        encoded = [self.encode_images(images)] if images.shape[1] else []
        return self.construct(segments, encoded, image_ranges, segment_ranges)

    def encode_images(self, images: Tensor) -> Pyramid:
        """Encode frames each by itself: the part of `build` that only needs a frame.

        Args:
            images: [b, N, 1, H, W], any N >= 1, as for `build`.

        Returns:
            Per level [b, N, h_l, w_l, C_l]; they do not depend on the window that a frame is in.
        """
        maps: Pyramid = self.image_encoder(images.to(self.dtype))
        return maps

    def encode_segments(self, voxels: Tensor, observed: Tensor) -> Pyramid:
        """Encode segments each by itself, before the recurrence: the part of `build` that only needs their events.

        Args:
            voxels: [b, m, B, H, W], any m >= 1, as for `build`.
            observed: [b, m, B].

        Returns:
            Per level [b, m, h_l, w_l, C_l].

        Raises:
            ValueError: this network does without events.
        """
        if self.event_encoder is None:
            raise ValueError("this network does without events (use_events = False): it has no segments to encode")
        return self.event_encoder.encode(voxels.to(self.dtype), observed.to(self.dtype))

    def construct(
        self,
        segments: Sequence[Pyramid],
        images: Sequence[Pyramid],
        image_ranges: Tensor,
        segment_ranges: Tensor,
    ) -> NeuralContent:
        """Do the rest of `build`: what depends on the whole window.

        Args:
            segments: of `encode_segments`, together M in order of time; none for a network without events.
            images: of `encode_images`, together N in order of time.
            image_ranges, segment_ranges: as for `build`.
        """
        encoded = list(images)
        if self.event_encoder is not None:
            levels = [_joined(maps) for maps in zip(*segments, strict=True)]
            encoded.insert(0, self.event_encoder.relate(levels))
        else:
            segment_ranges = segment_ranges[:, :0]
        levels = [_joined(maps) for maps in zip(*encoded, strict=True)]
        times = self._encode(content_ranges(image_ranges, segment_ranges))
        content = self.content(levels, times)
        if self.config.attention == "joint":
            return NeuralContent(image_ranges.float(), [], content, times)
        return NeuralContent(image_ranges.float(), self.exposure.remember(content, times), [], [])

    def expose(self, content: NeuralContent, shutters: Tensor, re_exposed: Tensor) -> Tensor:
        """Expose Q films of each window (Eq. 6).

        Args:
            content: of `build`, with the same b, N, H, W.
            shutters: float32 [b, Q, H, 2] per row or [b, Q, H, W, 2] per pixel, normalised t_a <= t_b.
            re_exposed: [b, Q, E, 2, H, W], E = max(N, 1): each frame re-exposed analytically to the asked shutter,
                encoded as images are, clipped to [0, 1.5]; and the logarithm of how far that is trusted, from
                `LEAST_TRUST` to about 1. Without frames, of a gray one that is exposed for the whole window. Only its
                shape is used where `film` is "learned".

        Returns:
            float32 [b, Q, 1, H, W], encoded as images are, not clipped.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        self.check_expose(content.image_ranges.shape, shutters, re_exposed)
        slots = self.slots(re_exposed)
        return self.develop(self.correct(content, shutters, slots.planes), slots).unflatten(0, shutters.shape[:2])

    def slots(self, re_exposed: Tensor) -> Slots:
        """Lay the estimates of `expose` out: its first step, and no arithmetic of the network."""
        return two_slots(re_exposed, self.config.head_unshuffle, self.dtype)

    def correct(self, content: NeuralContent, shutters: Tensor, planes: Tensor) -> Tensor:
        """Find out what physics got wrong: the network's part of `expose`.

        Args:
            content, shutters: as for `expose`.
            planes: [b * Q, 2 u^2 + 2, H / u, W / u] of `slots`.

        Returns:
            What `Head.forward` does, n = b * Q.
        """
        b, count = shutters.shape[:2]
        films = [level.unflatten(0, (b, count)) for level in self.film(planes)]
        times = self._encode(shutters)
        if self.config.attention == "joint":
            exposed = self.exposure.joint(films, times, content.maps, content.times)
        else:
            exposed = self.exposure.cached(films, times, content.memory)
        decoded = self.decoder([film.flatten(0, 1).permute(0, 3, 1, 2) for film in exposed])
        outputs: Tensor = self.head(decoded, planes)
        return outputs

    def develop(self, outputs: Tensor, slots: Slots) -> Tensor:
        """Blend what the slots hold as `correct` says: float32 [b * Q, 1, H, W], the last step of `expose`."""
        return self.head.develop(outputs, slots)

    def forward(
        self,
        images: Tensor,
        voxels: Tensor,
        image_ranges: Tensor,
        segment_ranges: Tensor,
        observed: Tensor,
        shutters: Tensor,
        re_exposed: Tensor,
    ) -> Tensor:
        """Build and expose in one call, for training (Eq. 8); arguments and result as there."""
        content = self.build(images, voxels, image_ranges, segment_ranges, observed)
        return self.expose(content, shutters, re_exposed)

    def _encode(self, ranges: Tensor) -> list[Tensor]:
        """Encode ranges for every level: [b, n, H, 2] or [b, n, H, W, 2] to [b, n, h, 1 or w, 4 K]."""
        config = self.config
        return [encode_range(to_level(ranges.float(), stride), config.bands) for stride in config.strides]

    def check_build(
        self, images: Tensor, voxels: Tensor, image_ranges: Tensor, segment_ranges: Tensor, observed: Tensor
    ) -> None:
        """Check what `build` takes.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        config = self.config
        if images.ndim != 5 or images.shape[1] > 2:
            raise ValueError(f"images are {list(images.shape)}; expected [b, N, 1, H, W] with N 0 to 2")
        b, count, _, height, width = images.shape
        if height % config.pad_to or width % config.pad_to:
            raise ValueError(
                f"images are {height} x {width}; pad height and width to multiples of {config.pad_to}: "
                f"{config.padded(height, width)}"
            )
        if count == 0 and not config.use_events:
            raise ValueError("a network without events needs at least one image")
        _expect("images", images, (b, count, 1, height, width))
        _expect("voxels", voxels, (b, config.segments, config.bins, height, width))
        _expect("image_ranges", image_ranges, (b, count, height, 2))
        _expect("segment_ranges", segment_ranges, (b, config.segments, 2))
        _expect("observed", observed, (b, config.segments, config.bins))

    def check_expose(self, ranges: torch.Size, shutters: Tensor, re_exposed: Tensor) -> None:
        """Check what `expose` takes.

        Args:
            ranges: shape of the `image_ranges` that the content was built with.
            shutters, re_exposed: as for `expose`.

        Raises:
            ValueError: a shape does not fit; says which.
        """
        b, count, height = ranges[:3]
        if shutters.ndim not in (4, 5) or re_exposed.ndim != 6:
            raise ValueError(
                f"shutters are {list(shutters.shape)} and re_exposed {list(re_exposed.shape)}; expected "
                f"[b, Q, H, 2] or [b, Q, H, W, 2], and [b, Q, max(N, 1), 2, H, W]"
            )
        queries, width = shutters.shape[1], re_exposed.shape[-1]
        across = (width,) if shutters.ndim == 5 else ()
        _expect("shutters", shutters, (b, queries, height, *across, 2))
        _expect("re_exposed", re_exposed, (b, queries, max(count, 1), 2, height, width))


def _joined(maps: Sequence[Tensor]) -> Tensor:
    """Join maps of one level [b, n_k, ...] to [b, n, ...]."""
    return maps[0] if len(maps) == 1 else torch.cat(tuple(maps), dim=1)


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} are {list(tensor.shape)}; expected {list(shape)}")
