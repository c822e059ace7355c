"""Exposure simulation: films take from the content what their shutters ask for (paper Sec. 4.4).

The neural shutter is the time encoding of a film. In the paper a film is appended to the content and all N + M + 1
maps attend to one another ("joint"). Here films by default only read ("cached"): keys and values of the content are
computed once, and any number of films share them. Both have the same weights.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from nire.network.attention import AttentionPyramid, Memory
from nire.network.config import NetworkConfig
from nire.network.content import enhance_maps
from nire.network.enhance import FeatureEnhancement


class ExposureSimulation(nn.Module):
    """The attention (and enhancement) that exposes films."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.attention = nn.ModuleList(AttentionPyramid(config) for _ in range(config.film_blocks))
        enhanced = config.film_blocks if config.use_enhancement and config.film_enhancement else 0
        self.enhancement = nn.ModuleList(FeatureEnhancement(config) for _ in range(enhanced))

    def remember(self, content: list[Tensor], times: list[Tensor]) -> list[Memory]:
        """Compute keys and values of the content for every block and level.

        Args:
            content: per level [b, n, h, w, C_l].
            times: per level [b, n, h, 1, 4 K].

        Returns:
            Block by block, in each level by level.
        """
        return [memory for attention in self._blocks() for memory in attention.remember(content, times)]

    def cached(self, films: list[Tensor], times: list[Tensor], memory: list[Memory]) -> list[Tensor]:
        """Expose Q films that read the content.

        Args:
            films: per level [b, Q, h, w, C_l].
            times: per level [b, Q, h, 1 or w, 4 K], the neural shutters.
            memory: of the content.

        Returns:
            The same shapes as `films`: exposed films.
        """
        levels = len(films)
        for index, attention in enumerate(self._blocks()):
            films = attention.read(films, times, memory[index * levels : (index + 1) * levels])
            if len(self.enhancement):
                films = enhance_maps(self.enhancement[index], films)
        return films

    def joint(
        self, films: list[Tensor], times: list[Tensor], content: list[Tensor], content_times: list[Tensor]
    ) -> list[Tensor]:
        """Expose Q films, each appended to its own copy of the content: the paper's N + M + 1 maps.

        Args:
            films, times: as for `cached`.
            content: per level [b, n, h, w, C_l].
            content_times: per level [b, n, h, 1, 4 K].

        Returns:
            The same shapes as `films`.
        """
        lead = films[0].shape[:2]
        maps = [_append(z, x) for z, x in zip(content, films, strict=True)]
        all_times = [_append(u, t) for u, t in zip(content_times, times, strict=True)]
        for index, attention in enumerate(self._blocks()):
            maps = attention(maps, all_times)
            if len(self.enhancement):
                maps = enhance_maps(self.enhancement[index], maps)
        return [z[:, -1].unflatten(0, lead) for z in maps]

    def _blocks(self) -> list[AttentionPyramid]:
        return cast(list[AttentionPyramid], list(self.attention))


def _append(content: Tensor, films: Tensor) -> Tensor:
    """Append each of [b, Q, h, w, C] films to a copy of [b, n, h, w, C] maps: [b * Q, n + 1, h, w, C]."""
    queries, across = films.shape[1], films.shape[3]
    copies = content.unsqueeze(1).expand(-1, queries, -1, -1, across, -1)
    return torch.cat((copies, films.unsqueeze(2)), dim=2).flatten(0, 1)
