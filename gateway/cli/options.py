"""Options and arguments that commands share, and the completion of names in the shell."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer

DEFAULT_ADMIN = "127.0.0.1:9001"
DEFAULT_DATA = "127.0.0.1:8001"
COMPLETION_TIMEOUT_S = 0.3
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(ib|b|)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def _models(incomplete: str) -> list[str]:
    """Returns names of models for the shell; none if no gateway answers at once."""
    from gateway.client import AdminClient, CallError

    try:
        with AdminClient(os.environ.get("INTERLOCK_ADMIN", DEFAULT_ADMIN), timeout_s=COMPLETION_TIMEOUT_S) as client:
            return [model.name for model in client.models() if model.name.startswith(incomplete)]
    except CallError:
        return []


def seconds(text: str) -> float:
    """Reads seconds from a duration such as 90, 90s, 30m, 1h, 7d. Raises a usage error."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"expected a duration such as 90s, 30m, 1h or 7d, got {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def byte_count(text: str) -> int:
    """Reads bytes from a size such as 500MB (of 1000), 4GiB, 1.5g (of 1024) or 1048576. Raises a usage error."""
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"expected a size such as 500MiB, 4GiB or 1048576, got {text!r}")
    step = 1000 if match[3] == "b" else 1024
    return int(float(match[1]) * step ** " kmgt".index(match[2] or " "))


def number_of_version(text: str) -> int:
    """Reads a version's number, written as 5 or v5; 0 for none. Raises a usage error."""
    from registry.names import version_number

    number = version_number(text)
    if number is None:
        raise typer.BadParameter(f"expected the number of a version, got {text!r}")
    return number


Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", autocompletion=_models, show_default=False)]
Version = Annotated[str, typer.Argument(metavar="VERSION", help='A number, an alias, or "latest".', show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output.")]
Admin = Annotated[
    str, typer.Option("--admin", metavar="HOST:PORT", envvar="INTERLOCK_ADMIN", help="The gateway's admin address.")
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="HOST:PORT",
        envvar="INTERLOCK_DATA",
        help="The gateway's data address.  \\[default: as the admin port says]",
        show_default=False,
    ),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Reason of the change, for the audit log.", show_default=False)
]
Etag = Annotated[
    str, typer.Option("--etag", metavar="ETAG", help="Change the resource only if it still has this etag.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Allow a signature that is incompatible with the serving one.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show only the N newest.")]
