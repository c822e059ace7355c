"""Batches: recordings a minute against one `offline` after another, and a recording in parts against the whole.

Both sides run as users run them, in processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .material import write_recording
from .report import Result

_COUNT = 6
_SECONDS = 1.0
_SETTINGS = ("--set", "reconstructor.backend=edi", "--set", "plan.rate_hz=200")


def run() -> list[Result]:
    """Re-expose recordings of the demonstration's camera by `edi`, 200 images a second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        recordings = [write_recording(folder / "in" / f"{number}.nire", _SECONDS) for number in range(_COUNT)]
        _seconds("offline", recordings[0], folder / "warm")  # what is compiled once is not measured
        jobs = max(1, (os.cpu_count() or 1) // 2)
        one_s = sum(_seconds("offline", path, folder / "one" / path.stem) for path in recordings)
        batch_s = _seconds("batch", folder / "in", folder / "many", "--jobs", str(jobs))
        again_s = _seconds("batch", folder / "in", folder / "many", "--jobs", str(jobs))
        split_s = _seconds("batch", recordings[0], folder / "split", "--jobs", "2", "--split", str(_SECONDS / 8))
        stems = [path.stem for path in recordings]
        same = all(_hash(folder / "many" / stem) == _hash(folder / "one" / stem) for stem in stems)
        split_same = _hash(folder / "split" / "0") == _hash(folder / "one" / "0")
        images = json.loads((folder / "one" / "0" / "run.json").read_text())["counts"]["exposed"]
    note = f"{_COUNT} recordings of {_SECONDS:g} s, {images} images each, {jobs} jobs"
    return [
        Result("recordings_per_min", 60 * _COUNT / batch_s, "1/min", note),
        Result("offline_per_min", 60 * _COUNT / one_s, "1/min", "one `offline` after another, in the same run"),
        Result("batch_ratio", one_s / batch_s, "x", "time of `offline` after `offline` over that of the batch"),
        Result("skip_s", again_s, "s", "the same batch again: all is done and valid"),
        Result("split_s", split_s, "s", "one recording by 2 jobs in stretches of an eighth"),
        Result("batch_same", float(same), "", "1: images and lines of the batch are those of `offline`, by SHA-256"),
        Result("split_same", float(split_same), "", "1: images and lines of the parts are those of the whole"),
    ]


def _seconds(command: str, recording: Path, out: Path, *more: str) -> float:
    words = [sys.executable, "-m", "stream.cli", command, str(recording), str(out), *_SETTINGS, *more]
    start_s = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - start_s


def _hash(out: Path) -> str:
    digest = hashlib.sha256()
    for path in [out / "frames.jsonl", *sorted((out / "frames").iterdir())]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
