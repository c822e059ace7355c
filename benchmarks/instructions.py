"""Hold a benchmark to fewer instructions than this processor has, as most processors have: `bench --instructions avx2`.

Whatever suits itself to the processor is told to find AVX2: loops of numba, of torch and of NumPy, convolutions of
oneDNN, which torch and OpenVINO run, OpenCV, and what the C library copies by. Clock and memory stay those of this
machine, so a ratio means more than a time.
"""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np

from nire.errors import ConfigError

CHOICES = ("avx2",)
HELD = "NIRE_BENCH_INSTRUCTIONS"
"""Of the environment: what this process is held to."""


def hold_to(instructions: str) -> None:
    """Run this command anew, held to some instructions; returns where it is held to them already.

    Args:
        instructions: of `CHOICES`.

    Raises:
        ConfigError: this processor does not have them.
    """
    if os.environ.get(HELD) == instructions:
        return
    if not has_avx2():
        raise ConfigError(f"--instructions {instructions}: this processor has no {instructions.upper()} to be held to")
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | _environment(instructions))


def has_avx2() -> bool:
    """Tell whether this processor has AVX2, as OpenCV finds; it stars what it has beyond what it needs."""
    return "AVX2" in {word.strip("*") for word in cv2.getCPUFeaturesLine().split()}


def held_to() -> str:
    """Say what this process is held to, as a part of the processor's name; nothing where it is not held."""
    return f", held to {os.environ[HELD].upper()}" if HELD in os.environ else ""


def _environment(instructions: str) -> dict[str, str]:
    found: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[call-overload, index]
    # From 2.4 on NumPy calls the first AVX-512 that it uses by the level of the architecture.
    too_many = [name for name in found if name.startswith("AVX512") or name == "X86_V4"]
    wanted = {
        HELD: instructions,
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        "OPENCV_CPU_DISABLE": "AVX512-SKX",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW",
    }
    return wanted | ({"NPY_DISABLE_CPU_FEATURES": " ".join(too_many)} if too_many else {})
