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

_QUERY, _KEY, _VALUE = range(3)


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
        normed = self.attention_norm(tokens)
        laid = self._laid(times, maps)
        queries, keys = (self._timed(self._project(normed, part), laid) for part in (_QUERY, _KEY))
        read = self._attend(self._split(queries), self._split(keys), self._split(self._project(normed, _VALUE)))
        return from_windows(self._finish(tokens, read), maps.shape, self.window)

    def remember(self, maps: Tensor, times: Tensor) -> Memory:
        """Compute the content's keys and values once, for any number of films.

        Args:
            maps, times: as for `forward`.
        """
        normed = self.attention_norm(to_windows(maps, self.window))
        keys = self._timed(self._project(normed, _KEY), self._laid(times, maps))
        values = self._project(normed, _VALUE)
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
        tokens = to_windows(films, self.window)
        queries = self._timed(self._project(self.attention_norm(tokens), _QUERY), self._laid(times, films))
        read = self._attend(self._split(queries), memory.keys, memory.values)
        return from_windows(self._finish(tokens, read), films.shape, self.window)

    def _project(self, normed: Tensor, part: int) -> Tensor:
        """Project tokens to queries, keys or values (Eq. 9); apart, because none of them has to be cut out then."""
        rows = slice(part * normed.shape[-1], (part + 1) * normed.shape[-1])
        return F.linear(normed, self.f_qkv.weight[rows], self.f_qkv.bias[rows])

    def _laid(self, times: Tensor, maps: Tensor) -> Tensor | None:
        """Lay f_T(T) out for `_timed`, once per row of windows where rows have one time; None without time encoding.

        Args:
            times: [b, n, h, 1 or w, 4 K].
            maps: [b, n, h, w, C], for their shape and type.

        Returns:
            [b, h / r, 1 or w / r, n r r C].
        """
        if self.f_time is None:
            return None
        b, n, h, _, channels = maps.shape
        r, across = self.window, times.shape[3]
        columns, inside = (across // r, r) if across > 1 else (1, 1)
        encoded = self.f_time(times.to(maps.dtype)).reshape(b, n, h // r, r, columns, inside, channels)
        laid = encoded.permute(0, 2, 4, 1, 3, 5, 6).expand(-1, -1, -1, -1, -1, r, -1)
        return laid.reshape(b, h // r, columns, -1)

    def _timed(self, projected: Tensor, laid: Tensor | None) -> Tensor:
        """Add the time to queries or keys, [windows, n r r, C] (Eq. 12), in long runs."""
        if laid is None:
            return projected
        b, rows, _, run = laid.shape
        return (projected.reshape(b, rows, -1, run) + laid).reshape(projected.shape)

    def _split(self, tokens: Tensor) -> Tensor:
        """Split into heads: [windows, tokens, C] to [windows, heads, tokens, C / heads]."""
        if self.heads == 1:
            return tokens.unsqueeze(1)  # the same, and nothing for a compiler to move
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _joined(self, heads: Tensor) -> Tensor:
        """Undo `_split`."""
        return heads.squeeze(1) if self.heads == 1 else heads.transpose(1, 2).flatten(2)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V per window and head (Eq. 13).

        Plain products: for some thousand windows of some twenty tokens `scaled_dot_product_attention` takes two to
        seven times as long on a CPU, and its CUDA kernels refuse more than 65,535 windows. The softmax of a bfloat16
        tensor is slower than that of its float32 copy.
        """
        likeness = torch.matmul(queries * queries.shape[-1] ** -0.5, keys.transpose(-1, -2))
        weights = likeness.float().softmax(-1).to(values.dtype)
        return self._joined(torch.matmul(weights, values))

    def _finish(self, tokens: Tensor, read: Tensor) -> Tensor:
        tokens = tokens + self.project(read)
        return tokens + self.ffn(self.ffn_norm(tokens))


class AttentionPyramid(nn.Module):
    """One temporalized attention per level; lists below have one entry per level."""

    def __init__(self, config: NetworkConfig, levels: tuple[int, ...] | None = None) -> None:
        """Make the levels; `levels` are those that attend, None is all."""
        super().__init__()
        self.levels = nn.ModuleDict(
            {
                str(level): TemporalizedAttention(
                    channels,
                    heads=config.heads(channels),
                    window=config.window,
                    bands=config.bands,
                    ffn_ratio=config.ffn_ratio,
                    temporal=config.use_time_encoding,
                )
                for level, channels in enumerate(config.channels)
                if levels is None or level in levels
            }
        )

    def forward(self, maps: list[Tensor], times: list[Tensor]) -> list[Tensor]:
        """Let maps attend to one another, as `TemporalizedAttention.forward`; levels that do not stay as they are."""
        attended = list(maps)
        for name, attention in self.levels.items():
            attended[int(name)] = attention(maps[int(name)], times[int(name)])
        return attended

    def remember(self, maps: list[Tensor], times: list[Tensor]) -> list[Memory]:
        """Compute the content's keys and values, as `TemporalizedAttention.remember`; all levels attend."""
        return [level.remember(z, t) for level, z, t in zip(self._levels(), maps, times, strict=True)]

    def read(self, films: list[Tensor], times: list[Tensor], memory: list[Memory]) -> list[Tensor]:
        """Let films read a content, as `TemporalizedAttention.read`; all levels attend."""
        return [level.read(x, t, m) for level, x, t, m in zip(self._levels(), films, times, memory, strict=True)]

    def _levels(self) -> list[TemporalizedAttention]:
        return cast(list[TemporalizedAttention], list(self.levels.values()))
