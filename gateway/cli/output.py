"""Output of commands: the result on standard output (a table or one JSON value), everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # rich is imported by the first table or progress, protobuf by the client
    from rich.console import Console

    from gateway.protocol.messages import Timestamp

PIPE_WIDTH = 120  # columns when the output is no terminal


def stdout() -> Console:
    """Returns the console for results."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Returns the console for messages and progress."""
    return _console(sys.stderr)


def _console(file: Any) -> Console:
    from rich.console import Console

    width = None if file.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=file, width=width, highlight=False, soft_wrap=False)


def print_json(value: Any) -> None:
    """Prints one JSON value on standard output: indented in a terminal, on one line for programs."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Prints a message that is not the result. Never raises: if nobody can read it, the command goes on."""
    try:
        sys.stderr.write(text + "\n")
    except OSError:
        pass


def fail(
    message: str,
    *,
    as_json: bool,
    exit_code: int = 1,
    code: str = "",
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Prints one line on standard error, with --json also an object on standard output. Returns the exit code."""
    say(f"error: {message}")
    if as_json:
        facts = dict(metadata or {})
        print_json({"error": {"code": code, "reason": reason, "message": message, "metadata": facts}})
    return exit_code


def when(time: Timestamp) -> str:
    """Formats a time in local time to the second; a dash if it is not set."""
    if not time.seconds:
        return "–"
    return datetime.fromtimestamp(time.seconds).strftime("%Y-%m-%d %H:%M:%S")


def size(count: float) -> str:
    """Formats bytes with a binary unit, three digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable: GiB returns")


def duration(seconds: float) -> str:
    """Formats a length of time in its two largest units."""
    total = int(seconds)
    parts = [(total // 86_400, "d"), (total // 3600 % 24, "h"), (total // 60 % 60, "m"), (total % 60, "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2])
