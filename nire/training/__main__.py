"""Train a network: python -m nire.training CONFIG [--images DIR] [--data DIR] [--out DIR] [--minutes N] [--resume]."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from nire.errors import ConfigError, NireError
from nire.explicit import config as explicit_sizes
from nire.explicit.config import ExplicitConfig
from nire.network import weights
from nire.network.config import named
from nire.recurrent import config as recurrent_sizes
from nire.recurrent.config import RecurrentConfig
from nire.training import perceptual
from nire.training.explicit import cut_at_key_times
from nire.training.loop import Materials, train
from nire.training.pictures import Bank, find_images, make_bank
from nire.training.ranks import Ranks, joined
from nire.training.recurrent import cut_into_windows
from nire.training.samples import cut_into_segments
from nire.training.sequences import CROP_FRAMES, find_sequences
from nire.training.settings import ModelSettings, Settings, read_settings

_SIZES: dict[str, Mapping[str, weights.Config]] = {
    "explicit": explicit_sizes.SIZES,
    "recurrent": recurrent_sizes.SIZES,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done or stopped by a signal, 1 unexpected, 2 wrong usage or input)."""
    asked = _parser().parse_args(arguments)
    errors = Console(stderr=True)
    try:
        settings = read_settings(asked.config)
        out: Path = asked.out or Path("out") / f"train-{settings.model.size}"
        with joined(settings.run.device) as ranks:
            console = Console()
            materials = prepare(settings, asked.images, out, data=asked.data, ranks=ranks, console=console)
            train(
                settings,
                materials,
                out,
                ranks=ranks,
                console=console,
                minutes=asked.minutes,
                resume=asked.resume,
                changed=asked.changed,
                start=asked.start,
            )
    except NireError as error:
        errors.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def prepare(
    settings: Settings, images: Path, out: Path, *, data: Path | None, ranks: Ranks, console: Console
) -> Materials:
    """Make network and pictures.

    Args:
        settings: of the run.
        images: folder of natural images.
        out: where weights will be written.
        data: folder of sequences of sharp frames, or None.
        ranks: place of this process.
        console: where it says what it found.

    Raises:
        ConfigError: no images, or settings of the network that do not exist.
        WeightsError: VGG's weights, which the perceptual loss needs, do not serve.
    """
    config = network_config(settings.model)
    if settings.loss.perceptual:
        # The loss will find it in memory; a file that does not serve is refused before the pictures are read.
        perceptual.load(Path(settings.loss.perceptual_weights), ranks.device)
    torch.manual_seed(settings.run.seed)
    network = weights.make(config)
    if isinstance(config, ExplicitConfig):
        cut = cut_at_key_times(config.bins, settings.data.queries, rolled_share=settings.data.rolled_share)
    elif isinstance(config, RecurrentConfig):
        cut = cut_into_windows(config.bins, settings.data.windows)
    else:
        cut = cut_into_segments(config.segments, config.bins)
    paths = find_images(images, "train")
    try:
        held_out = find_images(images, "held_out")
    except ConfigError:
        held_out = paths
    if ranks.leads:
        count = sum(p.numel() for p in network.parameters())
        kept = "validation on the same ones" if held_out is paths else f"{len(held_out)} held out"
        console.print(f"{config.size}: {count:,} parameters; {len(paths)} images to train on, {kept}", highlight=False)

    footage = () if data is None else tuple(find_sequences(data, part="train", least=CROP_FRAMES[1]))

    def write(trained: nn.Module, iterations: int) -> None:
        assert isinstance(trained, weights.Network)
        meta = {
            "iterations": str(iterations),
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "settings": repr(dataclasses.asdict(settings)),
            "torch": torch.__version__,
        }
        weights.save(trained, out / f"{config.size}.safetensors", meta)

    tiles, device = settings.data.tiles, ranks.device
    return Materials(
        network,
        cut,
        _bank(paths, settings, device, seed=settings.run.seed + ranks.rank, tiles=tiles),
        _bank(held_out, settings, device, seed=settings.run.seed + 1_000, tiles=min(tiles, 60)),
        write,
        footage,
    )


def _bank(paths: list[Path], settings: Settings, device: torch.device, *, seed: int, tiles: int) -> Bank:
    data = settings.data
    sprites = min(data.sprites, 4 * tiles)
    return make_bank(paths, crop_px=data.crop_px, tiles=tiles, sprites=sprites, seed=seed, device=device)


def network_config(model: ModelSettings) -> weights.Config:
    """Look a size up and change it.

    Raises:
        ConfigError: there is no such size or field.
    """
    config: weights.Config
    if model.network in _SIZES:
        sizes = _SIZES[model.network]
        if model.size not in sizes:
            raise ConfigError(
                f"there is no {model.network} network of size {model.size!r}; choose one of {', '.join(sizes)}"
            )
        config = sizes[model.size]
    else:
        config = named(model.size)
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(model.change) - known)
    if unknown:
        raise ConfigError(f"model.change: unknown {', '.join(unknown)}; the fields are {', '.join(sorted(known))}")
    changes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in model.change.items()
    }
    return dataclasses.replace(config, **changes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nire-live train", description=__doc__)
    parser.add_argument("config", type=Path, help="TOML file; `nire-live config train_nano` prints one")
    parser.add_argument("--images", type=Path, default=Path("images"), help="folder of natural images (PNG, JPEG, ...)")
    parser.add_argument("--data", type=Path, help="folder of sequences of sharp frames, to train on as well")
    parser.add_argument("--out", type=Path, help="folder of checkpoint, weights and pictures; out/train-SIZE")
    parser.add_argument("--minutes", type=_minutes, default=math.inf, help="stop after so long; --resume goes on")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="WEIGHTS",
        help="begin with these weights, as far as they fit; a larger network begins with all of a smaller one",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument(
        "--changed", action="store_true", help="with --resume: although data, loss or optimiser are set otherwise now"
    )
    return parser


def _minutes(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
