"""Commands that change which versions answer callers: deploy, promote, rollback, split, shadow, undeploy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.gateway_session import connected, finish
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Etag, Force, Model, Reason, Version

if TYPE_CHECKING:
    from gateway.client.admin import AdminClient, Updates
    from gateway.protocol.messages import admin


def deploy(
    model: Model,
    version: Version,
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Serve a version, in place of all that the model served before."""
    change_deployment(admin, as_json, lambda client: client.deploy(model, version, force=force, etag=etag, reason=reason))


def promote(
    model: Model,
    version: Version,
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Make a version the default, once every worker has it ready. The switch is one step."""
    change_deployment(admin, as_json, lambda client: client.promote(model, version, force=force, etag=etag, reason=reason))


def rollback(model: Model, reason: Reason = "", etag: Etag = "", admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """Restore what was served before. It needs no version."""
    change_deployment(admin, as_json, lambda client: client.rollback(model, etag=etag, reason=reason))


def split(
    model: Model,
    weights: Annotated[list[str], typer.Argument(metavar="VERSION=PERCENT...", help="E.g. 1=70 2=30; 100 in all.")],
    force: Force = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Split a model's traffic between versions; a unit keeps its version."""
    percents = parse_weights(weights)
    change_deployment(admin, as_json, lambda client: client.split(model, percents, force=force, etag=etag, reason=reason))


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
    """Send copies of requests to a version and compare its answers. Callers never see them."""
    if off == (version is not None):
        raise typer.BadParameter("give a VERSION, or --off")
    change_deployment(
        admin, as_json, lambda client: client.shadow(model, version, percent=percent, force=force, etag=etag, reason=reason)
    )


def undeploy(model: Model, reason: Reason = "", etag: Etag = "", admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """Stop serving a model; its versions stay registered."""
    change_deployment(admin, as_json, lambda client: client.undeploy(model, etag=etag, reason=reason))


def change_deployment(
    admin: str,
    as_json: bool,
    begin: Callable[[AdminClient], Updates],
    done: Callable[[admin.Operation], str] | None = None,
) -> None:
    """Begins a change of a deployment, then shows its progress and its result. ``done`` describes it in another way."""
    with connected(admin) as client:
        finish(begin(client), as_json=as_json, done=done or described, resource="deployment")


def parse_weights(texts: list[str]) -> dict[str, float]:
    """Reads percent by version from texts like 1=70. Raises a usage error that names the text."""
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
    """Describes a deployment in one line."""
    deployment = operation.deployment
    took_ms = (operation.end_time.ToNanoseconds() - operation.create_time.ToNanoseconds()) / 1e6
    return f"{operation.model}: {routes(deployment)}  [dim]revision {deployment.revision}, {max(0.0, took_ms):.0f} ms[/]"


def routes(deployment: admin.Deployment) -> str:
    """Says in words which versions answer: "version 1 70 %, version 2 30 %, shadow version 3"."""
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
