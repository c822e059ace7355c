"""The command line: finds a command in `stream/commands/`, imports only that one, turns errors into exit codes."""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from nire.errors import NireError
from nire.threads import let_go_of_cores
from stream import commands
from stream.disk import is_full, refused


class _Commands(TyperGroup):
    """The files of `stream/commands/` as commands; a list of them imports none, because that would take seconds."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Their names, for the hint at a mistyped one.
        self.commands = {name: TyperCommand(name) for name in commands.command_names()}
        self._is_listed = False

    def list_commands(self, ctx: Any) -> list[str]:
        return commands.command_names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in commands.command_names():
            return None
        if self._is_listed:
            return TyperCommand(cmd_name, help=_help_of(cmd_name))
        module = _imported(cmd_name)
        if hasattr(module, "app"):
            group = typer.main.get_command(module.app)
            group.name = cmd_name
            return group
        single = typer.Typer(add_completion=False)
        single.command(cmd_name, context_settings=getattr(module, "SETTINGS", commands.HELP))(module.command)
        return typer.main.get_command(single)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._is_listed = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._is_listed = False


def _imported(name: str) -> ModuleType:
    """Import a command, and collect no garbage meanwhile: what is imported stays, and looking at it takes time."""
    gc.disable()
    try:
        return importlib.import_module(f"{commands.__name__}.{name}")
    finally:
        gc.enable()


def _help_of(name: str) -> str:
    """Read what a command says of itself, without importing it."""
    spec = importlib.util.find_spec(f"{commands.__name__}.{name}")
    if spec is None or spec.origin is None:
        return ""
    module = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "command"]
    return ast.get_docstring(functions[0] if functions else module) or ""


app = typer.Typer(
    name="nire-live",
    cls=_Commands,
    help="Any shutter, after the fact, live: re-expose an event camera's frames at any instant, interval or row delay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=commands.HELP,
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code: 0 done, 1 unexpected, 2 wrong use or input, 3 unanswered, 4 damaged."""
    words = _with_loop_count(list(sys.argv[1:] if arguments is None else arguments))
    if words[:1] != ["train"]:  # that is nothing but operations of torch
        let_go_of_cores()
    try:
        try:
            app(args=words, prog_name="nire-live", standalone_mode=True)
        finally:
            sys.stdout.flush()
    except NireError as error:
        sys.exit(_told(error))
    except KeyboardInterrupt:
        sys.exit(0)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if not is_full(error):
            raise
        sys.exit(_told(refused(error, error.filename or "any further")))
    sys.exit(0)


def _told(error: NireError) -> int:
    print(f"nire-live: {error}", file=sys.stderr)
    return error.exit_code


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        print(installed("nire-live"))
        raise typer.Exit


@app.callback()
def _root(
    # A callback of its own: without a command this function is not reached.
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


def _with_loop_count(words: list[str]) -> list[str]:
    """Let `--loop` stand without a number, for ever: 0 in the option's own terms."""
    if "--loop" in words:
        at = words.index("--loop")
        if at + 1 == len(words) or not words[at + 1].isdigit():
            words.insert(at + 1, "0")
    return words


if __name__ == "__main__":
    main()
