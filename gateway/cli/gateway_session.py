"""Connections for commands, and progress of long operations."""

from __future__ import annotations

import getpass
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gateway.cli.options import DEFAULT_DATA
from gateway.cli.output import print_json, say, size, stderr, stdout
from gateway.cli.problems import NoGateway
from gateway.client.call_errors import CallError, Unreachable

if TYPE_CHECKING:  # grpc and numpy are loaded by the first command that connects, not by --help
    from gateway.client import AdminClient, Client, Updates
    from gateway.protocol.messages import admin

ADDRESS_TIMEOUT_S = 2.0


@contextmanager
def connected(address: str, *, timeout_s: float = 30.0) -> Iterator[AdminClient]:
    """Connects to the admin port. The author of changes is the user who runs the command."""
    from gateway.client import AdminClient

    with AdminClient(address, timeout_s=timeout_s, author=_author()) as client:
        try:
            yield client
        except Unreachable as error:
            raise _nobody(error, "--admin") from error


@contextmanager
def data_connected(address: str | None, admin_address: str) -> Iterator[Client]:
    """Connects to the data port, at ``address`` or at the one that the admin port names."""
    from gateway.client import Client

    with Client(address or _data_address(admin_address)) as client:
        try:
            yield client
        except Unreachable as error:
            raise _nobody(error, "--data") from error


class ProgressDisplay:
    """The steps of an operation, shown on standard error if that is a terminal."""

    def __init__(self) -> None:
        console = stderr()
        self._console = console if console.is_terminal else None
        self._status = console.status("waiting for the gateway …")

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        """Shows the progress of an upload; called from another thread."""
        if self._console is not None:
            self._status.update(f"uploading {size(sent_bytes)} of {size(total_bytes)}")

    def follow(self, updates: Updates) -> admin.Operation:
        """Returns the finished operation. Raises CallError if it failed."""
        if self._console is None:
            return updates.result()
        from rich.markup import escape

        shown = 0
        with self._status:
            for operation in updates:
                for step in itertools.islice(operation.steps, shown, None):
                    text = escape(step.name) + (f"  [dim]{escape(step.detail)}[/]" if step.detail else "")
                    self._status.update(text)
                    self._console.print(f"[green]·[/] {text}")
                shown = len(operation.steps)
        return operation


def finish(
    updates: Updates,
    *,
    as_json: bool,
    done: Callable[[admin.Operation], str],
    resource: str,
    progress: ProgressDisplay | None = None,
) -> None:
    """
    Follows an operation to its end and prints it: ``done(operation)`` describes it for people; its JSON is the operation's
    ``resource`` (deployment or version) with the operation beside it. Raises CallError if it fails.
    """
    operation = (progress or ProgressDisplay()).follow(updates)
    for warning in (*operation.missing, *operation.warnings):
        say(f"warning: {warning}")
    if as_json:
        print_json(operation_json(operation, resource))
    else:
        stdout().print(done(operation))


def operation_json(operation: admin.Operation, resource: str) -> dict[str, Any]:
    """Returns the operation's resource, with the operation (name, steps, duration, warnings, changes) beside its fields."""
    from gateway.protocol.messages import as_json

    about = as_json(operation)
    return {**(about[resource] or {"model": operation.model}), "operation": operation_facts(operation)}


def operation_facts(operation: admin.Operation) -> dict[str, Any]:
    """Returns the operation itself in the form of its JSON."""
    from gateway.protocol.messages import as_json

    about = as_json(operation)
    took_ms = (operation.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e6
    kept = {key: about[key] for key in ("name", "verb", "steps", "missing", "warnings", "changes", "create_time", "end_time")}
    return {**kept, "duration_ms": max(0.0, took_ms)}


def _nobody(error: Unreachable, option: str) -> NoGateway:
    return NoGateway(f"{error}: start one with `interlock serve`, or name it with {option}")


def _author() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        return f"uid {os.getuid()}"


def _data_address(admin_address: str) -> str:
    """Returns the data port's address as the gateway says; the default if it does not."""
    try:
        with connected(admin_address, timeout_s=ADDRESS_TIMEOUT_S) as client:
            told = client.status("").data_address
    except (CallError, NoGateway):
        return DEFAULT_DATA
    host, _, port = told.rpartition(":")
    if host in ("0.0.0.0", "[::]", "*"):  # bound to all: the host that the admin port was reached at is one of them
        return f"{admin_address.rpartition(':')[0]}:{port}"
    return told or DEFAULT_DATA
