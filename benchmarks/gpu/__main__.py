"""`python -m benchmarks.gpu`: run the steps one after the other, write what they find, and a summary.

Only the standard library here: whatever a step lacks or breaks, the others run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .steps import STEPS, Step
from .summary import summary

RESULTS, SUMMARY = "results.jsonl", "summary.md"
_LAST_LINES = 5
_MINUTES = 8.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 1 where a result was wrong, 2 where nothing could be begun."""
    asked = _parser().parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    if (asked.out / RESULTS).exists():
        print(f"{asked.out / RESULTS} exists: choose another --out", file=sys.stderr)
        return 2
    began_s, share, found = time.monotonic(), 0.0, []
    for step in STEPS:
        share += step.share
        if asked.only and step.name not in asked.only:
            continue
        # A dry run asks whether all steps run, on whatever machine: each has all the time.
        limit_s = 60 * asked.minutes * (1.0 if asked.dry_run else share) + began_s - time.monotonic()
        for result in _results(step, limit_s, asked):
            found.append({"step": step.name, **result})
            with (asked.out / RESULTS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
            print(json.dumps(found[-1]), flush=True)
        (asked.out / SUMMARY).write_text(summary(found), encoding="utf-8")
    print(f"{asked.out / SUMMARY} tells it for people, {asked.out / RESULTS} for programs")
    return 1 if any(result.get("is_right") is False for result in found) else 0


def _results(step: Step, limit_s: float, asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run a step, begun again after a case that ends its process; yields what it finds, and what became of it."""
    if missing := step.missing():
        yield {"skipped": missing}
        return
    until_s = time.monotonic() + limit_s
    tried: list[str] = []
    while (left_s := until_s - time.monotonic()) > 0:
        case = ""
        child = _Child(step, tried, asked, left_s)
        for result in child.results():
            if "begins" in result:
                case = result["begins"]
                tried.append(case)
            else:
                yield result
        if child.code == 0:
            return
        if child.is_late:
            break
        yield {"case": case, "failed": child.last_lines() or f"exit code {child.code}"}
        if not case:  # it did not come so far
            return
    yield {"case": tried[-1] if tried else "", "stopped": f"at its limit of {limit_s:.0f} s"}


class _Child:
    """The process of a step.

    Attributes:
        code: that it ended with; None before.
        is_late: it was killed at its limit.
    """

    def __init__(self, step: Step, done: list[str], asked: argparse.Namespace, limit_s: float) -> None:
        words = [sys.executable, "-m", f"{__package__}.child", step.module, "--argument", step.argument]
        words += [
            "--out",
            str(asked.out),
            "--minutes",
            f"{limit_s / 60:.3f}",
            *(["--dry-run"] if asked.dry_run else []),
        ]
        words += ["--images", str(asked.images)] if asked.images else []
        words += [word for case in done for word in ("--skip", case)]
        self.code: int | None = None
        self.is_late = False
        self._log = asked.out / f"{step.name}.log"
        dry = {"TRITON_INTERPRET": "1"} if asked.dry_run else {}
        with self._log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **dry}
            )
        self._timer = threading.Timer(limit_s, self._kill)

    def results(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        self._timer.start()
        try:
            with self._process.stdout as lines:
                yield from (json.loads(line) for line in lines if line.endswith("\n"))
            self.code = self._process.wait()
        finally:
            self._timer.cancel()
            self._process.kill()

    def last_lines(self) -> str:
        return " | ".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])

    def _kill(self) -> None:
        self.is_late = True
        self._process.kill()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description="Measure a machine with an NVIDIA GPU.")
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {RESULTS}, {SUMMARY} and logs")
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="for all steps together")
    parser.add_argument("--images", type=Path, help="folder of natural images to train on; else some are made up")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, at tiny sizes: whether all steps run")
    names = [step.name for step in STEPS]
    parser.add_argument("--only", action="append", choices=names, help="run this step alone; may be repeated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
