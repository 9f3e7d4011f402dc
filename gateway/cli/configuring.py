"""`configure`: changes how a deployment batches, queues and swaps. Also describes its settings in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Etag, Model, Reason, seconds
from gateway.cli.routing import change_deployment, described
from registry.deployment import DEFAULT_ROLLBACK_WINDOW_S, ISOLATIONS, ON_CRASH, SWAP_ORDERS, Batching

if TYPE_CHECKING:
    from gateway.client.admin import AdminClient, Updates
    from gateway.protocol.messages import admin

_BATCHING_MODES = ("auto", "on", "off")
_BUILT_IN = Batching()

_PreferredRows = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Batch sizes that the model runs fastest at, or none.")
]

_AdaptiveLimit = Annotated[
    bool | None,
    typer.Option("--adaptive-limit/--no-adaptive-limit", help="Limit the requests in progress by their measured latency."),
]

_Isolation = Annotated[
    str | None, typer.Option(metavar="process|none", help="Run the model in processes of its own, or in the workers.")
]

_OnCrash = Annotated[
    str | None, typer.Option(metavar="fence|rollback", help="Refuse the default when it goes on crashing, or roll back.")
]

_SwapOrder = Annotated[
    str | None, typer.Option(metavar="availability|memory", help="Load the new version first, or free the old one first.")
]


def configure(
    model: Model,
    batching: Annotated[str | None, typer.Option(metavar="auto|on|off", help="Whether to batch requests.")] = None,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Rows that a batch has at most.")] = None,
    queue_delay_us: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Microseconds that a batch may wait to fill.")
    ] = None,
    preferred_rows: _PreferredRows = None,
    max_waiting: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Requests that may wait in the queue at most.")
    ] = None,
    queue_target_us: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Microseconds of lasting queueing delay allowed; 0 for no limit.")
    ] = None,
    adaptive_limit: _AdaptiveLimit = None,
    rollback_window: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long the predecessor is kept warm: 600, 90s, 30m, 1h.")
    ] = None,
    swap_order: _SwapOrder = None,
    isolation: _Isolation = None,
    on_crash: _OnCrash = None,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Change how a deployment batches, queues, swaps and keeps its predecessor."""
    told = {
        "mode": _one_of("--batching", batching, _BATCHING_MODES),
        "max_rows": max_rows,
        "queue_delay_us": queue_delay_us,
        "preferred_rows": None if preferred_rows is None else parse_rows(preferred_rows),
        "max_waiting": max_waiting,
        "queue_target_us": queue_target_us,
        "adaptive_limit": adaptive_limit,
    }
    order = _one_of("--swap-order", swap_order, SWAP_ORDERS)
    place = _one_of("--isolation", isolation, ISOLATIONS)
    crash = _one_of("--on-crash", on_crash, ON_CRASH)
    window_s = None if rollback_window is None else seconds(rollback_window)
    if all(value is None for value in (window_s, order, place, crash, *told.values())):
        raise typer.BadParameter("nothing to change: see `interlock configure --help` for what can be set")

    def begin(client: AdminClient) -> Updates:
        wanted, seen = None, etag
        if any(value is not None for value in told.values()):
            current = client.deployment(model)  # the settings that are not given stay as they are
            wanted, seen = _changed(current.batching, told), etag or current.etag
        return client.configure(
            model,
            batching=wanted,
            rollback_window_s=window_s,
            swap_order=order or "",
            isolation=place or "",
            on_crash=crash or "",
            etag=seen,
            reason=reason,
        )

    change_deployment(admin, as_json, begin, done=changes)


def changes(operation: admin.Operation) -> str:
    """Says which settings were changed, in one line: "echo: batching.max_rows 64 → 16  revision 4"."""
    told = ", ".join(f"{one.name} {one.before} → {one.after}" for one in operation.changes)
    if not told and all(step.name != "unchanged" for step in operation.steps):
        return described(operation)  # an earlier release, which does not say what it changed
    return f"{operation.model}: {told or 'nothing changed'}  [dim]revision {operation.deployment.revision}[/]"


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        raise typer.BadParameter(f"{option}: expected {', '.join(known)}, got {value!r}")
    return value


def parse_rows(text: str) -> list[int]:
    """Reads batch sizes from texts like 8,16; "none" means no sizes. Raises a usage error."""
    if text in ("", "none"):
        return []
    sizes = [part.strip() for part in text.split(",")]
    if not all(size.isdecimal() for size in sizes):
        raise typer.BadParameter(f"--preferred-rows: expected numbers with commas between them, or none, got {text!r}")
    return [int(size) for size in sizes]


def _changed(batching: admin.Batching, told: Mapping[str, object]) -> admin.Batching:
    """Returns the settings with the given ones replaced. The others are sent as they were read."""
    for name, value in told.items():
        if name == "preferred_rows" and isinstance(value, list):
            batching.preferred_rows.SetInParent()  # also when it is empty: it is told
            batching.preferred_rows.rows[:] = value
        elif value is not None:
            setattr(batching, name, value)
    return batching


def settings(deployment: admin.Deployment) -> str:
    """Lists the settings that differ from the defaults, as `configure` takes them: "max-rows 16, swap-order memory"."""
    batching, usual = deployment.batching, _BUILT_IN
    rows = tuple(batching.preferred_rows.rows)
    shown = {
        "batching": (batching.mode, usual.mode),
        "max-rows": (batching.max_rows, usual.max_rows),
        "queue-delay-us": (batching.queue_delay_us, usual.queue_delay_us),
        "preferred-rows": (",".join(map(str, rows)), ",".join(map(str, usual.preferred_rows))),
        "max-waiting": (batching.max_waiting, usual.max_waiting if batching.HasField("max_waiting") else 0),
        "queue-target-us": (batching.queue_target_us, usual.queue_target_us if batching.HasField("queue_target_us") else 0),
        "adaptive-limit": ("on" if batching.adaptive_limit else "off", "off"),
        "rollback-window": (f"{deployment.rollback_window_s:g}s", f"{DEFAULT_ROLLBACK_WINDOW_S:g}s"),
        "swap-order": (deployment.swap_order or SWAP_ORDERS[0], SWAP_ORDERS[0]),
        "isolation": (deployment.isolation or ISOLATIONS[0], ISOLATIONS[0]),
        "on-crash": (deployment.on_crash or ON_CRASH[0], ON_CRASH[0]),
    }
    return ", ".join(f"{name} {value}" for name, (value, built_in) in shown.items() if value != built_in)
