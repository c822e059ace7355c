"""Event encoder: voxel segments become feature pyramids that know of one another (paper Sec. 4.1).

Every segment passes the same convolutional pyramid; a bi-directional convolutional LSTM then runs through the segments
in order of time and against it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nire.network.config import NetworkConfig
from nire.network.pyramid import ConvPyramid


class BidirectionalConvLSTM(nn.Module):
    """A convolutional LSTM that runs both ways with the same weights, in one batch; a 1 x 1 convolution fuses them."""

    def __init__(self, channels: int) -> None:
        """Make the layers."""
        super().__init__()
        self.input_gates = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.hidden_gates = nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, segments: Tensor) -> Tensor:
        """Run through the segments.

        Args:
            segments: [b, M, C, h, w], in order of time.

        Returns:
            [b, M, C, h, w]: each segment plus what both directions tell at its place.
        """
        b, count = segments.shape[:2]
        flat = segments.flatten(0, 1)
        # What the input adds to the gates is the same in both directions: computed once, for all segments at once.
        driven = self.input_gates(flat).unflatten(0, (b, count))
        states = self._run(torch.cat((driven, driven.flip(1))))
        # The second half was met in reverse: it is put back in order before the two are fused.
        both = torch.cat((states[:b], states[b:].flip(1)), dim=2)
        return (flat + self.fuse(both.flatten(0, 1))).unflatten(0, (b, count))

    def _run(self, driven: Tensor) -> Tensor:
        """Run an LSTM from a state of zeros: gates of the input [2 b, M, 4 C, h, w] to states [2 b, M, C, h, w]."""
        states: list[Tensor] = []
        cell: Tensor | None = None
        for m in range(driven.shape[1]):
            gates = driven[:, m] if not states else driven[:, m] + self.hidden_gates(states[-1])
            switches, candidate = gates.split((3 * gates.shape[1] // 4, gates.shape[1] // 4), dim=1)
            enter, keep, leave = switches.sigmoid().chunk(3, dim=1)
            entering = enter * candidate.tanh()
            cell = entering if cell is None else keep * cell + entering
            states.append(leave * cell.tanh())
        return torch.stack(states, dim=1)


class EventEncoder(nn.Module):
    """Voxel segments to M feature pyramids."""

    def __init__(self, config: NetworkConfig) -> None:
        """Make the layers."""
        super().__init__()
        self.pyramid = ConvPyramid(config.bins, config.strides[0], config.channels, config.event_blocks)
        self.missing = nn.Linear(config.bins, config.channels[0], bias=False)
        self.recurrent_levels = config.recurrent_levels
        self.recurrence = nn.ModuleList(
            BidirectionalConvLSTM(config.channels[level]) for level in self.recurrent_levels
        )

    def forward(self, voxels: Tensor, observed: Tensor) -> list[Tensor]:
        """Encode M segments.

        Args:
            voxels: [b, M, B, H, W], signed change of log light per bin.
            observed: [b, M, B], 1 where the bin was observed, 0 where a Gap lies: no event is not no data.

        Returns:
            Per level [b, M, H / stride_l, W / stride_l, C_l]: E_1 .. E_M.
        """
        return self.relate(self.encode(voxels, observed))

    def encode(self, voxels: Tensor, observed: Tensor) -> list[Tensor]:
        """Encode segments each by itself, any number of them: as `forward`, without the recurrence."""
        b, count = voxels.shape[:2]
        # Folded into the batch, a missing bin is a constant image: its convolution is a shift of the stem.
        shift = self.missing(1 - observed.flatten(0, 1))[:, :, None, None]
        levels = self.pyramid(voxels.flatten(0, 1), shift)
        return [level.permute(0, 2, 3, 1).unflatten(0, (b, count)) for level in levels]

    def relate(self, levels: list[Tensor]) -> list[Tensor]:
        """Let all M segments know of one another, where levels are recurrent: from `encode` to `forward`."""
        related = list(levels)
        for level, recurrence in zip(self.recurrent_levels, self.recurrence, strict=True):
            related[level] = recurrence(levels[level].permute(0, 1, 4, 2, 3)).permute(0, 1, 3, 4, 2)
        return related
