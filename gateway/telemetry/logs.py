"""
Log lines: structlog as JSON on standard error, with the standard library's loggers (grpc, OpenTelemetry) routed into it.

Called once per process, by whoever starts it. What is logged is decided where it happens.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Libraries that tell at INFO and DEBUG what only their authors want to know.
_QUIET = ("grpc", "opentelemetry", "sqlalchemy", "alembic", "asyncio", "concurrent")


class _Handler(logging.StreamHandler[TextIO]):
    """Ours among the root logger's handlers: replaced when logs are configured again, the others are left alone."""


def configure_logs(level: str = "info", role: str = "control", worker: int | None = None, stream: TextIO | None = None) -> None:
    """
    Sends every log line of this process to ``stream`` (None: standard error), one JSON object a line, or coloured text
    when that is a terminal. Lines below ``level`` (debug, info, warning, error) are dropped; each carries the process'
    ``role``, and the ``worker`` number where there is one. Raises ValueError for an unknown level. May be called again.
    """
    if level.lower() not in LEVELS:
        raise ValueError(f"log level: got {level!r}, expected one of {', '.join(LEVELS)}")
    threshold = LEVELS[level.lower()]
    # gRPC's C core writes to file descriptor 2 by itself and reads this once, when it is loaded.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    out = stream if stream is not None else sys.stderr
    before = _before(role, worker)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # loggers made at import time follow a later configuration
    )
    handler = _Handler(out)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=_render(out)))
    root = logging.getLogger()
    root.handlers[:] = [kept for kept in root.handlers if not isinstance(kept, _Handler)] + [handler]
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
