from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from gateway.telemetry.logs import configure_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    quiet = {name: logging.getLogger(name).level for name in ("grpc", "opentelemetry", "sqlalchemy", "alembic", "asyncio")}
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_that_says_who_and_when() -> None:
    stream = io.StringIO()
    configure_logs("info", role="worker", worker=3, stream=stream)
    structlog.get_logger("interlock.lifecycle").info("state_changed", model="digits", to="READY")
    (line,) = lines(stream)
    assert datetime.fromisoformat(str(line.pop("timestamp"))).utcoffset() == timedelta(0)
    assert line == {
        "event": "state_changed",
        "logger": "interlock.lifecycle",
        "level": "info",
        "role": "worker",
        "worker": 3,
        "model": "digits",
        "to": "READY",
    }


def test_loggers_of_the_standard_library_come_the_same_way() -> None:
    stream = io.StringIO()
    configure_logs("info", role="control", stream=stream)
    logging.getLogger("grpc._server").error("Exception calling %s", "it")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["level"], line["role"]) == (
        "Exception calling it",
        "grpc._server",
        "error",
        "control",
    )
    assert "worker" not in line


def test_lines_below_the_level_are_dropped() -> None:
    stream = io.StringIO()
    configure_logs("warning", stream=stream)
    structlog.get_logger("interlock.x").info("quiet")
    structlog.get_logger("interlock.x").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_libraries_are_quiet_at_info() -> None:
    stream = io.StringIO()
    configure_logs("info", stream=stream)
    logging.getLogger("grpc").info("noise")
    logging.getLogger("alembic.runtime.migration").info("Context impl SQLiteImpl.")
    assert lines(stream) == []


def test_a_traceback_stays_in_its_line() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    try:
        raise RuntimeError("broken\nin two")
    except RuntimeError as error:
        structlog.get_logger("interlock.x").error("failed", exc_info=error)
    (line,) = lines(stream)
    assert "RuntimeError: broken\nin two" in str(line["exception"])


def test_a_logger_made_before_follows_the_configuration() -> None:
    early = structlog.get_logger("interlock.early")
    first, second = io.StringIO(), io.StringIO()
    configure_logs(stream=first)
    early.info("one")
    configure_logs(stream=second)
    early.info("two")
    assert [line["event"] for line in lines(first)] == ["one"]
    assert [line["event"] for line in lines(second)] == ["two"]


def test_a_terminal_gets_text() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    configure_logs(stream=stream)
    structlog.get_logger("interlock.x").info("hello")
    assert "hello" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_values_without_json_form_do_not_break_a_line() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    structlog.get_logger("interlock.x").info("odd", value=object(), raw=b"\xff")
    assert len(lines(stream)) == 1


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="log level: got 'loud', expected one of debug, info, warning, error"):
        configure_logs("loud")
