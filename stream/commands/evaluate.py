"""Compare methods on scenes with ground truth, or on real recordings."""

from __future__ import annotations

from importlib import import_module

import typer

from stream.options import leave

# The options belong to whom the words are passed on to, `--help` too.
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def command(context: typer.Context) -> None:
    """Compare methods on scenes with truth, or on recordings (leave-out, events-alone, consistency). See --help."""
    on_recordings = {
        "leave-out": "stream.evaluation.leave_out",
        "events-alone": "stream.evaluation.events_alone",
        "consistency": "stream.evaluation.consistency",
    }
    protocol, *rest = context.args or [""]
    if protocol in on_recordings:
        leave(import_module(on_recordings[protocol]).main(rest))
    from nire.training.evaluate import main as run

    leave(run(context.args))
