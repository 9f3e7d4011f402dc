"""Reads the last desired state from disk, where control writes it, for a start while control is away."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from gateway.contract.desired import DesiredState

_log = structlog.get_logger("interlock.worker")


def read_state(path: Path) -> DesiredState | None:
    """Returns the state in the file; None if it cannot be read (the log says why)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=DesiredState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _log.error("state_file_unreadable", path=str(path), error=str(error))
        return None
