"""
Loading on demand. Takes the versions that workers request for their callers, keeps them in the desired state until `eviction`
removes them, and watches their loads. Nothing here is durable: after a restart of control, callers request their versions
again.

`OnDemandLoading.ask` only records a request, so it returns at once; one thread carries the requests out. A worker repeats
its request while callers wait, and the repetition tells it if the version cannot be loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import structlog

from gateway.clock import Clock
from gateway.contract.version_state import VersionState
from gateway.control.catalog.eviction import Use, VersionKey, choose
from gateway.control.desired.reconcile import ON_DEMAND, roles
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.fleet.progress import FleetView
from gateway.control.fleet.workers import Fleet
from gateway.errors import ForbiddenNow, Overloaded
from gateway.telemetry.facts import OnDemandCounts
from registry.errors import RegistryError, VersionUnknown
from registry.names import LATEST
from registry.registry import Registry

MAX_REQUESTED = 256  # versions that may wait to be loaded; more are refused as an overload
REQUEST_S = 2.0  # s; a request that no worker repeats within this time is dropped: its callers are gone
FAILED_S = 30.0  # s; a version that failed to load is not tried again for this time
POLL_S = 0.02  # s between two checks of the workers' progress while a version loads or waits
RETRY_S = 1.0  # s; pause after an unexpected error
STOP_S = 5.0  # s; longest wait for the thread at stop

_log = structlog.get_logger("interlock.control")


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    until: float  # monotonic s


class OnDemandLoading:
    """
    Keeps at most ``cap`` versions loaded on demand; with 0, every request is refused. ``load_timeout_s`` is how long every
    worker may take to load a version. Thread-safe.
    """

    def __init__(
        self, cap: int, registry: Registry, fleet: Fleet, desired: DesiredStateStore, clock: Clock, *, load_timeout_s: float
    ) -> None:
        self._cap, self._load_timeout_s = cap, load_timeout_s
        self._registry, self._fleet, self._desired, self._clock = registry, fleet, desired, clock
        self._lock = threading.Lock()
        self._requested: dict[VersionKey, float] = {}  # monotonic s of the last request; the oldest waiter is first
        self._loaded: dict[VersionKey, Use] = {}  # loaded, or loading
        self._failed: dict[VersionKey, _Failure] = {}
        self._counts = OnDemandCounts()
        self._published: frozenset[VersionKey] = frozenset()  # the last versions that went to the desired state
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="on-demand", daemon=True)

    def __repr__(self) -> str:
        return f"OnDemandLoading(cap={self._cap}, requested={list(self._requested)}, loaded={list(self._loaded)})"

    def start(self) -> None:
        """Starts the thread, unless loading on demand is off."""
        if self._cap:
            self._thread.start()

    def stop(self) -> None:
        """Stops the thread. Safe to call twice."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def ask(self, model: str, ref: str) -> int:
        """
        Requests a version, by number or alias, and returns its number at once; workers get it with the desired state.

        Raises ModelUnknown, VersionUnknown, ForbiddenNow (loading on demand is off, or the version failed to load in the last
        FAILED_S seconds), Overloaded (too many versions wait).
        """
        if not self._cap:
            raise ForbiddenNow("versions are not loaded on demand here: start the gateway with --on-demand", rule="on_demand")
        key = model, self._number(model, ref)
        now = self._clock.monotonic()
        with self._lock:
            failure = self._failed.get(key)
            if failure is not None and failure.until > now:
                text = f"{model} v{key[1]} cannot be loaded: {failure.reason}"
                raise ForbiddenNow(text, rule="loadable", model=model, version=key[1])
            if key in self._loaded:
                self._loaded[key] = replace(self._loaded[key], used_at=now)
                return key[1]
            if key not in self._requested and len(self._requested) >= MAX_REQUESTED:
                raise Overloaded(f"{MAX_REQUESTED} versions already wait to be loaded", retry_after_s=1.0)
            self._requested[key] = now
        self._wake.set()
        return key[1]

    def counts(self) -> OnDemandCounts:
        """Returns the counts for /metrics."""
        with self._lock:
            return replace(self._counts, loaded=len(self._loaded), waiting=len(self._requested))

    def _number(self, model: str, ref: str) -> int:
        """Resolves as the request path does: a number or an alias. ``latest`` is for operators only."""
        if ref == LATEST:
            raise VersionUnknown(f"model {model!r} has no version or alias {ref!r}", model=model, version=ref)
        return self._registry.version(model, ref).number

    # ---- carrying out ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s: float | None = None
        while not self._is_stopping:
            self._wake.wait(pause_s)
            self._wake.clear()
            try:
                pause_s = self.step()
            except Exception as error:  # the loop's supervisor: the next step tries again
                _log.error("loading_failed", exc_info=error)
                pause_s = RETRY_S

    def step(self) -> float | None:
        """Does everything that is due. Returns the seconds until the next call, None if there is nothing to wait for."""
        view, now = self._fleet.view(), self._clock.monotonic()
        self._observe(view, now)
        self._leave_to_deployments()
        with self._lock:
            self._forget_old(now)
            choice = choose(self._loaded, tuple(self._requested), cap=self._cap, now=now)
        if not all([self._is_sound(key) for key in choice.admitted]):
            return 0.0  # choose again, without the damaged versions
        now = self._clock.monotonic()  # again: reading every byte of large versions takes time
        with self._lock:
            for key in choice.evicted:
                del self._loaded[key]
            for key in choice.admitted:
                self._loaded[key] = Use(now, self._requested.pop(key, now))
            self._counts = replace(
                self._counts,
                loads=self._counts.loads + len(choice.admitted),
                evictions=self._counts.evictions + len(choice.evicted),
            )
            loaded = frozenset(self._loaded)
            is_busy = bool(self._requested) or any(use.ready_at is None for use in self._loaded.values())
        for key in choice.admitted:
            _log.info("on_demand_load", model=key[0], version=key[1])
        for key in choice.evicted:
            _log.info("on_demand_eviction", model=key[0], version=key[1])
        if loaded != self._published:
            self._desired.hold_on_demand(loaded)
            self._published = loaded
        return POLL_S if is_busy else None

    def _observe(self, view: FleetView, now: float) -> None:
        """Takes from the workers' reports which versions are ready, failed or used."""
        age_s = self._clock.monotonic() - self._clock.now()  # from Unix to monotonic seconds
        used = {key: unix_s + age_s for key, unix_s in _last_used(view).items()}
        with self._lock:
            for key, use in list(self._loaded.items()):
                reason = _failure(view, key)
                if use.ready_at is None and not reason and now - use.admitted_at > self._load_timeout_s:
                    reason = f"not loaded by every worker within {self._load_timeout_s:g} s"
                if reason:
                    self._fail(key, reason, now)
                    continue
                ready_at = now if use.ready_at is None and _is_ready(view, key) else use.ready_at
                self._loaded[key] = Use(use.admitted_at, max(use.used_at, used.get(key, use.used_at)), ready_at)

    def _leave_to_deployments(self) -> None:
        """Frees the slots of versions that are loaded for another reason, such as a deployment."""
        with self._lock:
            keys = [*self._loaded, *self._requested]
        for key in keys:
            if set(roles(self._desired.plan(key[0])).get(key[1], ())) - {ON_DEMAND}:
                with self._lock:
                    self._loaded.pop(key, None)
                    self._requested.pop(key, None)

    def _forget_old(self, now: float) -> None:
        self._requested = {key: at for key, at in self._requested.items() if now - at <= REQUEST_S}
        self._failed = {key: failure for key, failure in self._failed.items() if failure.until > now}

    def _is_sound(self, key: VersionKey) -> bool:
        """Checks every byte against the registry. A damaged version counts as failed, so its callers get the reason."""
        try:
            self._desired.verify(key[0], frozenset({key[1]}))
        except RegistryError as error:
            with self._lock:
                self._fail(key, str(error), self._clock.monotonic())
            return False
        return True

    def _fail(self, key: VersionKey, reason: str, now: float) -> None:
        self._loaded.pop(key, None)
        self._requested.pop(key, None)
        self._failed[key] = _Failure(reason, now + FAILED_S)
        self._counts = replace(self._counts, failures=self._counts.failures + 1)
        _log.warning("on_demand_failed", model=key[0], version=key[1], reason=reason)


def _last_used(view: FleetView) -> Mapping[VersionKey, float]:
    """Unix seconds of the last answer of each version, as reported by the workers."""
    found: dict[VersionKey, float] = {}
    for key, used_at in _arms(view):
        found[key] = max(found.get(key, 0.0), used_at)
    return found


def _arms(view: FleetView) -> Iterator[tuple[VersionKey, float]]:
    for worker in view.attached.values():
        for arm in worker.telemetry.arms if worker.telemetry else ():
            if arm.arm != "shadow":
                yield (arm.model, arm.version), arm.last_inference_ms / 1000


def _failure(view: FleetView, key: VersionKey) -> str:
    """The reason why a worker failed to load the version; empty if none did."""
    observed = (worker.version(*key) for worker in view.attached.values())
    failed = (version for version in observed if version is not None and version.state == VersionState.FAILED)
    return next((version.reason or "failed" for version in failed), "")


def _is_ready(view: FleetView, key: VersionKey) -> bool:
    observed = [worker.version(*key) for worker in view.attached.values()]
    return bool(observed) and all(version is not None and version.state == VersionState.READY for version in observed)
