"""
The commands of `interlock`: their names, what `interlock --help` says of each, and where each is.

A command's module is imported when the command is used, so that `--help` and `--version` load neither gRPC nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``module`` in `gateway.cli` has the function of its ``name``."""

    name: str
    panel: str
    module: str
    summary: str

    def load(self) -> Callable[..., int | None]:
        """Imports the command's module and returns its function."""
        function: Callable[..., int | None] = getattr(import_module(f"gateway.cli.{self.module}"), self.name)
        return function

    def placeholder(self) -> Callable[..., int | None]:
        """Returns a function without options, which stands for the command in lists of commands."""

        def not_loaded() -> None:
            raise AssertionError(f"{self.name} was not loaded")

        return not_loaded


COMMANDS = (
    Command("serve", "Gateway", "serve", "Run the gateway until SIGTERM or Ctrl-C."),
    Command("restart", "Gateway", "restart", "Replace every worker process, one after the other, without a failed request."),
    Command("register", "Models", "publish", "Upload a model as the next version. It does not serve yet."),
    Command("validate", "Models", "publish", "Check a model on this machine, as registration would, without a gateway."),
    Command("alias", "Models", "publish", "Point an alias at a version, or remove it."),
    Command("models", "Models", "publish", "List the registered models."),
    Command("versions", "Models", "publish", "List the versions of a model."),
    Command("deploy", "Traffic", "routing", "Serve a version, in place of all that the model served before."),
    Command("promote", "Traffic", "routing", "Make a version the default, once every worker has it ready."),
    Command("rollback", "Traffic", "routing", "Restore what was served before."),
    Command("split", "Traffic", "routing", "Split a model's traffic between versions; a unit keeps its version."),
    Command("shadow", "Traffic", "routing", "Send copies of requests to a version and compare its answers."),
    Command("configure", "Traffic", "configuring", "Change how a deployment batches, queues, swaps and keeps its predecessor."),
    Command("unfence", "Traffic", "fencing", "Take calls again for versions that are refused because they crash."),
    Command("undeploy", "Traffic", "routing", "Stop serving a model; its versions stay registered."),
    Command("status", "Watching", "observe", "Show the workers, and the models and versions that are served."),
    Command("history", "Watching", "observe", "List the deployments of a model, newest first."),
    Command("audit", "Watching", "observe", "List changes: who, what and why."),
    Command("operations", "Watching", "observe", "List long operations, running and finished."),
    Command("quality", "Watching", "truth", "Show the live quality of every version, from the ground truth received."),
    Command("predict", "Using", "infer", "Ask a served model for a prediction."),
    Command("feedback", "Using", "truth", "Send ground truth for predictions."),
)


def used(arguments: Sequence[str]) -> frozenset[str]:
    """Returns the names of the commands that a command line may mean: those among its arguments, whatever they are for."""
    return frozenset(command.name for command in COMMANDS) & frozenset(arguments)
