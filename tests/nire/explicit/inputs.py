"""Evidence, and inputs of the network of the explicit content: random but possible."""

from __future__ import annotations

import torch

from nire.explicit.config import ExplicitConfig
from nire.explicit.evidence import Evidence
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


def random_evidence(config: ExplicitConfig, *, height: int = 15, width: int = 22) -> Evidence:
    """Draw evidence of a window of a sensor; here and there a witness is not to be heard."""
    generator = torch.Generator().manual_seed(6)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    planes, size, padded = config.planes, (height, width), config.padded(height, width)
    opened, shares = drawn(3, *size) * 4, drawn(planes, 3, height)
    moved_shares = torch.stack([torch.linspace(1, 0.002, planes), torch.linspace(0.002, 1, planes)], 1)
    shares[0, 1], shares[-1, :2], shares[1, 2] = 0, 0, 0
    moved_shares[1, 0], moved_shares[2] = 0, 0
    return Evidence(
        drawn(3, *size) * 600,
        opened,
        opened + drawn(3, *size) * 3,
        shares,
        (drawn(planes, *size) - 0.5).exp(),
        (drawn(planes, *size) * 4 - 1).cumsum(0),
        drawn(planes, 2, *size) * 1.5,
        moved_shares,
        drawn(2, *size),
        drawn(2, padded[0], 2).sort(-1).values,
        (drawn(config.bins) > 0.3).float(),
        drawn(TOLD),
    )


def trained_a_little(config: ExplicitConfig = TINY) -> KeyPlaneNetwork:
    """Make a network whose head does something: an untrained one only blends."""
    torch.manual_seed(2)
    network = KeyPlaneNetwork(config)
    with torch.no_grad():
        for value in network.layers.leave.parameters():
            value.normal_(0, 0.2)
    return network.eval()
