"""A prediction log that takes its time, or cannot be written: nobody in control waits for it, and it learns what it has to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from control_fakes import FakeLog
from world import World

from gateway.clock import SystemClock
from gateway.control.observe.prediction_recorder import PredictionRecorder
from gateway.errors import NotReady
from gateway.quality.vocabulary import Vocabulary


class StuckLog(FakeLog):
    """Learns nothing before ``gate`` is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.is_asked = threading.Event()

    def know_epoch(self, epoch: int, incarnation: str) -> None:
        self._wait()
        super().know_epoch(epoch, incarnation)

    def know_vocabulary(self, model: str, version: int, vocabulary: Vocabulary) -> None:
        self._wait()
        super().know_vocabulary(model, version, vocabulary)

    def _wait(self) -> None:
        self.is_asked.set()
        assert self.gate.wait(30), "somebody waited for this log"


@pytest.fixture
def log() -> Iterator[StuckLog]:
    made = StuckLog()
    yield made
    made.gate.set()


def test_workers_attach_versions_are_deployed_and_metrics_shown_meanwhile(
    make_world: Callable[..., World], log: StuckLog
) -> None:
    world = make_world(log=log)
    world.worker()
    world.register(classes=("a", "b", "c"))
    world.done(world.control.traffic.deploy("digits", "1"))
    assert log.is_asked.is_set()
    assert b'interlock_deployment_revision{model="digits"}' in world.control.metrics()
    assert (log.epochs, log.vocabularies) == ([], {})
    log.gate.set()
    assert world.control._recorder.flush(10)
    assert (len(log.epochs), log.vocabularies) == (1, {("digits", 1): Vocabulary("", ("a", "b", "c"), 3)})


def test_an_announcement_that_cannot_be_kept_is_made_again(wait_for: Callable[..., object]) -> None:
    class FullLog(FakeLog):
        refusals = 2

        def know_epoch(self, epoch: int, incarnation: str) -> None:
            if self.refusals:
                self.refusals -= 1
                raise NotReady("the disk is full")
            super().know_epoch(epoch, incarnation)

    log = FullLog()
    recorder = PredictionRecorder(log, SystemClock())
    recorder.start()
    recorder.announce(lambda log: log.know_epoch(7, "life"))
    recorder.announce(lambda log: log.know_epoch(8, "other"))
    wait_for(lambda: log.epochs == [(7, "life"), (8, "other")], what="both epochs known")
    recorder.close()
