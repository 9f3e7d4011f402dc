"""What is known about the crashes of versions, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.contract.deaths import VersionName


@dataclass(frozen=True, slots=True)
class CrashView:
    """
    What `interlock status` shows. ``deaths`` are numbers of processes that died while they ran a version; ``last`` describes
    the last death of a worker.
    """

    deaths: Mapping[VersionName, int] = field(default_factory=dict)
    last: Mapping[int, str] = field(default_factory=dict)


NO_CRASHES = CrashView()
