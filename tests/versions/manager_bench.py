"""A loader whose versions only count leases, and an executor that runs a job when the test says so."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredState, DesiredVersion
from gateway.contract.observed import Observed
from gateway.versions.loaded import LoadedVersion
from gateway.versions.manager import VersionManager
from gateway.versions.snapshot import Snapshot
from gateway.versions.warm_up import LoadFailed
from registry.deployment import Batching, Segment, Shadow
from registry.signature import Signature, TensorSpec


class FakeSession:
    """Is never run."""

    signature = Signature((), ())

    def run(self, *_: object) -> list[Any]:
        raise AssertionError("the manager runs no model")

    def close(self) -> None:
        pass


class FakeVersion(LoadedVersion):
    """A loaded version with real leases and no model; breaks the test when it is closed too early or used too late."""

    def __init__(self, model: str, desired: DesiredVersion, log: list[str]) -> None:
        super().__init__(model, desired, FakeSession())
        self.desired, self.log = desired, log
        self.is_closed = False
        self.warm_up_error: Exception | None = None
        self.close_error: Exception | None = None

    @property
    def is_retired(self) -> bool:
        return self._is_retired

    def lease(self) -> bool:
        assert not self.is_closed
        return self.acquire_leases(1)

    def release(self) -> None:
        assert not self.is_closed
        self.release_leases(1)

    def warm_up(self) -> None:
        self.log.append(f"warm {self.desired.number}")
        if self.warm_up_error:
            raise self.warm_up_error

    def settle(self) -> None:
        self.private_bytes = 1000

    def retire(self) -> None:
        self.log.append(f"retire {self.desired.number}")
        super().retire()

    def reinstate(self) -> None:
        assert not self.is_closed
        self.log.append(f"reinstate {self.desired.number}")
        super().reinstate()

    def close(self) -> None:
        assert self.in_flight == 0
        assert not self.is_closed
        self.log.append(f"close {self.desired.number}")
        self.is_closed = True
        if self.close_error:
            raise self.close_error
        super().close()


class FakeLoader:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.made: list[FakeVersion] = []
        self.broken: dict[str, Exception] = {}  # digest -> what loading raises
        self.broken_warm_up: dict[str, Exception] = {}

    def load(self, model: str, desired: DesiredVersion) -> FakeVersion:
        self.log.append(f"load {desired.number}")
        if error := self.broken.get(desired.digest):
            raise error
        version = FakeVersion(model, desired, self.log)
        version.warm_up_error = self.broken_warm_up.get(desired.digest)
        self.made.append(version)
        return version


class ManualExecutor:
    def __init__(self) -> None:
        self.jobs: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> None:
        self.jobs.append((fn, args))

    def run_one(self) -> bool:
        if not self.jobs:
            return False
        fn, args = self.jobs.popleft()
        fn(*args)
        return True


class FakeClock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        self.time += 0.001
        return self.time


class Bench:
    """A manager with fakes around it, and everything it has shown, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.loader = FakeLoader(self.log)
        self.executor = ManualExecutor()
        self.snapshot = Snapshot()
        self.announced: list[Observed] = []
        self.manager = VersionManager(self.loader, self.publish, self.announce, self.executor, FakeClock())

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.log.append(f"publish {sorted(snapshot.ready.get('m', {}))}")

    def announce(self, observed: Observed) -> None:
        self.announced.append(observed)
        self.log.append(f"announce {' '.join(f'{v.number}={v.state}' for v in observed.versions)}")

    def settle(self) -> None:
        """Runs every job and tick that is due."""
        self.manager.tick()
        while self.executor.run_one():
            self.manager.tick()

    def states(self) -> dict[int, str]:
        return {version.number: version.state for version in self.manager.observed().versions}

    def ready(self) -> list[int]:
        return sorted(self.snapshot.ready.get("m", {}))

    def default(self) -> int | None:
        route = self.snapshot.routes.get("m")
        return route.default if route else None


DEFAULT_BATCHING = Batching()
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "INT64", (-1,)),))


def version(number: int, *, digest: str = "", batching: Batching = DEFAULT_BATCHING) -> DesiredVersion:
    return DesiredVersion(number, f"/m/{number}.onnx", digest or f"sha{number}", SIGNATURE, None, True, batching)


def route(revision: int, default: int, *others: int, shadow: int | None = None) -> DesiredRoute:
    segments = tuple(Segment(i * 100, (i + 1) * 100, other) for i, other in enumerate(others))
    return DesiredRoute(revision, default, segments, "salt", Shadow(shadow) if shadow else None)


def desired(
    revision: int, versions: tuple[DesiredVersion | int, ...], in_route: DesiredRoute | None = None, name: str = "m"
) -> DesiredState:
    held = tuple(version(v) if isinstance(v, int) else v for v in versions)
    return DesiredState(revision, (DesiredModel(name, held, in_route),))


def broken(reason: str) -> LoadFailed:
    return LoadFailed(reason)
