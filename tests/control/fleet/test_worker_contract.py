"""
What control may rely on in a worker: one suite for the fake worker of control's tests and for a real worker, which loads
real models and serves a real port. Both speak over a real link.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from control_fakes import FakeWorker
from world import facts_of, model_bytes

from gateway.clock import SystemClock
from gateway.contract.counts import Telemetry
from gateway.contract.desired import DesiredModel, DesiredRoute, DesiredState, DesiredVersion
from gateway.contract.handshake import PROTOCOL, Hello, Welcome
from gateway.contract.link import Link, LinkClosed, pair
from gateway.contract.observed import Observed, Report, Reported
from gateway.settings.address import Address
from gateway.settings.values import Settings
from gateway.worker.worker import Worker, WorkerLife, WorkerLimits
from registry.deployment import Batching, Segment, Shadow

BROKEN = 66  # number of a version that cannot be loaded
GATED = 77  # number of a version that is not loaded before the gate is open


@dataclass
class Party:
    """Control's end of the link to one worker, of either kind. ``messages`` has everything that the worker has said."""

    folder: Path
    open_gate: Callable[[], None] = lambda: None
    repair: Callable[[], None] = lambda: None  # the broken version can be loaded from now on
    messages: list[Any] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    link: Link | None = None
    is_repaired: bool = False

    def attach(self, link: Link) -> None:
        """Speaks control's side of the protocol until the worker is gone."""
        try:
            self._keep(link.receive())
            link.send(Welcome(PROTOCOL))
            self.link = link
            for message in link.messages():
                self._keep(message)
        except LinkClosed:
            pass  # the worker is gone
        finally:
            link.close()

    def _keep(self, message: Any) -> None:
        with self.changed:
            self.messages.append(message)
            self.changed.notify_all()

    def connect(self) -> Link:
        """What a real worker connects with."""
        theirs, ours = pair()
        threading.Thread(target=self.attach, args=(ours,), daemon=True).start()
        return theirs

    def version(self, number: int) -> DesiredVersion:
        """A version as control desires it: a real model file, but for the broken one."""
        path = self.folder / f"{number}.onnx"
        path.write_bytes(model_bytes(number))
        facts = facts_of(path)
        if number == BROKEN and not self.is_repaired:
            path.write_bytes(b"no model")
        return DesiredVersion(number, str(path), f"sha{number}", facts.signature, None, True, Batching())

    def state(self, revision: int, numbers: Sequence[int], route: DesiredRoute | None = None) -> DesiredState:
        return DesiredState(revision, (DesiredModel("digits", tuple(map(self.version, numbers)), route),))

    def send(self, message: DesiredState | Report) -> None:
        assert self.link is not None
        self.link.send(message)

    def until(self, holds: Callable[[Observed], bool]) -> Observed:
        """The first state that the worker has observed of itself and that ``holds``."""

        def found() -> Observed | None:
            return next((each for each in self.messages if isinstance(each, Observed) and holds(each)), None)

        with self.changed:
            assert self.changed.wait_for(found, 20), [each for each in self.messages if isinstance(each, Observed)][-3:]
            observed = found()
        assert observed is not None
        return observed


def states(observed: Observed) -> dict[int, str]:
    return {version.number: str(version.state) for version in observed.versions}


def route(revision: int, default: int, *others: int, shadow: int | None = None) -> DesiredRoute:
    segments = tuple(Segment(at, at + 1, number) for at, number in enumerate(others))
    return DesiredRoute(revision, default, segments, "salt", Shadow(shadow) if shadow else None)


@pytest.fixture(params=["fake worker", "real worker"])
def party(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Party]:
    """A worker of either kind that serves version 1 as revision 1 of a deployment."""
    make = _fake if request.param == "fake worker" else _real
    yield from make(Party(tmp_path), monkeypatch)


def _served(party: Party) -> None:
    party.send(party.state(1, [1], route(1, 1)))
    party.until(lambda observed: observed.is_serving and observed.routes == {"digits": 1})


def _fake(party: Party, _: pytest.MonkeyPatch) -> Iterator[Party]:
    control = SimpleNamespace(fleet=SimpleNamespace(attach=party.attach))
    worker = FakeWorker(control, 0, is_awaited=False)
    worker.failing[BROKEN] = "no model"
    with party.changed:
        assert party.changed.wait_for(lambda: party.messages, 10)
    while party.link is None:
        threading.Event().wait(0.001)
    _served(party)
    worker.gate.clear()
    party.open_gate = worker.gate.set
    party.repair = worker.failing.clear
    yield party
    worker.gate.set()
    worker.leave()


def _real(party: Party, monkeypatch: pytest.MonkeyPatch) -> Iterator[Party]:
    from gateway.versions.onnx_loader import OnnxLoader

    gate = threading.Event()
    load = OnnxLoader.load

    def gated(loader: OnnxLoader, model: str, desired: DesiredVersion) -> object:
        if desired.number == GATED:
            assert gate.wait(20)
        return load(loader, model, desired)

    monkeypatch.setattr(OnnxLoader, "load", gated)
    settings = Settings.of(workers=1, data_address=Address("127.0.0.1", 0), drain_delay_s=0.0)
    worker = Worker(
        settings,
        WorkerLife(),
        connect=party.connect,
        state_file=party.folder / "desired.json",
        clock=SystemClock(),
        limits=WorkerLimits(load_threads=2),
    )
    starting = threading.Thread(target=worker.start)
    starting.start()
    with party.changed:
        assert party.changed.wait_for(lambda: party.messages, 10)
    while party.link is None:
        threading.Event().wait(0.001)
    _served(party)
    starting.join(20)
    party.open_gate = gate.set
    yield party
    gate.set()
    worker.stop()


def test_it_introduces_itself_before_anything_else(party: Party) -> None:
    hello, *others = party.messages
    assert isinstance(hello, Hello)
    assert hello.protocol == PROTOCOL
    assert not any(isinstance(each, Hello) for each in others)


def test_a_route_is_in_force_once_every_version_that_answers_is_ready(party: Party) -> None:
    party.send(party.state(2, [1, 2, GATED], route(2, 2, GATED)))
    waiting = party.until(lambda observed: observed.revision == 2 and states(observed).get(GATED) == "LOADING")
    assert waiting.routes == {"digits": 1}
    party.open_gate()
    assert set(states(party.until(lambda observed: observed.routes == {"digits": 2})).items()) >= {
        (2, "READY"),
        (GATED, "READY"),
    }


def test_a_version_that_fails_says_why_and_the_route_stays(party: Party) -> None:
    party.open_gate()
    party.send(party.state(2, [1, BROKEN], route(2, BROKEN)))
    failed = party.until(lambda observed: states(observed).get(BROKEN) == "FAILED")
    assert failed.routes == {"digits": 1}
    assert [bool(version.reason) for version in failed.versions if version.number == BROKEN] == [True]


def test_a_version_that_failed_is_loaded_again_with_the_next_attempt(party: Party) -> None:
    party.open_gate()
    first = party.state(2, [1, BROKEN], route(2, BROKEN))
    party.send(first)
    party.until(lambda observed: states(observed).get(BROKEN) == "FAILED")
    party.is_repaired = True
    party.repair()
    again = party.state(3, [1, BROKEN], route(2, BROKEN)).models[0]
    party.send(DesiredState(3, (replace(again, versions=tuple(replace(one, attempt=1) for one in again.versions)),)))
    assert states(party.until(lambda observed: observed.routes == {"digits": 2}))[BROKEN] == "READY"
    later = [each for each in party.messages if isinstance(each, Observed) and each.revision == 3]
    assert "FAILED" not in {states(each).get(BROKEN) for each in later}  # control would take it for the new attempt's end


def test_a_version_that_serves_is_not_loaded_again_with_the_next_attempt(party: Party) -> None:
    model = party.state(2, [1], route(1, 1)).models[0]
    party.send(DesiredState(2, (replace(model, versions=(replace(model.versions[0], attempt=1),)),)))
    party.until(lambda observed: observed.revision == 2)
    assert {states(each)[1] for each in party.messages if isinstance(each, Observed) and each.revision == 2} == {"READY"}


def test_a_shadow_that_is_loading_is_waited_for(party: Party) -> None:
    party.send(party.state(2, [1, GATED], route(2, 1, shadow=GATED)))
    waiting = party.until(lambda observed: observed.revision == 2 and states(observed).get(GATED) == "LOADING")
    assert waiting.routes == {"digits": 1}
    party.open_gate()
    assert states(party.until(lambda observed: observed.routes == {"digits": 2}))[GATED] == "READY"


@pytest.mark.parametrize("is_desired", [True, False], ids=["it fails to load", "it is not among the versions"])
def test_a_shadow_that_cannot_run_holds_nobody_up(party: Party, is_desired: bool) -> None:
    party.open_gate()
    party.send(party.state(2, [1, BROKEN] if is_desired else [1], route(2, 1, shadow=BROKEN)))
    assert states(party.until(lambda observed: observed.routes == {"digits": 2}))[1] == "READY"


def test_a_version_and_a_model_that_are_left_out_go(party: Party) -> None:
    party.open_gate()
    party.send(party.state(2, [1, 2], route(2, 2)))
    party.until(lambda observed: observed.routes == {"digits": 2})
    party.send(party.state(3, [2], route(2, 2)))
    party.until(lambda observed: observed.revision == 3 and set(states(observed)) == {2})
    party.send(DesiredState(4))
    party.until(lambda observed: observed.revision == 4 and not observed.versions and not observed.routes)


def test_the_last_state_counts(party: Party) -> None:
    party.send(party.state(2, [1, GATED], route(2, GATED)))
    party.until(lambda observed: states(observed).get(GATED) == "LOADING")
    party.send(party.state(3, [1], replace(route(1, 1), revision=3)))
    party.open_gate()
    last = party.until(
        lambda observed: observed.revision == 3 and observed.routes == {"digits": 3} and GATED not in states(observed)
    )
    assert states(last)[1] == "READY"


def test_what_a_report_asks_for_comes_before_it_is_called_reported(party: Party) -> None:
    at = len(party.messages)
    party.send(Report(41))
    with party.changed:
        assert party.changed.wait_for(lambda: Reported(41) in party.messages, 10)
        said = [type(message) for message in party.messages[at : party.messages.index(Reported(41))]]
    assert {Observed, Telemetry} <= set(said)
