"""Runs one stream from the command line of a test: KEY=VALUE settings, then --recording, --speed, --seconds, ..."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nire.errors import NireError
from stream.config import load_config
from stream.processes import log, supervisor
from stream.sources import SourceOrder


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--recording", type=Path)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--loops", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--record-to", type=Path)
    parser.add_argument("--preview", type=bool, default=False)
    wanted = parser.parse_args()
    log.configure("INFO")
    try:
        return supervisor.run(
            load_config(None, wanted.settings),
            SourceOrder(wanted.recording, wanted.speed, wanted.loops),
            preview=wanted.preview,
            seconds=wanted.seconds,
            record_to=wanted.record_to,
        )
    except NireError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
