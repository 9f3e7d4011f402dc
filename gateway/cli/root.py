"""The command tree, and the one place where errors become a line on standard error and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

import typer

from gateway import __version__
from gateway.cli import configuring, infer, observe, publish, restart, traffic, truth
from gateway.cli.output import fail
from gateway.cli.problems import EXPECTED, described

# typer (which carries its own click since 0.16, and used click's before) exports only this leaf of the usage errors
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="interlock",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Serve, split, shadow, swap and roll back versioned ONNX models over gRPC.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def run(arguments: list[str]) -> int:
    """Runs one command and gives the exit code."""
    as_json = "--json" in arguments
    try:
        code = app(arguments, standalone_mode=False, prog_name="interlock")
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


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version and leave."),
) -> None:
    """Serve, split, shadow, swap and roll back versioned ONNX models over gRPC."""


def _add_serve() -> None:
    """The gateway itself; left out of an installation that has only the client."""
    try:
        serve = importlib.import_module("gateway.cli.serve")
    except ModuleNotFoundError as error:
        if error.name != "gateway.cli.serve":
            raise
        return
    app.command("serve", rich_help_panel="Gateway")(serve.serve)


_add_serve()
_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Models": {
        "register": publish.register,
        "validate": publish.validate,
        "alias": publish.alias,
        "models": publish.models,
        "versions": publish.versions,
    },
    "Traffic": {
        "deploy": traffic.deploy,
        "promote": traffic.promote,
        "rollback": traffic.rollback,
        "split": traffic.split,
        "shadow": traffic.shadow,
        "configure": configuring.configure,
        "undeploy": traffic.undeploy,
    },
    "Gateway": {"restart": restart.restart},
    "Watching": {
        "status": observe.status,
        "history": observe.history,
        "audit": observe.audit,
        "operations": observe.operations,
        "quality": truth.quality,
    },
    "Using": {"predict": infer.predict, "feedback": truth.feedback},
}
for _panel, _commands in _COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
