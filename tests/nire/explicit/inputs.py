"""Inputs of the network of the explicit content, random but possible."""

from __future__ import annotations

import torch

from nire.explicit.config import ExplicitConfig
from nire.explicit.network import TOLD, WITNESSES, Inputs, KeyPlaneNetwork

TINY = ExplicitConfig("tiny", 4, (8, 12, 12), (0, 1, 0), (1,), 2, 8)


def random_inputs(config: ExplicitConfig, *, height: int = 16, width: int = 24, batch: int = 1) -> Inputs:
    """Draw what the network takes."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    planes, bins = config.planes, config.bins
    return Inputs(
        drawn(batch, planes, WITNESSES, height, width),
        drawn(batch, planes, WITNESSES, height, width) * -8,
        drawn(batch, bins, height, width) - 0.5,
        drawn(batch, bins, height, width),
        drawn(batch, 2, height, width),
        drawn(batch, 2, height, 2).sort(-1).values,
        torch.ones(batch, bins),
        drawn(batch, TOLD),
    )


def trained_a_little(config: ExplicitConfig = TINY) -> KeyPlaneNetwork:
    """Make a network whose head does something: an untrained one only blends."""
    torch.manual_seed(2)
    network = KeyPlaneNetwork(config)
    with torch.no_grad():
        for value in network.layers.leave.parameters():
            value.normal_(0, 0.2)
    return network.eval()
