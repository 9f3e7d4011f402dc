"""The supervisor's messages to control about deaths of workers, as lines. Pure."""

from __future__ import annotations

import msgspec

from gateway.contract.deaths import WorkerDeath

DIED = b"died "  # before the value, which tells the line from those of a rolling restart


def death_line(death: WorkerDeath) -> bytes:
    """Returns the message as one line."""
    return DIED + msgspec.json.encode(death) + b"\n"


def death_of(line: bytes) -> WorkerDeath | None:
    """Returns the message of a line, None if the line is about something else. Raises ValueError if it is malformed."""
    return msgspec.json.decode(line.removeprefix(DIED), type=WorkerDeath) if line.startswith(DIED) else None
