"""
Deaths of worker processes, and which version is to blame for them. Pure.

A signal like SIGFPE or SIGSEGV names the thread that failed, hence the version that it ran: one such death is proof. Of a
worker that was killed from outside (SIGKILL, by the kernel for want of memory or by a person) only what it ran is known:
a version that ran at two deaths within a minute is to blame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

WINDOW_S = 60.0  # seconds in which deaths are seen together
CHANCES = 2  # deaths of one worker by the same version for which it is restarted at once: the second may still be in the dark

VersionName = tuple[str, int]  # model and number


@dataclass(frozen=True, slots=True)
class NotedRun:
    """
    What a process ran when it died: ``requests`` of a version, with the callers' own ``ids`` as far as they gave any and the
    note had room; no requests while the version was loaded or warmed up. ``is_certain``: its own thread has failed.
    """

    model: str
    version: int
    requests: int = 0
    ids: tuple[str, ...] = ()
    is_certain: bool = False

    @property
    def name(self) -> VersionName:
        """The version that ran."""
        return self.model, self.version

    def __str__(self) -> str:
        what = f"{self.requests} request{'' if self.requests == 1 else 's'} of" if self.requests else "loading"
        return f"{what} {self.model} v{self.version}" + (f" ({', '.join(self.ids)})" if self.ids else "")


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """
    The death of a worker process. ``signal`` is its name, or ``exit`` with the code; ``at`` is Unix seconds. ``runs`` are the
    suspects: the run of the thread that failed, or all if that is not known.
    """

    worker: int
    signal: str
    at: float
    runs: tuple[NotedRun, ...] = ()

    def __str__(self) -> str:
        return f"{self.signal}, {'; '.join(map(str, self.runs)) or 'nothing ran'}"


def recent(deaths: Iterable[WorkerDeath], now: float) -> tuple[WorkerDeath, ...]:
    """Returns the deaths within WINDOW_S before ``now`` (Unix seconds)."""
    return tuple(death for death in deaths if now - death.at <= WINDOW_S)


def blamed(deaths: Collection[WorkerDeath]) -> frozenset[VersionName]:
    """Returns the versions that are to blame for deaths of one window."""
    certain = {run.name for death in deaths for run in death.runs if run.is_certain}
    seen = Counter(name for death in deaths for name in {run.name for run in death.runs})
    return frozenset(certain | {name for name, count in seen.items() if count > 1})


def is_explained(death: WorkerDeath, deaths: Collection[WorkerDeath]) -> bool:
    """
    Whether the cause of a death, the last of ``deaths`` of one window, is known and is kept from the worker's next life. A
    version that ends the same worker more than CHANCES times is not kept from it, however well it is known.
    """
    causes = blamed(deaths) & {run.name for run in death.runs}
    own = [one for one in deaths if one.worker == death.worker and causes & {run.name for run in one.runs}]
    return bool(causes) and len(own) <= CHANCES
