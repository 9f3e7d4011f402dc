"""The scenarios of `make bench`, in the order in which they run. Each file is one of them."""

from __future__ import annotations

from loadtests.bench.scenario import Scenario
from loadtests.bench.scenarios.expired import Expired
from loadtests.bench.scenarios.large import Large
from loadtests.bench.scenarios.many import Many
from loadtests.bench.scenarios.memory import MemoryPerWorker
from loadtests.bench.scenarios.mix import Mix
from loadtests.bench.scenarios.overload import Overload
from loadtests.bench.scenarios.path import RequestPath
from loadtests.bench.scenarios.shadow import ShadowCost
from loadtests.bench.scenarios.streaming import Streaming
from loadtests.bench.scenarios.swap import Swap


def scenarios() -> dict[str, Scenario]:
    """All of them by name."""
    every: tuple[Scenario, ...] = (
        RequestPath(),
        Large(),
        Streaming(),
        Mix(),
        Swap(),
        ShadowCost(),
        Overload(),
        Expired(),
        Many(),
        MemoryPerWorker(),
    )
    return {scenario.name: scenario for scenario in every}
