"""Commands that change who answers callers: deploy, promote, rollback, split, shadow, configure, undeploy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Etag, Force, Model, Reason, Version, seconds
from gateway.cli.session import connected, finish

if TYPE_CHECKING:
    from gateway.client.admin import AdminClient, Updates
    from gateway.rpc.messages import admin

_BATCHING_MODES = ("auto", "on", "off")


def deploy(
    model: Model,
    version: Version,
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Serve a version: the first default of a model, or in place of its whole deployment."""
    _change(admin, as_json, lambda client: client.deploy(model, version, force=force, etag=etag, reason=reason))


def promote(
    model: Model,
    version: Version,
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Make a version the default: prepared in every worker first, then switched in one step."""
    _change(admin, as_json, lambda client: client.promote(model, version, force=force, etag=etag, reason=reason))


def rollback(model: Model, reason: Reason = "", etag: Etag = "", admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """Go back to what was served before; no version needed."""
    _change(admin, as_json, lambda client: client.rollback(model, etag=etag, reason=reason))


def split(
    model: Model,
    weights: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT...", help="E.g. 1=70 2=30; 100 in all.")],
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Share a model's traffic among versions; the same unit always meets the same version."""
    percents = parse_weights(weights)
    _change(admin, as_json, lambda client: client.split(model, percents, force=force, etag=etag, reason=reason))


def shadow(
    model: Model,
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help='A number, an alias, or "latest".')] = None,
    percent: Annotated[float, typer.Option(min=0, max=100, help="Share of the requests that are copied.")] = 100.0,
    off: Annotated[bool, typer.Option("--off", help="Send copies to nobody any more.")] = False,
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Send copies of the requests to a version and compare its answers; callers never see them."""
    if off == (version is not None):
        raise typer.BadParameter("give a VERSION, or --off")
    _change(
        admin, as_json, lambda client: client.shadow(model, version, percent=percent, force=force, etag=etag, reason=reason)
    )


def configure(
    model: Model,
    batching: Annotated[str | None, typer.Option(metavar="auto|on|off", help="When requests are batched.")] = None,
    max_rows: Annotated[int | None, typer.Option(metavar="N", min=1, help="Rows of a batch at most.")] = None,
    queue_delay_us: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Microseconds that a batch may wait to fill.")
    ] = None,
    rollback_window: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long the predecessor is kept warm: 600, 90s, 30m, 1h.")
    ] = None,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Change how a deployment batches, and how long its predecessor is kept warm."""
    if batching is not None and batching not in _BATCHING_MODES:
        raise typer.BadParameter(f"--batching: expected {', '.join(_BATCHING_MODES)}, got {batching!r}")
    if batching is None and max_rows is None and queue_delay_us is None and rollback_window is None:
        raise typer.BadParameter("nothing to change: give --batching, --max-rows, --queue-delay-us or --rollback-window")
    window_s = None if rollback_window is None else seconds(rollback_window)

    def begin(client: AdminClient) -> Updates:
        wanted, seen = None, etag
        if batching is not None or max_rows is not None or queue_delay_us is not None:
            current = client.deployment(model)  # the settings that are not given stay as they are
            seen = etag or current.etag
            wanted = current.batching
            wanted.mode = wanted.mode if batching is None else batching
            wanted.max_rows = wanted.max_rows if max_rows is None else max_rows
            wanted.queue_delay_us = wanted.queue_delay_us if queue_delay_us is None else queue_delay_us
        return client.configure(model, batching=wanted, rollback_window_s=window_s, etag=seen, reason=reason)

    _change(admin, as_json, begin)


def undeploy(model: Model, reason: Reason = "", etag: Etag = "", admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """Serve nothing for a model any more; its versions stay registered."""
    _change(admin, as_json, lambda client: client.undeploy(model, etag=etag, reason=reason))


def _change(admin: str, as_json: bool, begin: Callable[[AdminClient], Updates]) -> None:
    """Begins a change of a deployment, shows its progress and what came of it."""
    with connected(admin) as client:
        finish(begin(client), as_json=as_json, done=described, resource="deployment")


def parse_weights(texts: list[str]) -> dict[str, float]:
    """Percent by version from texts like 1=70. Raises a usage error naming the text."""
    percents: dict[str, float] = {}
    for text in texts:
        version, _, percent = text.partition("=")
        try:
            number = float(percent.removesuffix("%"))
        except ValueError:
            number = float("nan")
        if not version or not 0 <= number <= 100:
            raise typer.BadParameter(f"expected VERSION=PERCENT with 0 to 100 percent, got {text!r}")
        if version in percents:
            raise typer.BadParameter(f"version {version!r} is named twice")
        percents[version] = number
    total = sum(percents.values())
    if abs(total - 100) > 1e-6:
        raise typer.BadParameter(f"the percents must sum to 100, got {total:g}")
    return percents


def described(operation: admin.Operation) -> str:
    """A deployment in one line."""
    deployment = operation.deployment
    took_ms = (operation.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e6
    return f"{operation.model}: {routes(deployment)}  [dim]revision {deployment.revision}, {max(0.0, took_ms):.0f} ms[/]"


def routes(deployment: admin.Deployment) -> str:
    """Who answers, in words: "version 1 70 %, version 2 30 %, shadow version 3"."""
    if not deployment.default_version:
        return "nothing is deployed"
    shares = [share for share in deployment.shares if share.percent > 0]
    if len(shares) > 1:
        text = ", ".join(f"version {share.version} {share.percent:g} %" for share in shares)
    else:
        text = f"version {deployment.default_version}"
    if deployment.HasField("shadow"):
        text += f", shadow version {deployment.shadow.version}"
        text += f" ({deployment.shadow.percent:g} %)" if deployment.shadow.percent < 100 else ""
    return text
