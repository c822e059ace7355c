"""Evidence folded into what the layers see, and what they say followed, by loops: against the definition by torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nire.explicit.config import NANO, ExplicitConfig
from nire.explicit.evidence import called_up
from nire.explicit.folding import Folding
from nire.explicit.network import SAID, Folded, blended, folded
from tests.nire.explicit.inputs import TINY, random_evidence

SIZES = [(16, 24), (15, 22), (13, 21), (40, 9), (4, 4)]


def as_torch(folding: Folding) -> Folded:
    maps = (folding.body, folding.body_rows, folding.head, folding.head_rows)
    return Folded(*(torch.from_numpy(_widened(part)).permute(0, 3, 1, 2) for part in maps))


def _widened(maps: np.ndarray) -> np.ndarray:
    if maps.dtype == np.float32:
        return maps
    return (maps.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("config", [TINY, NANO], ids=["tiny", "nano"])
def test_layers_see_what_the_definition_says(config: ExplicitConfig, height: int, width: int, threads: int) -> None:
    evidence, padded = random_evidence(config, height=height, width=width), config.padded(height, width)
    folding = Folding(config, padded, bf16=False, threads=threads)
    folding.fold(evidence)
    for found, right in zip(as_torch(folding), folded(called_up(evidence, padded)), strict=True):
        torch.testing.assert_close(found[:, : right.shape[1]], right, atol=2e-6, rtol=1e-5)
        assert not found[:, right.shape[1] :].any()


def test_maps_in_bfloat16_are_the_nearest_ones() -> None:
    evidence, padded = random_evidence(TINY), TINY.padded(15, 22)
    exact, narrow = (Folding(TINY, padded, bf16=bf16) for bf16 in (False, True))
    for folding in (exact, narrow):
        folding.fold(evidence)
    for found, right in zip(as_torch(narrow), as_torch(exact), strict=True):
        nearest = right if right.shape[-1] == 1 else right.bfloat16().float()
        assert torch.equal(found, nearest)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_what_the_layers_say_is_followed_as_defined(height: int, width: int, threads: int, whole: bool) -> None:
    evidence, padded = random_evidence(TINY, height=height, width=width), TINY.padded(height, width)
    evidence.observed[1] = float(whole)
    evidence.observed[[0, 2, 3]] = 1
    half = padded[0] // 2, padded[1] // 2
    generator = torch.Generator().manual_seed(9)
    said = torch.rand((1, TINY.planes, SAID, *half), generator=generator) * 8 - 4
    right = blended(called_up(evidence, padded), said)[0, :, :height, :width]
    folding = Folding(TINY, padded, bf16=False, threads=threads)
    folding.fold(evidence)
    found = folding.blend(evidence, said[0].tanh().permute(0, 2, 3, 1).contiguous().numpy())
    torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)
