"""Temporalized attention: feature maps of known times exchange what they hold (paper Sec. 4.2, Fig. 4, Eqs. 9, 12, 13).

n maps of one level are cut into r x r windows, and the n r r tokens of each window attend to one another. Tokens stay
in the order of windows through a whole block, so each map is rearranged once on the way in and once on the way out.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nire.network.config import NetworkConfig


class Memory(NamedTuple):
    """Time-aware keys and the values of a content, both [windows, heads, n r r, d / heads]."""

    keys: Tensor
    values: Tensor


def to_windows(maps: Tensor, window: int) -> Tensor:
    """Cut maps into windows.

    Args:
        maps: [b, n, h, w, C], h and w multiples of `window`.
        window: r.

    Returns:
        [b * h/r * w/r, n * r * r, C].
    """
    b, n, h, w, channels = maps.shape
    cut = maps.reshape(b, n, h // window, window, w // window, window, channels)
    return cut.permute(0, 2, 4, 1, 3, 5, 6).reshape(-1, n * window * window, channels)


def from_windows(tokens: Tensor, shape: torch.Size, window: int) -> Tensor:
    """Put the tokens of `to_windows` back into maps of `shape` [b, n, h, w, C]."""
    b, n, h, w, channels = shape
    cut = tokens.reshape(b, h // window, w // window, n, window, window, channels)
    return cut.permute(0, 3, 1, 4, 2, 5, 6).reshape(b, n, h, w, channels)


class TemporalizedAttention(nn.Module):
    """One transformer block over the maps of one level; LayerNorm and FFN as in the vision transformer."""

    def __init__(self, channels: int, *, heads: int, window: int, bands: int, ffn_ratio: int, temporal: bool) -> None:
        """Make the layers.

        Args:
            channels: C of the level; also d.
            heads: divides `channels`.
            window: r.
            bands: K of the time encoding.
            ffn_ratio: hidden width of the FFN over C.
            temporal: False leaves the time encoding out (Table 5).
        """
        super().__init__()
        self.heads, self.window = heads, window
        self.attention_norm = nn.LayerNorm(channels)
        self.f_qkv = nn.Linear(channels, 3 * channels)
        self.f_time = nn.Linear(4 * bands, channels) if temporal else None
        self.project = nn.Linear(channels, channels)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn = nn.Sequential(
            nn.Linear(channels, ffn_ratio * channels), nn.GELU(), nn.Linear(ffn_ratio * channels, channels)
        )

    def forward(self, maps: Tensor, times: Tensor) -> Tensor:
        """Let n maps attend to one another.

        Args:
            maps: [b, n, h, w, C].
            times: [b, n, h, 1 or w, 4 K], encodings of the maps' ranges (Eq. 11).

        Returns:
            [b, n, h, w, C].
        """
        tokens = to_windows(maps, self.window)
        projected = self.f_qkv(self.attention_norm(tokens)).unflatten(-1, (3, -1))  # Eq. 9
        queries, keys, values = self._temporalize(projected, times, maps.shape, timed=2).unbind(2)
        read = self._attend(self._split(queries), self._split(keys), self._split(values))
        return from_windows(self._finish(tokens, read), maps.shape, self.window)

    def remember(self, maps: Tensor, times: Tensor) -> Memory:
        """Compute the content's keys and values once, for any number of films.

        Args:
            maps, times: as for `forward`.
        """
        channels = maps.shape[-1]
        tokens = self.attention_norm(to_windows(maps, self.window))
        projected = F.linear(tokens, self.f_qkv.weight[channels:], self.f_qkv.bias[channels:]).unflatten(-1, (2, -1))
        keys, values = self._temporalize(projected, times, maps.shape, timed=1).unbind(2)
        return Memory(self._split(keys).contiguous(), self._split(values).contiguous())

    def read(self, films: Tensor, times: Tensor, memory: Memory) -> Tensor:
        """Let Q films read a content. They do not see one another, and the content does not see them.

        Args:
            films: [b, Q, h, w, C].
            times: [b, Q, h, 1 or w, 4 K], encodings of the shutters: the neural shutters.
            memory: of the content.

        Returns:
            [b, Q, h, w, C].
        """
        channels = films.shape[-1]
        tokens = to_windows(films, self.window)
        projected = F.linear(self.attention_norm(tokens), self.f_qkv.weight[:channels], self.f_qkv.bias[:channels])
        queries = self._temporalize(projected.unsqueeze(2), times, films.shape, timed=1)[:, :, 0]
        read = self._attend(self._split(queries), memory.keys, memory.values)
        return from_windows(self._finish(tokens, read), films.shape, self.window)

    def _temporalize(self, projected: Tensor, times: Tensor, shape: torch.Size, *, timed: int) -> Tensor:
        """Add f_T(T) to queries and keys (Eq. 12).

        Where rows have one time, windows of a row of windows get the same sum: it is laid out once per such row, values
        included with zeros, and added in long runs.

        Args:
            projected: [windows, n r r, parts, C].
            times: [b, n, h, 1 or w, 4 K].
            shape: of the maps, (b, n, h, w, C).
            timed: that many of the parts, the first, get the time.

        Returns:
            As `projected`.
        """
        if self.f_time is None:
            return projected
        b, n, h, w, channels = shape
        r, across = self.window, times.shape[3]
        columns, inside = (across // r, r) if across > 1 else (1, 1)
        encoded = self.f_time(times.to(projected.dtype)).reshape(b, n, h // r, r, columns, inside, channels)
        laid = encoded.permute(0, 2, 4, 1, 3, 5, 6).expand(-1, -1, -1, -1, -1, r, -1).unsqueeze(-2)
        laid = laid.expand(-1, -1, -1, -1, -1, -1, timed, -1)
        if timed < projected.shape[2]:
            laid = F.pad(laid, (0, 0, 0, projected.shape[2] - timed))
        runs = projected.reshape(b, h // r, w // r, -1) + laid.reshape(b, h // r, columns, -1)
        return runs.reshape(projected.shape)

    def _split(self, tokens: Tensor) -> Tensor:
        """Split into heads: [windows, tokens, C] to [windows, heads, tokens, C / heads]."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V per window and head (Eq. 13).

        Plain products: for some thousand windows of some twenty tokens `scaled_dot_product_attention` takes two to
        seven times as long on a CPU, and its CUDA kernels refuse more than 65,535 windows. The softmax of a bfloat16
        tensor is slower than that of its float32 copy.
        """
        likeness = torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-1, -2))
        weights = likeness.float().softmax(-1).to(values.dtype)
        return torch.matmul(weights, values).transpose(1, 2).flatten(2)

    def _finish(self, tokens: Tensor, read: Tensor) -> Tensor:
        tokens = tokens + self.project(read)
        return tokens + self.ffn(self.ffn_norm(tokens))


class AttentionPyramid(nn.Module):
    """One temporalized attention per level; lists below have one entry per level."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the levels."""
        super().__init__()
        self.levels = nn.ModuleList(
            TemporalizedAttention(
                channels,
                heads=config.heads(channels),
                window=config.window,
                bands=config.bands,
                ffn_ratio=config.ffn_ratio,
                temporal=config.use_time_encoding,
            )
            for channels in config.channels
        )

    def forward(self, maps: list[Tensor], times: list[Tensor]) -> list[Tensor]:
        """Let maps attend to one another, as `TemporalizedAttention.forward`."""
        return [level(z, t) for level, z, t in zip(self._levels(), maps, times, strict=True)]

    def remember(self, maps: list[Tensor], times: list[Tensor]) -> list[Memory]:
        """Compute the content's keys and values, as `TemporalizedAttention.remember`."""
        return [level.remember(z, t) for level, z, t in zip(self._levels(), maps, times, strict=True)]

    def read(self, films: list[Tensor], times: list[Tensor], memory: list[Memory]) -> list[Tensor]:
        """Let films read the content, as `TemporalizedAttention.read`."""
        return [level.read(x, t, m) for level, x, t, m in zip(self._levels(), films, times, memory, strict=True)]

    def _levels(self) -> list[TemporalizedAttention]:
        return cast(list[TemporalizedAttention], list(self.levels))
