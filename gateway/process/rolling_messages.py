"""
The supervisor's messages to control about a rolling restart, as values and as lines. Pure.

A rolling restart replaces the process of every worker, one after the other. For each worker: ``starting`` (the replacement
was started) → ``leaving`` (the replacement serves, the old process has been told to stop) → ``replaced`` (the old process is
gone). Then ``done``; or ``failed`` with the reason, and workers that were not replaced serve on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec


@dataclass(frozen=True, slots=True)
class RestartNews:
    """
    One message. ``worker`` is the number of the worker, ``pid`` its new process, ``old_pid`` the old one; ``place`` counts
    from 1 to ``count``. ``replaced`` are the workers replaced so far; ``reason`` says why it failed or was refused.
    """

    state: Literal["starting", "leaving", "replaced", "done", "failed", "refused"]
    worker: int = -1
    pid: int = 0
    old_pid: int = 0
    place: int = 0
    count: int = 0
    replaced: tuple[int, ...] = ()
    reason: str = ""

    @property
    def is_last(self) -> bool:
        """Whether the restart is over."""
        return self.state in ("done", "failed", "refused")


def line_of(news: RestartNews) -> bytes:
    """Returns the message as one line."""
    return msgspec.json.encode(news) + b"\n"


def news_of(line: bytes) -> RestartNews:
    """Returns the message of a line. Raises ValueError if it is none."""
    return msgspec.json.decode(line, type=RestartNews)
