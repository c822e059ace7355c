"""What a page offers to choose from: names of methods, sizes of their networks, and what runs those."""

from __future__ import annotations

import importlib.util
import pkgutil
from pathlib import Path
from typing import Any

from nire.network.config import SIZES

# Those of the modules that run these networks, which would bring in torch.
_OF_KEY_PLANES = ["auto", "eager", "openvino"]
ENGINES = {"auto": _OF_KEY_PLANES, "neural": _OF_KEY_PLANES, "events_only": [*_OF_KEY_PLANES, "physics"]}
"""What runs the networks of a backend; the others have none."""


def choices() -> dict[str, Any]:
    """Values that are offered, by the key of `[reconstructor]`; nothing of what they name is imported."""
    sizes = [size for size in SIZES if any((place / f"{size}.safetensors").is_file() for place in _places("weights"))]
    backends = sorted(module.name for module in pkgutil.iter_modules(map(str, _places("backends"))))
    return {"backend": backends, "size": sizes, "engine": ENGINES}


def _places(package: str) -> list[Path]:
    """Folders of a part of `nire`."""
    spec = importlib.util.find_spec("nire")
    places = spec.submodule_search_locations if spec is not None else None
    return [Path(place) / package for place in places or []]
