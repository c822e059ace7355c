"""Commands: what lies in this folder is one, a file each with a function `command`, or with an `app` of subcommands."""

from __future__ import annotations

import pkgutil

HELP = {"help_option_names": ["-h", "--help"]}
"""Every command answers both."""


def command_names() -> list[str]:
    """Names of all commands, sorted: what lies in this folder. Nothing is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
