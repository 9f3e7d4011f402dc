"""
Containment: takes in deaths of processes and keeps their causes away from everything else, as `decide` says.

A version that has ended a worker is isolated at once, in every worker; one that goes on dying is fenced, and a deployment that
has something better to serve is changed. All of it is in the audit log, by the author "interlock".
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from dataclasses import replace
from pathlib import Path

import structlog

from gateway.clock import Clock
from gateway.contract.counts import Telemetry
from gateway.contract.deaths import VersionName, WorkerDeath, blamed, recent
from gateway.contract.handshake import Hello
from gateway.control.changes.traffic import Change, Traffic
from gateway.control.crashes.crash_file import read_crashes, write_crashes
from gateway.control.crashes.death_counts import DeathCounts
from gateway.control.crashes.decide import FENCE_DEATHS, CrashRecord, CrashView, after_deaths, fences, route_change
from gateway.control.desired.state_store import DesiredStateStore
from gateway.errors import GatewayError
from gateway.telemetry.facts import DeathCount
from registry.errors import RegistryError
from registry.registry import Registry

AUTHOR = "interlock"
_log = structlog.get_logger("interlock.control")


class Containment:
    """Thread-safe. ``file`` keeps what has to outlive control. ``is_restarted``: workers may be older than this control."""

    def __init__(
        self,
        registry: Registry,
        desired: DesiredStateStore,
        traffic: Traffic,
        file: Path,
        clock: Clock,
        *,
        is_restarted: bool = False,
    ) -> None:
        self._registry, self._desired, self._traffic, self._file, self._clock = registry, desired, traffic, file, clock
        self._lock = threading.Lock()
        self._counts = DeathCounts(clock.now() if is_restarted else 0.0)
        self._deaths: tuple[WorkerDeath, ...] = ()
        self._isolated: defaultdict[VersionName, deque[float]] = defaultdict(lambda: deque(maxlen=FENCE_DEATHS))
        self._records = {record.name: record for record in read_crashes(file)}
        self._tell_workers()

    # ---- what is heard ----------------------------------------------------------------------------------------------

    def died(self, death: WorkerDeath) -> None:
        """Takes in the death of a worker. Isolates the versions that are to blame."""
        _log.warning("worker_died", worker=death.worker, signal=death.signal, ran=[str(run) for run in death.runs])
        with self._lock:
            self._counts.worker_died(death)
            self._deaths = (*recent(self._deaths, death.at), death)
            for name in sorted(blamed(self._deaths)):
                record = self._record(name)
                if not record.is_suspect:
                    self._keep("isolate", replace(record, is_suspect=True, reason=f"it ended worker {death.worker}: {death}"))

    def joined(self, hello: Hello) -> None:
        """Notes a worker process whose counts will come."""
        with self._lock:
            self._counts.joined(hello)

    def counted(self, telemetry: Telemetry) -> None:
        """Takes in the deaths of isolated versions' processes that a worker has counted. Fences those that die too often."""
        if not telemetry.isolated_deaths:
            return
        with self._lock:
            now = self._clock.now()
            for name, signal in self._counts.isolated_died(telemetry):
                self._isolated[name].append(now)
                before = self._record(name)
                after = after_deaths(before, self._isolated[name], now)
                if after != before:
                    why = f"its own process died {FENCE_DEATHS} times within a minute, last of {signal}"
                    self._keep("fence", replace(after, reason=f"{why}; refused for {after.fenced_until - now:g} s"))
                    self._change_route(name, why)

    # ---- what is done -----------------------------------------------------------------------------------------------

    def unfence(self, model: str, ref: str = "", change: Change = Change()) -> tuple[int, ...]:  # noqa: B008 - a frozen value
        """
        Ends the fences of a model's version, or of all its versions. Returns their numbers. Isolation stays. Raises
        ModelUnknown, VersionUnknown.
        """
        self._registry.model(model)
        number = self._registry.version(model, ref).number if ref else 0
        with self._lock:
            now = self._clock.now()
            found = [one for one in self._records.values() if one.model == model and number in (0, one.version)]
            for record in found:
                self._isolated.pop(record.name, None)
                if record.fenced_until > now:
                    self._keep("unfence", replace(record, fences=0, fenced_until=0.0), change)
        return tuple(sorted(record.version for record in found if record.fenced_until > now))

    def _record(self, name: VersionName) -> CrashRecord:
        return self._records.get(name) or CrashRecord(*name)

    def _keep(self, verb: str, record: CrashRecord, change: Change = Change(author=AUTHOR)) -> None:  # noqa: B008
        """Tells the workers first: what keeps it for later may be slow, or fail."""
        self._records[record.name] = record
        self._tell_workers()
        reason = change.reason or record.reason
        _log.warning(f"version_{verb}d", model=record.model, version=record.version, reason=reason)
        try:
            write_crashes(self._file, self._records.values())
            self._registry.note(verb, record.model, {"version": record.version}, author=change.author, reason=reason)
        except (OSError, RegistryError) as error:
            _log.error("crash_not_kept", model=record.model, version=record.version, error=str(error))

    def _tell_workers(self) -> None:
        records = self._records.values()
        suspects = [record.name for record in records if record.is_suspect]
        self._desired.contain(suspects, fences(records, self._clock.now()))

    def _change_route(self, name: VersionName, why: str) -> None:
        model, number = name
        made = route_change(self._desired.plan(model), number)
        if made is None:
            return
        change = Change(author=AUTHOR, reason=f"v{number} is fenced: {why}")
        try:
            if made.verb == "rollback":
                self._traffic.rollback(model, change=change)
            elif made.verb == "split":
                self._traffic.split(model, made.percents, force=True, change=change)
            else:
                self._traffic.shadow(model, "", change=change)
        except GatewayError as error:
            _log.error("fenced_version_stays", model=model, version=number, error=str(error))

    # ---- what it shows ----------------------------------------------------------------------------------------------

    def view(self) -> CrashView:
        """Returns what is known now."""
        with self._lock:
            fenced = fences(self._records.values(), self._clock.now())
            return CrashView(self._counts.by_version(), self._counts.last(), fenced)

    def counts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths of workers by version and signal."""
        with self._lock:
            return self._counts.worker_facts()

    def isolated_counts(self) -> tuple[DeathCount, ...]:
        """Returns the deaths of isolated versions' own processes by version and signal."""
        with self._lock:
            return self._counts.isolated_facts()
