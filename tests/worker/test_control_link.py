"""The handshake as a worker sees it: a control of another build is refused, with words that say what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest
import structlog
from worker_bench import WorkerBench, served

from gateway.contract.desired import DesiredState
from gateway.contract.handshake import PROTOCOL, Hello, HelloRefused, Welcome, mismatch
from gateway.contract.link import Link, pair
from gateway.contract.questions import IndexQuestion
from gateway.errors import NotReady
from gateway.worker.control_link import ControlLink

HELLO = Hello(0, 1, "life", 7, "fast", protocol=PROTOCOL)


class OtherControl:
    """Answers every hello with ``first`` and closes the connection."""

    def __init__(self, first: object) -> None:
        self.first = first
        self.hellos: list[object] = []

    def connect(self) -> Link:
        theirs, ours = pair()

        def serve() -> None:
            self.hellos.append(ours.receive())
            ours.send(self.first)
            ours.close()

        threading.Thread(target=serve, daemon=True).start()
        return theirs


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (HelloRefused(PROTOCOL + 1, "control says why"), "control says why"),
        (Welcome(PROTOCOL + 1), mismatch(PROTOCOL, PROTOCOL + 1)),
        (DesiredState(1), mismatch(PROTOCOL, 1)),  # a control from before there was a handshake
    ],
    ids=["refused", "welcomed by another protocol", "no handshake"],
)
def test_a_control_of_another_build_is_refused_and_tried_again(first: object, text: str, wait_for: Callable) -> None:
    control, taken = OtherControl(first), []
    link = ControlLink(control.connect, HELLO, on_connected=lambda: taken.append("connected"), on_message=taken.append)
    with structlog.testing.capture_logs() as logged:
        link.start()
        wait_for(lambda: len(control.hellos) >= 2)
        link.stop()
    assert link.refusal == text
    assert taken == []
    assert [entry["reason"] for entry in logged if entry["log_level"] == "error"] == [text]  # once, not at every attempt
    with pytest.raises(NotReady) as error:
        link.ask(IndexQuestion(), 1.0)
    assert str(error.value) == text


def test_a_worker_that_is_to_replace_another_does_not_start_under_a_control_that_refuses_it(bench: WorkerBench) -> None:
    """A rolling restart after an upgrade in place: the old worker goes on serving, and the operator is told why."""
    control = OtherControl(HelloRefused(PROTOCOL + 1, mismatch(PROTOCOL, PROTOCOL + 1)))
    worker = bench.worker(control, must_be_ready=True, control_wait_s=0.3)
    with pytest.raises(NotReady, match="Restart the whole gateway"):
        worker.start()


def test_a_worker_that_died_serves_the_state_on_disk_although_control_refuses_it(bench: WorkerBench) -> None:
    bench.state_file.write_bytes(msgspec.json.encode(served(1, 1)))
    control = OtherControl(HelloRefused(PROTOCOL + 1, "another build"))
    worker = bench.worker(control)
    worker.start()
    assert worker.is_serving
    assert worker.snapshot.routes["digits"].default == 1
    worker.stop()
