"""Benchmarks that are held to fewer instructions, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.instructions import HELD, has_avx2, held_to

TELL = """
import json, sys
from benchmarks.instructions import held_to, hold_to
hold_to("avx2")
import numba, torch
from numba.core import codegen
import numpy
print(json.dumps({
    "words": sys.argv[1:], "torch": torch.backends.cpu.get_cpu_capability(), "numba": numba.config.CPU_NAME,
    "bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported(), "said": held_to(),
    "numpy": numpy.show_config(mode="dicts")["SIMD Extensions"]["found"],
}))
"""


@pytest.mark.skipif(not has_avx2(), reason="this processor has no AVX2")
def test_libraries_find_a_processor_of_avx2(tmp_path: Path) -> None:
    program = tmp_path / "tell.py"
    program.write_text(TELL, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != HELD}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, str(program), "edi", "--runs", "3"],
        capture_output=True, text=True, env=environment, timeout=300, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["words"] == ["edi", "--runs", "3"]  # the same command again
    assert told["torch"] == "AVX2"
    assert not told["bf16"]
    assert told["numba"] == "haswell"
    assert not [name for name in told["numpy"] if name == "X86_V4" or name.startswith("AVX512")]
    assert told["said"] == ", held to AVX2"


def test_who_is_not_held_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HELD, raising=False)
    assert held_to() == ""
