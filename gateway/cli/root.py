"""Builds the command tree and runs a command. Here alone errors become a line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from gateway import __version__
from gateway.cli.commands import COMMANDS, used
from gateway.cli.output import fail
from gateway.cli.problems import EXPECTED, described

# typer (which carries its own click since 0.16, and used click's before) exports only this leaf of the usage errors
COMPLETING = "_INTERLOCK_COMPLETE"  # variable by which a shell asks typer for completions
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run(arguments: list[str]) -> int:
    """Runs one command. Returns the exit code."""
    as_json = "--json" in arguments
    try:
        code = build_app(arguments)(arguments, standalone_mode=False, prog_name="interlock")
    except UsageError as error:
        return fail(_usage_text(error), as_json=as_json, exit_code=2, code="USAGE")
    except BrokenPipeError:  # the reader of a pipe left, as `| head` does; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EXPECTED as error:
        problem = described(error)
        return fail(problem.message, as_json=as_json, code=problem.code, reason=problem.reason, metadata=problem.metadata)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0


def _usage_text(error: Exception) -> str:
    text = str(getattr(error, "format_message", lambda: str(error))()).strip()
    context = getattr(error, "ctx", None)
    hint = f" (see `{context.command_path} --help`)" if context is not None else ""
    return f"{text.removesuffix('.') or 'a command is needed'}{hint}"


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"interlock {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and exit."),
) -> None:
    """Serve, split, shadow, swap and roll back versioned ONNX models over gRPC."""


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """
    Builds the command tree for these arguments. Commands that they do not name are placeholders. Tab completion names the
    command in a variable instead of the arguments, so all are loaded then.
    """
    app = typer.Typer(
        name="interlock",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Serve, split, shadow, swap and roll back versioned ONNX models over gRPC.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    names = frozenset(command.name for command in COMMANDS) if COMPLETING in os.environ else used(arguments)
    for command in COMMANDS:
        function = command.load() if command.name in names else command.placeholder()
        app.command(command.name, rich_help_panel=command.panel, short_help=command.summary)(function)
    return app
