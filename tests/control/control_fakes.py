"""A worker that holds whatever it is told to, and a prediction log that only remembers being called."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from gateway.api.status_codes import code_of
from gateway.contract import link
from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredRoute, DesiredState, DesiredVersion
from gateway.contract.feedback import Feedback, Verdict, VerdictKind
from gateway.contract.handshake import PROTOCOL, Hello
from gateway.contract.observed import Observed, ObservedVersion, Report, Reported
from gateway.contract.predictions import PredictionBatch
from gateway.contract.questions import Answer, AnyQuestion, Ask
from gateway.contract.version_state import VersionState
from gateway.control.control import Control
from gateway.errors import AskRefused
from gateway.quality.feedback_rules import problem
from gateway.quality.log.log_values import LogCounts
from gateway.quality.metrics import VersionQuality
from gateway.quality.prediction_id import parse
from gateway.quality.vocabulary import Vocabulary
from gateway.versions.policy import next_route


def told(answer: Answer) -> tuple[str, str, str]:
    """(code, reason, text) that a caller gets for an answer."""
    if answer.error is None:
        return "OK", "", ""
    error = answer.error
    refused = AskRefused(error.message, kind=error.kind, reason=error.reason, **error.metadata)
    return code_of(refused).name, error.reason, error.message


class FakeWorker:
    """
    Speaks the link protocol: "loads" versions at once, and puts routes in force by the worker's own rule.

    ``failing`` maps versions to the reason why they cannot be loaded. While ``gate`` is cleared, nothing is loaded.
    ``dies_at`` is called with every desired state; where it is true, the worker is gone without a word.
    """

    def __init__(
        self,
        control: Control,
        number: int,
        *,
        dies_at: Callable[[DesiredState], bool] = lambda _: False,
        is_awaited: bool = True,
        hello: Hello | None = None,
        failing: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        self.control, self.number, self.dies_at = control, number, dies_at
        self.hello = hello or Hello(number, 1000 + number, uuid.uuid4().hex, 7 + number, "fast", protocol=PROTOCOL)
        self.failing = dict(failing)
        self.gate = threading.Event()
        self.gate.set()
        self.loaded: list[tuple[str, int]] = []
        self.states: list[DesiredState] = []
        self.answers: list[Answer] = []
        self.telemetry = Telemetry(self.hello.incarnation, (), (), {}, 0, 1_000_000, {})
        self.on_report: Callable[[], None] | None = None  # instead of an answer
        self.is_silent = False  # takes states, says nothing
        self.private_bytes = 0  # what it says that each version takes
        self._held: dict[tuple[str, int], ObservedVersion] = {}
        self._wanted: dict[tuple[str, int], DesiredVersion] = {}
        self._routes: dict[str, DesiredRoute] = {}
        self._answered = threading.Condition()
        self._link, theirs = link.pair()
        self._link.send(self.hello)
        self._threads = [
            threading.Thread(target=control.fleet.attach, args=(theirs,), daemon=True),
            threading.Thread(target=self._run, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if is_awaited:
            control.fleet.wait(self._is_attached, 10)

    def _is_attached(self, view: object) -> bool:
        worker = view.attached.get(self.number)
        return worker is not None and worker.hello == self.hello and worker.observed is not None

    @property
    def is_connected(self) -> bool:
        """Whether control has not closed the connection."""
        return self._threads[1].is_alive()

    def leave_at_once(self) -> None:
        """As `leave`, from within."""
        self._link.close()

    def leave(self) -> None:
        """Is gone, as after kill -9."""
        self._link.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(10)

    def ask(self, question: AnyQuestion, *, token: int = 1) -> Answer:
        """Control's answer to a call passed on."""
        self._link.send(Ask(token, question))
        with self._answered:
            assert self._answered.wait_for(lambda: any(a.token == token for a in self.answers), 10)
            return next(a for a in self.answers if a.token == token)

    def send(self, message: object) -> None:
        """Says anything."""
        self._link.send(message)

    @property
    def route_default(self) -> dict[str, int]:
        """The default version in force per model."""
        newest = {m.name: m.route for m in self.states[-1].models if m.route} if self.states else {}
        now = {name: route.revision for name, route in self._routes.items()}
        return {name: route.default for name, route in newest.items() if now.get(name) == route.revision}

    def _run(self) -> None:
        for message in self._link.messages():
            try:
                self._take(message)
            except link.LinkClosed:
                return

    def _take(self, message: object) -> None:
        match message:
            case DesiredState():
                self.states.append(message)
                if self.dies_at(message):
                    self._link.close()
                elif not self.is_silent:
                    self._follow(message)
            case Report() if self.on_report is not None:
                self.on_report()
            case Report(token):
                if self.states:
                    self._say(self.states[-1])
                self._link.send(self.telemetry)
                self._link.send(Reported(token))
            case Answer():
                with self._answered:
                    self.answers.append(message)
                    self._answered.notify_all()

    def _follow(self, state: DesiredState) -> None:
        wanted = {(model.name, version.number): version for model in state.models for version in model.versions}
        before, self._wanted = self._wanted, wanted
        is_kept = {
            key: key in before and wanted[key].is_met_by(before[key], held.state)
            for key, held in self._held.items()
            if key in wanted
        }
        self._held = {key: version for key, version in self._held.items() if is_kept.get(key)}
        missing = sorted(set(wanted) - set(self._held))
        for model, number in missing:
            self._held[model, number] = ObservedVersion(model, number, VersionState.LOADING)
        if missing:
            self._say(state)
            self.gate.wait(20)
        for model, number in missing:
            reason = self.failing.get(number, "")
            self.loaded.append((model, number))
            came_to = VersionState.FAILED if reason else VersionState.READY
            self._held[model, number] = ObservedVersion(model, number, came_to, reason, 100, 5.0, 1)
        for model in state.models:
            states = {number: version.state for (name, number), version in self._held.items() if name == model.name}
            route = next_route(model, states, self._routes.get(model.name))
            if route is not None:
                self._routes[model.name] = route
        self._routes = {m.name: self._routes[m.name] for m in state.models if m.route is not None and m.name in self._routes}
        self._say(state)

    def say_again(self) -> None:
        """Tells its state once more."""
        self._say(self.states[-1])

    def _say(self, state: DesiredState) -> None:
        versions = tuple(replace(version, private_bytes=self.private_bytes) for version in self._held.values())
        in_force = {name: route.revision for name, route in self._routes.items()}
        self._link.send(Observed(state.revision, versions, in_force, is_serving=True))


class FakeLog:
    """
    A `PredictionStore` in lists. It joins labels with the predictions that it was given, but computes no quality. The
    attributes are what it was told, and what it is to say.
    """

    def __init__(self, *, share: float = 1.0, waiting: int = 0) -> None:
        self.epochs: list[tuple[int, str]] = []
        self.batches: list[PredictionBatch] = []
        self.vocabularies: dict[tuple[str, int], Vocabulary] = {}
        self.accepted: list[Feedback] = []
        self.log_counts = LogCounts()
        self.share, self.waiting = share, waiting
        self.failures = 0
        self._recorded: set[tuple[int, int, int]] = set()
        self._joined: dict[tuple[object, ...], object] = {}

    def know_epoch(self, epoch: int, incarnation: str) -> None:
        self.epochs.append((epoch, incarnation))

    def know_vocabulary(self, model: str, version: int, vocabulary: Vocabulary) -> None:
        self.vocabularies[model, version] = vocabulary

    def record(self, batches: Sequence[PredictionBatch]) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("as if the disk were broken")
        self.batches += batches
        for batch in batches:
            ids = {(time_ms, batch.epoch, counter) for time_ms, counter in zip(batch.times_ms, batch.counters, strict=True)}
            self.log_counts.recorded += len(ids - self._recorded)
            self._recorded |= ids

    def accept(self, items: Sequence[Feedback]) -> list[Verdict]:
        self.accepted += items
        return [self._verdict(item) for item in items]

    def _verdict(self, item: Feedback) -> Verdict:
        if refusal := problem(item):
            return Verdict(VerdictKind.INVALID, refusal)
        parts = parse(item.prediction_id)
        if item.prediction_id and (parts is None or parts.epoch not in dict(self.epochs)):
            return Verdict(VerdictKind.UNKNOWN, "prediction_id: this gateway has not issued this id")
        key = (item.prediction_id, item.inference_id, item.row)
        if key in self._joined:
            return Verdict(VerdictKind.DUPLICATE if self._joined[key] == item.truth else VerdictKind.CONFLICT)
        if parts is None or (parts.time_ms, parts.epoch, parts.counter) not in self._recorded:
            self.waiting += 1
            return Verdict(VerdictKind.PENDING)
        self._joined[key] = item.truth
        return Verdict(VerdictKind.JOINED)

    def quality(self, model: str, window_s: float = 0.0) -> tuple[VersionQuality, ...]:
        return ()

    def quality_of_all(self, window_s: float = 0.0) -> tuple[tuple[str, VersionQuality], ...]:
        return ()

    def pending(self) -> int:
        return self.waiting

    def coverage(self, dropped_before: int = 0) -> float:
        recorded = self.log_counts.recorded
        return self.share * (recorded / (recorded + dropped_before) if dropped_before else 1.0)

    def counts(self) -> LogCounts:
        return replace(self.log_counts)

    def tick(self) -> None:
        pass


class SetClock:
    """Wall time as it is set; monotonic time as it is, and moved by `advance`."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self._advanced_s = 0.0

    def advance(self, seconds: float) -> None:
        """Lets time pass, on both clocks."""
        self.time += seconds
        self._advanced_s += seconds

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return time.monotonic() + self._advanced_s
