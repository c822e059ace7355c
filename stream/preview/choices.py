"""What a page offers to choose from: names of methods, and sizes of their networks."""

from __future__ import annotations

import importlib.util
import pkgutil

from nire.network.config import SIZES


def choices() -> dict[str, list[str]]:
    """Values that are offered, by the key of `[reconstructor]`; nothing of what they name is imported."""
    spec = importlib.util.find_spec("nire.backends")
    places = spec.submodule_search_locations if spec is not None else None
    return {"backend": sorted(module.name for module in pkgutil.iter_modules(places or [])), "size": list(SIZES)}
