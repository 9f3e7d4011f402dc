"""`interlock unfence`: ends the fences of versions that crash."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.gateway_session import connected
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Model, Reason
from gateway.cli.output import print_json, stdout

OptionalVersion = Annotated[
    str, typer.Argument(metavar="[VERSION]", help="Only this version: a number or an alias.", show_default=False)
]


def unfence(
    model: Model, version: OptionalVersion = "", reason: Reason = "", admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False
) -> None:
    """Take calls again for versions that are refused because they crash. They stay in processes of their own."""
    with connected(admin) as client:
        ended = client.unfence(model, version, reason=reason)
    if as_json:
        print_json({"model": model, "versions": ended})
        return
    names = ", ".join(f"v{number}" for number in ended)
    stdout().print(f"{model} {names} takes calls again" if ended else f"no version of {model} is fenced")
