"""Small pictures, settings and a stand-in network, so that training is tested in seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from nire.training.loop import Materials
from nire.training.pictures import Bank, find_images, make_bank
from nire.training.ranks import Ranks
from nire.training.samples import cut_into_segments
from nire.training.settings import Settings, parse_settings

CROP = 24
ALONE = Ranks(0, 1, torch.device("cpu"))


def write_images(folder: Path, count: int = 6, size: tuple[int, int] = (90, 80)) -> Path:
    """Write smooth random pictures, PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for k in range(count):
        noise = rng.uniform(0, 255, (size[1] // 4, size[0] // 4, 3)).astype(np.float32)
        picture = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"picture{k}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return folder


def small_bank(folder: Path) -> Bank:
    """A bank for crops of 24 pixels."""
    return make_bank(find_images(write_images(folder)), crop_px=CROP, tiles=8, sprites=8, seed=1)


def small_settings(**changes: dict[str, object]) -> Settings:
    """Settings of a run of seconds; tables may be changed key by key."""
    document: dict[str, dict[str, object]] = {
        "data": {"crop_px": CROP, "batch": 3, "queries": 2, "layers": 1, "tiles": 8, "sprites": 8},
        "optimiser": {"iterations": 30, "warm_up": 5, "learning_rate": 5e-3, "ema": 0.9},
        "run": {"device": "cpu", "threads": 1, "validate_every": 1000, "validation_windows": 2},
    }
    for table, values in changes.items():
        document.setdefault(table, {}).update(values)
    return parse_settings(document)


class StandIn(nn.Module):
    """Corrects the mean of the re-exposures by what the events say; takes and gives what the network does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(7, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

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
        assert images.shape[1] == image_ranges.shape[1]
        assert re_exposed.shape[2] == max(1, images.shape[1])
        assert segment_ranges.shape[1] == observed.shape[1]
        guess = re_exposed[:, :, :, :1].mean(2)
        events = voxels.flatten(1, 2)[:, None].expand(-1, shutters.shape[1], -1, -1, -1)
        return self.layers(torch.cat([guess, events], 2).flatten(0, 1)).unflatten(0, guess.shape[:2])


def materials(bank: Bank, written: list[int] | None = None, seed: int = 3) -> Materials:
    """A fresh stand-in and the same pictures for training and validation; numbers of written weights are noted."""
    torch.manual_seed(seed)
    notes = written if written is not None else []
    return Materials(
        StandIn(), cut_into_segments(2, 3), bank, bank, lambda network, iterations: notes.append(iterations)
    )
