"""
The set-up of log lines: structlog writes JSON to standard error, and the standard library's loggers (grpc, OpenTelemetry)
write to the same place. Each process calls `configure_logs` once at its start. No log events are defined here.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Libraries whose INFO and DEBUG lines only help their authors.
_QUIET = ("grpc", "opentelemetry", "sqlalchemy", "alembic", "asyncio", "concurrent")


class _LogHandler(logging.StreamHandler[TextIO]):
    """Marks the gateway's handler among the root logger's, so that a second configuration replaces only this one."""


def configure_logs(level: str = "info", role: str = "control", worker: int | None = None, stream: TextIO | None = None) -> None:
    """
    Sends every log line of this process to ``stream`` (None: standard error), as one JSON object per line, or as coloured text
    if the stream is a terminal. Drops lines below ``level`` (debug, info, warning, error). Each line has the process'
    ``role`` and, if given, the ``worker`` number. Raises ValueError for an unknown level. May be called again.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"log level: got {level!r}, expected one of {', '.join(LEVELS)}")
    threshold = LEVELS[level.lower()]
    # gRPC's C core writes to file descriptor 2 itself. It reads this variable once, when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    out = stream if stream is not None else sys.stderr
    before = _before(role, worker)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # so that loggers made at import time follow a later configuration
    )
    handler = _LogHandler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=_render(out)))
    root = logging.getLogger()
    root.handlers[:] = [kept for kept in root.handlers if not isinstance(kept, _LogHandler)] + [handler]
    root.setLevel(threshold)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _before(role: str, worker: int | None) -> list[Processor]:
    def identify(_logger: object, _method: str, event: EventDict) -> EventDict:
        event.setdefault("role", role)
        if worker is not None:
            event.setdefault("worker", worker)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        identify,
    ]


def _render(out: TextIO) -> list[Processor]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if out.isatty():
        return [drop, structlog.dev.ConsoleRenderer()]
    return [drop, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
