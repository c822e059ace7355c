"""The paper's perceptual loss (Sec. 5.2; Johnson et al., 2016): images compared by what a VGG network makes of them.

The paper names no layer. Its source, for restored images, takes the second rectifier of the second block (relu2_2) of
VGG-16 and the mean square of the differences there. VGG-13 and VGG-19 begin with the same layers and serve as well.
"""

from __future__ import annotations

import pickle  # noqa: TID251 (only for the name of its error)
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nire.errors import WeightsError
from nire.training.frames import encode_srgb

# Of the RGB images that torchvision's weights were trained on (ImageNet, sRGB 0..1).
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_PREFIX = "features."


def perceptual(image: Tensor, target: Tensor, weights: Path) -> Tensor:
    """Mean square of the differences at relu2_2 (Johnson et al., Eq. 2).

    VGG knows sRGB: the squares of the inputs are encoded, repeated to three channels and normalised as ImageNet.

    Args:
        image, target: float32 [n, 1, H, W], square roots of linear light; H and W at least 2.
        weights: of `load`; read once for each path and device.

    Returns:
        float32 []; its gradient reaches `image`.

    Raises:
        WeightsError: the file does not serve.
    """
    vgg = load(weights, image.device)
    with torch.no_grad():
        right = vgg(_as_seen(target))
    difference: Tensor = vgg(_as_seen(image)) - right
    return difference.square().mean()


@lru_cache(maxsize=2)
def load(path: Path, device: torch.device) -> nn.Sequential:
    """Read the layers of VGG up to relu2_2, which are not trained further.

    Args:
        path: torchvision's `vgg16` (13, 19): a state dict, `.safetensors` or what `torch.save` writes; its tensors are
            `features.0.weight` and so on, and those of later layers are left alone.
        device: of the layers.

    Raises:
        WeightsError: missing, truncated, or of another network; says what fits.
    """
    with torch.device("meta"):
        vgg = _layers()
    found = _read(path)
    wanted = {f"{_PREFIX}{name}": value.shape for name, value in vgg.state_dict().items()}
    for name, shape in wanted.items():
        if name not in found or found[name].shape != shape:
            held = tuple(found[name].shape) if name in found else None
            raise WeightsError(
                f"{path} holds no VGG that serves: {name} is {held}, expected {tuple(shape)}. loss.perceptual_weights "
                "takes torchvision's vgg13, vgg16 or vgg19, those without batch normalisation"
            )
    vgg.load_state_dict({name.removeprefix(_PREFIX): found[name].float() for name in wanted}, assign=True)
    return vgg.requires_grad_(False).to(device)


def _layers() -> nn.Sequential:
    """Stack the layers so that they are numbered as in torchvision."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(128, 128, 3, padding=1),
        nn.ReLU(),
    )


def _as_seen(roots: Tensor) -> Tensor:
    """Turn square roots of light [n, 1, H, W] into what VGG takes, [n, 3, H, W]."""
    gray = encode_srgb(roots.float().clamp(min=0).square())
    return (gray - gray.new_tensor(_MEAN).view(3, 1, 1)) / gray.new_tensor(_DEVIATION).view(3, 1, 1)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(
            f"there are no VGG weights at {path}; name a file by loss.perceptual_weights, or set loss.perceptual = 0"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 (tensors only: runs nothing)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
    ) as problem:
        told = str(problem).partition("\n")[0]
        raise WeightsError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as weights ({told}); it is truncated or of "
            "another kind: copy it again"
        ) from problem
    return {name: value for name, value in held.items() if isinstance(value, Tensor)} if isinstance(held, dict) else {}
