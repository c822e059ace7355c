"""What took an engine long to make, kept on disk under everything that it depends on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from nire.errors import EngineMismatch
from nire.network.weights import Network

_NIRE = Path(__file__).parents[1]
_CODE = (_NIRE / "engines", _NIRE / "explicit", _NIRE / "network", _NIRE / "recurrent")


def default_folder() -> Path:
    """Find the user's folder for engines: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nire-live" / "engines"


def digest_of(network: Network) -> str:
    """Hash all weights: two networks with one digest compute the same."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def key_of(network: Network, **further: object) -> dict[str, str]:
    """Say what a prepared network depends on.

    Args:
        network: its config and weights.
        further: sizes, precision, device, versions.
    """
    key = {name: str(value) for name, value in further.items()}
    config = json.dumps(dataclasses.asdict(network.config))
    return {"code": _digest_of_code(), "config": config, "weights": digest_of(network), **key}


@cache
def _digest_of_code() -> str:
    """Hash what makes graphs of networks: what another version has prepared may take or compute something else."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in _CODE for path in folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Cache:
    """The files of one key, in a folder that is named by the key and holds it."""

    def __init__(self, folder: Path, key: Mapping[str, str]) -> None:
        """Find the folder of a key below `folder`; nothing is made.

        Raises:
            EngineMismatch: what is there was made for another key.
        """
        self._key = dict(key)
        text = json.dumps(self._key, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        self._check()

    def path(self, name: str) -> Path | None:
        """Find a file; None where it has not been made."""
        path = self.folder / name
        return path if path.is_file() else None

    def put(self, name: str, content: bytes) -> Path:
        """Write a file, whole or not at all, and return where it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / "key.json", json.dumps(self._key, indent=2).encode())
        _write(self.folder / name, content)
        return self.folder / name

    def _check(self) -> None:
        try:
            found = json.loads((self.folder / "key.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError) as problem:
            raise EngineMismatch(f"{self.folder}/key.json cannot be read ({problem}); delete that folder") from problem
        differing = sorted(name for name in self._key.keys() | found.keys() if self._key.get(name) != found.get(name))
        if differing:
            name = differing[0]
            raise EngineMismatch(
                f"{self.folder} was made for another {name}: found {found.get(name)!r}, expected "
                f"{self._key.get(name)!r}. Delete that folder, and it is made anew"
            )


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
