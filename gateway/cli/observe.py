"""Commands that show state: status, history, audit, operations."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gateway.cli.changes import parsed
from gateway.cli.gateway_session import connected
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Limit, Model
from gateway.cli.output import duration, print_json, stdout
from gateway.client.call_errors import Unavailable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gateway.client import AdminClient
    from gateway.protocol.messages import admin

WATCH_INTERVAL_S = 1.0
OptionalModel = Annotated[str, typer.Argument(metavar="[MODEL]", help="Only this model.", show_default=False)]


def status(
    model: OptionalModel = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew every second until interrupted.")] = False,
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Show the workers, and the models and versions that are served."""
    if watch and as_json:
        raise typer.BadParameter("--watch shows a table and --json prints one value: take one of the two")
    with connected(admin) as client:
        if watch:
            _watch(client, model)
            return
        current = client.status(model)
    if as_json:
        from gateway.protocol.messages import as_json as to_json

        print_json(to_json(current))
        return
    stdout().print(_view(current))


def history(model: Model, limit: Limit = 20, admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """List the deployments of a model, newest first."""
    from gateway.cli.tables import revisions_table
    from gateway.protocol.messages import as_json as to_json

    with connected(admin) as client:
        found = list(itertools.islice(client.revisions(model), limit))
    if as_json:
        print_json([to_json(each) for each in found])
    else:
        stdout().print(revisions_table(found))


def audit(model: OptionalModel = "", limit: Limit = 50, admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """List changes: who, what and why."""
    from gateway.cli.tables import audit_table
    from gateway.protocol.messages import as_json as to_json

    with connected(admin) as client:
        found = list(itertools.islice(client.audit(model), limit))
    if as_json:
        states = [{"before": parsed(each.before), "after": parsed(each.after)} for each in found]
        print_json([{**to_json(each), **state} for each, state in zip(found, states, strict=True)])
    else:
        stdout().print(audit_table(found))


def operations(limit: Limit = 20, admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """List long operations, running and finished."""
    from gateway.cli.tables import operations_table
    from gateway.protocol.messages import as_json as to_json

    with connected(admin) as client:
        found = list(itertools.islice(client.operations(), limit))
    if as_json:
        print_json([to_json(each) for each in found])
    else:
        stdout().print(operations_table(found))


def head(status: admin.Status) -> str:
    """Describes the gateway in one line."""
    serving = len({worker.worker for worker in status.workers if worker.state == "serving"})
    count = len({worker.worker for worker in status.workers})
    facts = [
        f"interlock {status.gateway_version}",
        "ready" if status.ready else "not ready",
        f"{serving}/{count} workers serving",
    ]
    if status.start_time.seconds:
        facts.append(f"up {duration(time.time() - status.start_time.seconds)}")
    facts += [
        f"{name} {address}" for name, address in (("data", status.data_address), ("http", status.http_address)) if address
    ]
    return " · ".join(facts)


def _watch(client: AdminClient, model: str) -> None:
    from rich.live import Live

    console = stdout()
    try:
        with Live(_view(client.status(model)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_INTERVAL_S)
                live.update(_next_view(client, model), refresh=True)
                if not console.is_terminal:  # Live draws nothing there until it ends
                    console.print(live.renderable)
    except KeyboardInterrupt:
        return


def _next_view(client: AdminClient, model: str) -> RenderableType:
    """Returns the status, or a line that says why there is none: watching goes on while the gateway restarts."""
    try:
        return _view(client.status(model))
    except Unavailable as error:
        return Text(str(error), style="red")


def _view(status: admin.Status) -> RenderableType:
    from gateway.cli.tables import status_view

    return status_view(status, head(status))
