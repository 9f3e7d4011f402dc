"""Keeps crash records on disk, so that a restart of the gateway remembers which versions are isolated or fenced."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog

from gateway.control.crashes.decide import CrashRecord

_log = structlog.get_logger("interlock.control")


def read_crashes(path: Path) -> tuple[CrashRecord, ...]:
    """Returns the records; none if there is no file, or if it cannot be read (the log says why)."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=tuple[CrashRecord, ...])
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.MsgspecError) as error:
        _log.error("crash_file_unreadable", path=str(path), error=str(error))
        return ()


def write_crashes(path: Path, records: Iterable[CrashRecord]) -> None:
    """Replaces the file. Raises OSError."""
    trial = path.with_suffix(".tmp")
    with trial.open("wb") as file:
        file.write(msgspec.json.encode(tuple(records)))
        file.flush()
        os.fsync(file.fileno())
    trial.replace(path)
