"""Every request of a batch is answered exactly once and the lease ends exactly once, whatever goes wrong on the way."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from versions_of import loaded

from gateway.api.status_codes import describe
from gateway.contract.counts import ArmCounts
from gateway.errors import InvalidRequest
from gateway.runtime.session import RunFailed, RunStopped
from gateway.serving.account import Accounting
from gateway.serving.arm import Arm, RunPlans
from gateway.serving.counters import Counters
from gateway.serving.lane.call import Call
from gateway.serving.lease import Lease
from gateway.serving.oip.decode import InputSignature, RequestSignature
from gateway.serving.pipeline import Pipeline
from gateway.serving.prediction_records import PredictionIds, Records
from gateway.serving.refusals import Refusals
from gateway.serving.stages import Batch, Received, Routed
from gateway.telemetry.worker_tracing import Tracing
from gateway.versions.recent_inputs import RecentInputs

SIGNATURE = RequestSignature("m", "", (InputSignature("x", "FP32", (1, 4)),), (), (16,))
ROW = np.ones(4, np.float32).tobytes()


class Session:
    """Doubles its input; ``fails(rows)`` may raise."""

    def __init__(self, fails: Any) -> None:
        self._fails = fails
        self.runs: list[int] = []

    def run(self, outputs: Any, inputs: Any, until: Any = None, halt: Any = None) -> list[Any]:
        self.runs.append(len(inputs["x"]))
        self._fails(len(inputs["x"]))
        return [inputs["x"] * 2]

    def close(self) -> None:
        pass


class Lane:
    """Notes every answer and every refusal."""

    kind = "fake"

    def __init__(self) -> None:
        self.answered: list[Call] = []
        self.failed: list[tuple[Call, str]] = []

    def reply(self, answers: Any, trailers: Any = None) -> None:
        self.answered += [call for call, _ in answers]

    def fail(self, call: Call, code: Any, message: str, trailers: Any) -> None:
        self.failed.append((call, code.name))


class Bench:
    def __init__(self, fails: Any = lambda rows: None) -> None:
        self.lane, self.counters, tracing = Lane(), Counters(), Tracing(0.0, environ={})
        self.version = loaded()
        self.version.session = self.session = Session(fails)
        self.arm = Arm(self.version, "default", ArmCounts("m", 1, "default"), RunPlans(self.version))
        refusals = Refusals(self.lane, describe, self.counters, tracing)
        self.accounting = Accounting(Records(1, 1.0), RecentInputs(), tracing)
        self.mirrored: list[Any] = []
        self.pipeline = Pipeline(self.lane, PredictionIds(1), refusals, self.accounting, self.mirrored.append)

    def process(self, requests: int, *, expired: int = 0) -> list[Call]:
        """Processes one batch; returns its calls."""
        now, routed = time.monotonic(), []
        for index in range(requests):
            received = Received(SIGNATURE, [ROW], b"")
            received.call = Call(None, now + 60, ())
            received.received_ns = time.perf_counter_ns()
            received.expires_at = now - 1 if index < expired else now + 60
            routed.append(Routed(received, self.arm, self.arm.plan(SIGNATURE)))
        lease = Lease.take(self.version, requests)
        assert lease is not None
        self.pipeline.process(Batch(routed, lease))
        return [request.received.call for request in routed]

    def is_each_ended_once(self, calls: list[Call]) -> bool:
        ended = [*self.lane.answered, *(call for call, _ in self.lane.failed)]
        return sorted(map(id, ended)) == sorted(map(id, calls)) and self.version.in_flight == 0


def together_fails(error: Exception) -> Any:
    """A run of several requests fails, a run of one does not."""

    def fails(rows: int) -> None:
        if rows > 1:
            raise error

    return fails


def always(error: Exception) -> Any:
    def fails(rows: int) -> None:
        raise error

    return fails


def broken(*_: object) -> None:
    raise ZeroDivisionError("a mistake of ours")


@pytest.mark.parametrize("error", [RunFailed("bad"), InvalidRequest("no room")])
def test_requests_of_a_failed_run_are_answered_each_alone(error):
    bench = Bench(together_fails(error))
    calls = bench.process(3)
    assert bench.session.runs == [3, 1, 1, 1]
    assert bench.lane.answered == calls
    assert bench.is_each_ended_once(calls)
    assert bench.arm.counts.requests == {"OK": 3}


def test_a_mistake_after_the_answer_of_a_rerun_answers_nobody_twice(monkeypatch):
    """As after the answer of a whole batch: nobody is answered again, every lease ends once, the other requests are run."""
    bench = Bench(together_fails(RunFailed("bad")))
    monkeypatch.setattr(bench.accounting, "account", broken)
    calls = bench.process(3)
    assert bench.lane.answered == calls
    assert bench.is_each_ended_once(calls)


def test_a_mistake_in_the_accounting_of_one_run_leaves_the_others_accounted(monkeypatch):
    bench, accounted = Bench(together_fails(RunFailed("bad"))), []

    def account(answers: Any) -> None:
        accounted.append(answers)
        if len(accounted) == 1:
            broken()

    monkeypatch.setattr(bench.accounting, "account", account)
    bench.process(3)
    assert len(accounted) == 3
    assert len(bench.mirrored) == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(RunFailed("bad"), "INTERNAL"), (InvalidRequest("bad"), "INVALID_ARGUMENT"), (RunStopped("late"), "DEADLINE_EXCEEDED")],
)
@pytest.mark.parametrize("requests", [1, 3])
def test_requests_that_fail_alone_are_refused_with_their_error(error, code, requests):
    bench = Bench(always(error))
    calls = bench.process(requests)
    assert [failed for _, failed in bench.lane.failed] == [code] * requests
    assert bench.is_each_ended_once(calls)


def test_a_mistake_before_the_answer_refuses_every_request_once(monkeypatch):
    bench = Bench()
    monkeypatch.setattr("gateway.serving.pipeline.encode", broken)
    calls = bench.process(3)
    assert [code for _, code in bench.lane.failed] == ["INTERNAL"] * 3
    assert bench.is_each_ended_once(calls)


@pytest.mark.parametrize("expired", [1, 2, 3])
def test_expired_requests_are_refused_and_never_run(expired):
    bench = Bench()
    calls = bench.process(3, expired=expired)
    assert bench.session.runs == ([3 - expired] if expired < 3 else [])
    assert [call for call, _ in bench.lane.failed] == calls[:expired]
    assert bench.is_each_ended_once(calls)


def test_a_lease_ends_once_however_often_it_is_ended():
    version = loaded()
    with Lease.take(version, 3) as lease:
        part = lease.split(1)
        assert version.in_flight == 3
        part.end()
        part.end()
        assert version.in_flight == 2
    lease.end()
    assert version.in_flight == 0


def test_a_lease_gives_away_no_more_than_it_covers():
    lease = Lease.take(loaded(), 1)
    with pytest.raises(ValueError, match="for 1 requests cannot give away 2"):
        lease.split(2)


def test_joined_leases_end_as_one():
    version = loaded()
    whole, part = Lease(version), Lease.take(version, 2)
    whole.join(part)
    part.end()
    assert version.in_flight == 2
    whole.end()
    assert version.in_flight == 0


def test_a_retired_version_gives_no_lease():
    version = loaded()
    version.retire()
    assert Lease.take(version, 1) is None
    version.reinstate()
    assert Lease.take(version, 1) is not None


def test_only_leases_acquire_and_release():
    """The methods of a version that count leases are called in one file."""
    from pathlib import Path

    users = {
        path.name
        for path in Path("gateway").rglob("*.py")
        if any(name in path.read_text() for name in (".acquire_leases(", ".release_leases("))
    }
    assert users == {"lease.py"}


def test_a_batch_says_what_it_is():
    lease = Lease.take(loaded(), 2)
    batch = Batch([SimpleNamespace(), SimpleNamespace()], lease)
    assert repr(batch) == "<batch of 2 requests, <lease of m v1 for 2 requests>>"
