"""One step in a process of its own: a line of JSON on standard output for each case begun and each result."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from nire.errors import EngineMissing


def main() -> None:
    """Run the cases of a step that are not to be skipped; an error is the result of its case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--argument", default="")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--skip", action="append", default=[])
    asked = parser.parse_args()
    # What libraries print must not end up among the results.
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**values: Any) -> None:
        results.write(json.dumps(values) + "\n")
        results.flush()

    _stand_in()
    step = importlib.import_module(f"{__package__}.{asked.module}")
    for case in step.cases(asked):
        if case in asked.skip:
            continue
        tell(begins=case)
        try:
            for result in step.run(case, asked):
                tell(case=case, **result)
        except EngineMissing as error:
            tell(case=case, skipped=str(error))
        except Exception as error:  # noqa: BLE001 - the last door: the other cases can still be run
            tell(case=case, failed=f"{type(error).__name__}: {error}")


def _stand_in() -> None:
    """Put something in the place of packages that `nire` imports and a GPU does without.

    Loops that numba compiles for the CPU then run as they are written, which is slow; weights cannot be read.
    """
    if importlib.util.find_spec("numba") is None:
        _module("numba", njit=lambda **_: _itself)
    if importlib.util.find_spec("safetensors") is None:
        _module("safetensors", SafetensorError=RuntimeError, safe_open=_missing)
        _module("safetensors.torch", save_file=_missing)


def _module(name: str, **contents: object) -> None:
    module = ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module


def _itself(function: Callable[..., object]) -> Callable[..., object]:
    return function


def _missing(*_: object, **__: object) -> None:
    raise ModuleNotFoundError("weights need safetensors: pip install safetensors")


if __name__ == "__main__":
    main()
