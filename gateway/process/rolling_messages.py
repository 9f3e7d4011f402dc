"""
What the supervisor tells control about a rolling restart, as plain values and as lines. Pure.

A rolling restart puts a new process in the place of every worker, one after the other. For each worker: ``starting`` (the
replacement was started) → ``leaving`` (the replacement serves, the old process has been told to go) → ``replaced`` (the
old process is gone). Then ``done``; or ``failed`` with the reason, and whoever was not replaced serves on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec


@dataclass(frozen=True, slots=True)
class RestartNews:
    """
    ``worker`` is the number of the one concerned, ``pid`` its replacement's process, ``old_pid`` the one before; ``place``
    counts from 1 to ``count``. ``replaced`` are the workers replaced so far; ``reason`` says why it failed or was refused.
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
    """As one line of the supervisor's line to control."""
    return msgspec.json.encode(news) + b"\n"


def news_of(line: bytes) -> RestartNews:
    """The news of a line. Raises ValueError where it is none."""
    return msgspec.json.decode(line, type=RestartNews)
