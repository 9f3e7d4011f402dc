"""`interlock restart`: replaces the worker processes without a failed request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.gateway_session import ProgressDisplay, connected, operation_facts
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Reason, seconds
from gateway.cli.output import print_json, say, stdout
from gateway.client.call_errors import DeadlineExceeded

if TYPE_CHECKING:
    from gateway.client import Updates
    from gateway.protocol.messages import admin as messages

NO_LIMIT_S = 86_400.0


def restart(
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when all are replaced, or return at once.")] = True,
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="DURATION", help="Wait at most this long; the restart goes on.", show_default=False),
    ] = "",
    reason: Reason = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """
    Replace every worker process, one after the other, without a failed request. A worker stops when its replacement
    serves; if the replacement does not start, nothing changes.
    """
    limit_s = seconds(timeout) if timeout else NO_LIMIT_S
    with connected(admin) as client:
        updates = client.restart_workers(timeout_s=limit_s, reason=reason)
        try:
            operation = ProgressDisplay().follow(updates) if wait else _begun(updates)
        except DeadlineExceeded as error:
            name = updates.last.name if updates.last is not None else "the restart"
            text = f"not done within {timeout}: {name} goes on, see `interlock operations`"
            raise DeadlineExceeded(text, code=error.code) from error
    for missing in operation.missing:
        say(f"warning: {missing}")
    if as_json:
        print_json(_json(operation))
    else:
        stdout().print(_text(operation))


def _begun(updates: Updates) -> messages.Operation:
    return next(iter(updates))


def _json(operation: messages.Operation) -> dict[str, Any]:
    return {"workers": list(operation.workers), "done": operation.done, "operation": operation_facts(operation)}


def _text(operation: messages.Operation) -> str:
    if not operation.done:
        return f"{operation.name} has begun; `interlock operations` shows its progress"
    count = len(operation.workers)
    took_s = (operation.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e9
    return f"{count} worker{'' if count == 1 else 's'} replaced in {took_s:.1f} s"
