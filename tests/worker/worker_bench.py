"""A control that only records and answers, and a data plane that echoes: what a worker is tested between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from gateway.clock import SystemClock
from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredState, DesiredVersion, Region
from gateway.contract.handshake import PROTOCOL, Welcome
from gateway.contract.link import Link, LinkClosed, pair
from gateway.contract.observed import Observed
from gateway.contract.predictions import PredictionBatch
from gateway.contract.questions import Answer, Ask, AskError
from gateway.contract.traces import RequestTrace
from gateway.settings.address import Address
from gateway.settings.values import Settings
from gateway.versions.loaded import LoadedVersion
from gateway.versions.snapshot import Snapshot
from gateway.versions.warm_up import LoadFailed
from gateway.worker.worker import Parts, Worker, WorkerLife, WorkerLimits
from registry.deployment import Batching
from registry.signature import Signature, TensorSpec


class FakeSession:
    signature = Signature((), ())

    def run(self, *_: object) -> list[Any]:
        raise AssertionError("the plane answers without a model")

    def close(self) -> None:
        pass


class FakeVersion(LoadedVersion):
    """A loaded version without a model."""

    def __init__(self, model: str, desired: DesiredVersion) -> None:
        super().__init__(model, desired, FakeSession())
        self.is_closed = False

    def warm_up(self) -> None:
        pass

    def settle(self) -> None:
        self.private_bytes = 4096

    def close(self) -> None:
        super().close()
        self.is_closed = True


class FakePlane:
    """Answers every call with its own bytes; loads anything but the digest ``bad``, when ``gate`` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.answer_gate = threading.Event()
        self.answer_gate.set()
        self.snapshot = Snapshot()
        self.regions: tuple[Region, ...] = ()
        self.predictions: list[PredictionBatch] = []
        self.traces: list[RequestTrace] = []
        self.has_call = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self, model: str, desired: DesiredVersion) -> FakeVersion:
        self.gate.wait(10)
        if desired.digest == "bad":
            raise LoadFailed("bad file")
        return FakeVersion(model, desired)

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def hold_regions(self, regions: tuple[Region, ...]) -> None:
        self.regions = regions

    def telemetry(self) -> Telemetry:
        return Telemetry("", (), (), {}, 0, 1, {})

    def take_predictions(self) -> list[PredictionBatch]:
        taken, self.predictions = self.predictions, []
        return taken

    def take_traces(self) -> list[RequestTrace]:
        taken, self.traces = self.traces, []
        return taken

    def serve(self, lane: Any) -> None:
        self._thread = threading.Thread(target=self._loop, args=(lane,), daemon=True)
        self._thread.start()

    def _loop(self, lane: Any) -> None:
        while not lane.is_closed():
            for call in lane.take(16, 0.05):
                self.has_call.set()
                self.answer_gate.wait(10)
                lane.reply([(call, call.message)])
        lane.close()

    def stop(self) -> None:
        if self._thread:
            self._thread.join(10)


class FakeControl:
    """
    Welcomes every connection and sends it ``state``; keeps all messages in order; answers questions by their class:
    ``answers[kind](question)`` is a value, an error, or None for silence.
    """

    def __init__(self, state: DesiredState | None) -> None:
        self.state = state
        self.messages: list[Any] = []
        self.answers: dict[type, Callable[[Any], Any]] = {}
        self.is_away = False
        self.link: Link | None = None

    def connect(self) -> Link:
        if self.is_away:
            raise ConnectionRefusedError("nobody listens")
        theirs, ours = pair()
        self.link = ours
        threading.Thread(target=self._serve, args=(ours,), daemon=True).start()
        return theirs

    def _serve(self, link: Link) -> None:
        try:
            self._exchange(link)
        except LinkClosed:
            pass  # the worker went away
        finally:
            link.close()

    def _exchange(self, link: Link) -> None:
        self.messages.append(link.receive())
        link.send(Welcome(PROTOCOL))
        if self.state is not None:
            link.send(self.state)
        for message in link.messages():
            self.messages.append(message)
            if isinstance(message, Ask) and (answer := self.answers[type(message.question)](message.question)) is not None:
                is_error = isinstance(answer, AskError)
                link.send(Answer(message.token, error=answer) if is_error else Answer(message.token, answer))

    def push(self, state: DesiredState) -> None:
        self.state = state
        assert self.link is not None
        self.link.send(state)

    def go_away(self) -> None:
        self.is_away = True
        assert self.link is not None
        self.link.close()

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, kind)]

    def last_observed(self) -> Observed | None:
        return next(reversed(self.of(Observed)), None)


SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("words", "BYTES", (-1, 1), is_optional=True)),
    (TensorSpec("y", "INT64", (-1,)),),
)
SERIAL = Signature((TensorSpec("a", "FP64", (2, -1)),), (TensorSpec("b", "FP64", ()),))


def held(
    number: int, *, digest: str = "", batching: Batching | None = None, signature: Signature = SIGNATURE
) -> DesiredVersion:
    return DesiredVersion(number, f"/m/{number}.onnx", digest or f"sha{number}", signature, None, True, batching or Batching())


def served(
    revision: int, default: int, *versions: DesiredVersion, name: str = "digits", aliases: dict[str, int] | None = None
) -> DesiredState:
    all_versions = versions or (held(default),)
    in_route = DesiredRoute(revision, default, (), "", None, aliases or {})
    return DesiredState(revision, (DesiredModel(name, all_versions, in_route),))


class WorkerBench:
    """Makes workers and stops them at the end; ``plane`` is the first one's."""

    def __init__(self, folder: Path) -> None:
        self.state_file = folder / "desired.json"
        self.plane = FakePlane()
        self.workers: list[Worker] = []

    def worker(self, control: FakeControl, **settings: Any) -> Worker:
        given = {"data_address": "127.0.0.1:0", "control_wait_s": 0.2, "grace_s": 5.0, "report_period_s": 0.05} | settings
        limits = WorkerLimits(**{item.name: given.pop(item.name) for item in fields(WorkerLimits) if item.name in given})
        life = WorkerLife(**{item.name: given.pop(item.name) for item in fields(WorkerLife) if item.name in given})
        given = {"workers": 1, "drain_delay_s": 0.0, "max_connection_age_s": 0.0} | given
        given["data_address"] = Address.parse(given["data_address"])
        plane = self.plane if not self.workers else FakePlane()
        worker = Worker(
            Settings.of(**given),
            life,
            limits=limits,
            connect=control.connect,
            state_file=self.state_file,
            clock=SystemClock(),
            make_parts=lambda *_: Parts(plane, plane),
        )
        self.workers.append(worker)
        return worker

    def started(self, control: FakeControl, **settings: Any) -> Worker:
        worker = self.worker(control, **settings)
        worker.start()
        return worker
