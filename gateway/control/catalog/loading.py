"""
OnDemand on demand: takes what workers ask for on behalf of callers, has it held for as long as `on_demand` lets it, and sees
what becomes of it. Nothing of it is durable: after a restart of control callers ask again.

`ask` only notes a wish, so it is quick; one thread carries wishes out. A worker repeats its wish while callers wait, and
learns here when there is no hope.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import structlog

from gateway.clock import Clock
from gateway.control.catalog.eviction import Key, Use, choose
from gateway.control.desired.reconcile import ON_DEMAND, roles
from gateway.control.desired.state_store import DesiredStateStore
from gateway.control.fleet.progress import FleetView
from gateway.control.fleet.workers import Fleet
from gateway.errors import ForbiddenNow, Overloaded
from gateway.telemetry.facts import LoadingCounts
from registry.errors import RegistryError, VersionUnknown
from registry.names import LATEST
from registry.registry import Registry

MAX_WISHES = 256
WISH_S = 2.0  # a wish that no worker repeats within that time is dropped: its callers are gone
FAILED_S = 30.0  # a version that could not be loaded is not tried again for so long
LOOK_S = 0.02  # how often the workers' progress is looked at while something is on its way
STOP_S = 5.0

_log = structlog.get_logger("interlock.control")


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    until: float


class OnDemand:
    """At most ``cap`` versions held on demand; 0 = none, and whoever asks is refused. Thread-safe."""

    def __init__(
        self, cap: int, registry: Registry, fleet: Fleet, desired: DesiredStateStore, clock: Clock, *, patience_s: float
    ) -> None:
        self._cap, self._patience_s = cap, patience_s
        self._registry, self._fleet, self._desired, self._clock = registry, fleet, desired, clock
        self._lock = threading.Lock()
        self._wishes: dict[Key, float] = {}  # when last repeated; the longest waiting first
        self._held: dict[Key, Use] = {}
        self._failed: dict[Key, _Failure] = {}
        self._counts = LoadingCounts()
        self._held_last: frozenset[Key] = frozenset()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="on-demand", daemon=True)

    def start(self) -> None:
        """Begins to carry out wishes, if versions are loaded on demand at all."""
        if self._cap:
            self._thread.start()

    def stop(self) -> None:
        """Ends that. Safe to call twice."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def ask(self, model: str, ref: str) -> int:
        """
        Wishes for a version, by number or alias; its number. Returns at once, the version comes by the desired state.
        Raises ModelUnknown, VersionUnknown, ForbiddenNow when it could not be loaded lately, Overloaded.
        """
        if not self._cap:
            raise ForbiddenNow("versions are not loaded on demand here: start the gateway with --on-demand", rule="on_demand")
        key = model, self._number(model, ref)
        now = self._clock.now()
        with self._lock:
            failure = self._failed.get(key)
            if failure is not None and failure.until > now:
                text = f"{model} v{key[1]} cannot be loaded: {failure.reason}"
                raise ForbiddenNow(text, rule="loadable", model=model, version=key[1])
            if key in self._held:
                self._held[key] = replace(self._held[key], used_at=now)
                return key[1]
            if key not in self._wishes and len(self._wishes) >= MAX_WISHES:
                raise Overloaded(f"{MAX_WISHES} versions wait to be loaded already", retry_after_s=1.0)
            self._wishes[key] = now
        self._wake.set()
        return key[1]

    def counts(self) -> LoadingCounts:
        """What happened so far."""
        with self._lock:
            return replace(self._counts, held=len(self._held), waiting=len(self._wishes))

    def _number(self, model: str, ref: str) -> int:
        """As the request path understands it: an alias, or a number in its usual form. ``latest`` is for operators only."""
        number = self._registry.version(model, ref).number
        if ref == LATEST or (ref.isdigit() and ref != str(number)):
            raise VersionUnknown(f"model {model!r} has no version or alias {ref!r}", model=model, version=ref)
        return number

    # ---- carrying out ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause_s: float | None = None
        while not self._is_stopping:
            self._wake.wait(pause_s)
            self._wake.clear()
            try:
                pause_s = self.step()
            except Exception as error:  # the loop's supervisor: what failed now is tried again at the next step
                _log.error("loading_failed", exc_info=error)
                pause_s = 1.0

    def step(self) -> float | None:
        """Does what is due. The seconds until it should be called again, None when there is nothing to wait for."""
        view, now = self._fleet.view(), self._clock.now()
        self._look(view, now)
        self._leave_to_others()
        with self._lock:
            self._forget_old(now)
            choice = choose(self._held, tuple(self._wishes), cap=self._cap, now=now)
        if not all([self._is_sound(key) for key in choice.admitted]):
            return 0.0  # choose again without what is damaged
        now = self._clock.now()  # reading every byte of large versions took its time
        with self._lock:
            for key in choice.evicted:
                del self._held[key]
            for key in choice.admitted:
                self._held[key] = Use(now, self._wishes.pop(key, now))
            self._counts = replace(
                self._counts,
                loads=self._counts.loads + len(choice.admitted),
                evictions=self._counts.evictions + len(choice.evicted),
            )
            held, is_busy = frozenset(self._held), bool(self._wishes) or any(u.ready_at is None for u in self._held.values())
        for key in (*choice.admitted, *choice.evicted):
            _log.info("on_demand", model=key[0], version=key[1], is_held=key in held)
        if held != self._held_last:
            self._desired.hold_on_demand(held)
            self._held_last = held
        return LOOK_S if is_busy else None

    def _look(self, view: FleetView, now: float) -> None:
        """Takes in what workers say: what is ready, what failed, what was used."""
        used = _last_used(view)
        with self._lock:
            for key, use in list(self._held.items()):
                reason = _failure(view, key)
                if use.ready_at is None and not reason and now - use.admitted_at > self._patience_s:
                    reason = f"not loaded by every worker within {self._patience_s:g} s"
                if reason:
                    self._fail(key, reason, now)
                    continue
                ready_at = now if use.ready_at is None and _is_ready(view, key) else use.ready_at
                self._held[key] = Use(use.admitted_at, max(use.used_at, used.get(key, 0.0)), ready_at)

    def _leave_to_others(self) -> None:
        """What is held for another reason needs no place here."""
        with self._lock:
            keys = [*self._held, *self._wishes]
        for key in keys:
            if set(roles(self._desired.plan(key[0])).get(key[1], ())) - {ON_DEMAND}:
                with self._lock:
                    self._held.pop(key, None)
                    self._wishes.pop(key, None)

    def _forget_old(self, now: float) -> None:
        self._wishes = {key: at for key, at in self._wishes.items() if now - at <= WISH_S}
        self._failed = {key: failure for key, failure in self._failed.items() if failure.until > now}

    def _is_sound(self, key: Key) -> bool:
        """Whether every byte is as registered; else its callers are told."""
        try:
            self._desired.verify(key[0], frozenset({key[1]}))
        except RegistryError as error:
            with self._lock:
                self._fail(key, str(error), self._clock.now())
            return False
        return True

    def _fail(self, key: Key, reason: str, now: float) -> None:
        self._held.pop(key, None)
        self._wishes.pop(key, None)
        self._failed[key] = _Failure(reason, now + FAILED_S)
        self._counts = replace(self._counts, failures=self._counts.failures + 1)
        _log.warning("on_demand_failed", model=key[0], version=key[1], reason=reason)


def _last_used(view: FleetView) -> Mapping[Key, float]:
    """Unix seconds of the last answer of each version, as far as workers have told."""
    found: dict[Key, float] = {}
    for arm in _arms(view):
        key = arm[0]
        found[key] = max(found.get(key, 0.0), arm[1])
    return found


def _arms(view: FleetView) -> Iterator[tuple[Key, float]]:
    for worker in view.attached.values():
        for arm in worker.telemetry.arms if worker.telemetry else ():
            if arm.arm != "shadow":
                yield (arm.model, arm.version), arm.last_inference_ms / 1000


def _failure(view: FleetView, key: Key) -> str:
    """Why a worker could not load it; empty when none says so."""
    said = (worker.version(*key) for worker in view.attached.values())
    return next((version.reason or "failed" for version in said if version is not None and version.state == "FAILED"), "")


def _is_ready(view: FleetView, key: Key) -> bool:
    said = [worker.version(*key) for worker in view.attached.values()]
    return bool(said) and all(version is not None and version.state == "READY" for version in said)
