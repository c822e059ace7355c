"""Fill the page of the commands with what the command line says of itself."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any

import typer

from stream.cli import app, main

PAGE, MARK = "commands.md", "<!-- the commands -->"
# These have a parser of their own, whose help is taken as it is.
_PARSED = {
    "bench": ("bench",),
    "evaluate": ("evaluate", "evaluate leave-out", "evaluate consistency"),
    "train": ("train",),
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the commands where the page has its mark."""
    if page.file.src_uri != PAGE:
        return markdown
    before, mark, after = markdown.partition(MARK)
    if not mark:
        raise ValueError(f"{PAGE} has no line {MARK}")
    return f"{before}{commands()}{after}"


def commands() -> str:
    """Markdown of every command: what it does, its arguments and its options."""
    group: Any = typer.main.get_command(app)
    return "\n".join(line for name in group.list_commands(None) for line in _section(name, group))


def _section(name: str, group: Any) -> Iterator[str]:
    command = group.get_command(None, name)
    yield f"## {name}\n"
    if name in _PARSED:
        for words in _PARSED[name]:
            yield f"```text\n{_help(words.split())}\n```\n"
        return
    yield f"{_escaped(command.help)}\n"
    if not hasattr(command, "commands"):
        yield from _usage(f"nire-live {name}", command)
        return
    for sub, each in command.commands.items():
        yield f"### {name} {sub}\n\n{_escaped(each.help)}\n"
        yield from _usage(f"nire-live {name} {sub}", each)


def _usage(words: str, command: Any) -> Iterator[str]:
    given = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    names = [each.metavar or each.name.upper() for each in given]
    shown = [name if each.metavar or each.required else f"[{name}]" for name, each in zip(names, given, strict=True)]
    yield f"```text\n{' '.join([words, *(['[OPTIONS]'] if options else []), *shown])}\n```\n"
    rows = [(f"`{name}`", each) for name, each in zip(names, given, strict=True)]
    rows += [(f"`{_option(each)}`", each) for each in options]
    if rows:
        yield "| name | default | meaning |\n|---|---|---|"
        for name, each in rows:
            yield f"| {name} | {_default(each)} | {_escaped(each.help or '')} |"
        yield ""


def _option(option: Any) -> str:
    names = " / ".join([*option.opts, *option.secondary_opts])
    return names if option.is_flag else f"{names} {option.metavar or option.name.upper()}"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value is False or value == []:
        return ""
    return "on" if value is True else f"`{value}`"


def _escaped(text: str) -> str:
    """Text of a help page as markdown."""
    return re.sub(r"([|*_<>\[\]])", r"\\\1", text.replace("\n", " ")).strip()


def _help(words: list[str]) -> str:
    said = io.StringIO()
    width, os.environ["COLUMNS"] = os.environ.get("COLUMNS"), "86"
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            main([*words, "--help"])
    finally:
        if width is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = width
    return said.getvalue().strip()
