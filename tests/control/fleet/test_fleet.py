"""Workers that come, go, speak and stay silent."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
import structlog
from control_fakes import FakeLog, FakeWorker
from world import World

from gateway.contract import link
from gateway.contract.counts import ArmCounts
from gateway.contract.handshake import PROTOCOL, Hello, HelloRefused, Welcome
from gateway.contract.observed import Observed, Reported
from gateway.contract.predictions import PredictionBatch

Wait = Callable[..., object]
BATCH = PredictionBatch("digits", 1, ("default",), "class", 7, (1,), (1,), ("",), (1,), ("7",))


def test_a_report_brings_fresh_counts_from_every_worker(world: World) -> None:
    for number in (0, 1):
        worker = world.worker(number)
        worker.telemetry = replace(worker.telemetry, arms=(ArmCounts("digits", 1, "default", {"OK": 5}),))
    assert world.control.fleet.report(10) == ()
    assert world.control.counts.merged().arms["digits", 1, "default"].requests == {"OK": 10}


def test_a_report_does_not_wait_for_a_worker_that_left(world: World, wait_for: Wait) -> None:
    worker = world.worker()
    worker.on_report = worker.leave_at_once
    assert world.control.fleet.report(10) == ()
    wait_for(lambda: not world.control.fleet.view().attached)


def test_a_report_names_who_does_not_answer(world: World) -> None:
    world.worker(0)
    world.worker(1).on_report = lambda: None
    assert world.control.fleet.report(0.2) == (1,)


def test_counts_of_a_dead_worker_stay(world: World, wait_for: Wait) -> None:
    worker = world.worker()
    worker.telemetry = replace(worker.telemetry, arms=(ArmCounts("digits", 1, "default", {"OK": 5}),))
    world.control.fleet.report(10)
    worker.leave()
    wait_for(lambda: not world.control.counts.merged().workers)
    assert world.control.counts.merged().arms["digits", 1, "default"].requests == {"OK": 5}


def test_a_new_life_of_a_worker_counts_as_a_restart(world: World) -> None:
    world.worker().leave()
    world.worker()
    assert world.control.fleet.view().restarts == {0: 1}


def test_a_reconnection_is_no_restart_and_takes_the_place_of_the_old_connection(world: World, wait_for: Wait) -> None:
    first = world.worker()
    second = FakeWorker(world.control, 0, hello=first.hello)
    wait_for(lambda: world.control.fleet.view().departures == {0: 1})
    assert world.control.fleet.view().attached[0].hello == second.hello
    assert world.control.fleet.view().restarts == {0: 0}
    wait_for(lambda: not first.is_connected)
    second.leave()


def _replacement(world: World, of: FakeWorker) -> FakeWorker:
    """A second life of a worker, attached beside the first, that does not serve yet."""
    hello = replace(of.hello, incarnation=f"after {of.hello.incarnation}", pid=of.hello.pid + 100, replacements=1)
    worker = FakeWorker(world.control, of.number, hello=hello, is_awaited=False)
    world.workers.append(worker)
    world.control.fleet.wait(lambda view: len(view.lives()) == 2, 10)
    return worker


def test_a_replacement_is_the_worker_only_when_it_serves(world: World, wait_for: Wait) -> None:
    old = world.worker()
    fleet = world.control.fleet
    new = _replacement(world, old)
    new.send(Observed(0, (), {}, is_serving=False))
    wait_for(lambda: fleet.view().attached[0].hello == old.hello)
    new.send(Observed(0, (), {}, is_serving=True))
    wait_for(lambda: fleet.view().attached[0].hello == new.hello)
    assert [life.hello for life in fleet.view().beside] == [old.hello]
    assert [(w.worker, w.pid, w.replacements) for w in world.control.status().workers] == [(0, 1100, 1), (0, 1000, 0)]


def test_a_replaced_worker_is_neither_restarted_nor_gone(world: World, wait_for: Wait) -> None:
    old = world.worker()
    _replacement(world, old)
    old.leave()
    wait_for(lambda: len(world.control.fleet.view().lives()) == 1)
    assert (world.control.fleet.view().restarts, world.control.fleet.view().departures) == ({0: 0}, {})


def test_counts_of_both_lives_are_summed_while_a_worker_is_replaced(world: World) -> None:
    old = world.worker()
    for worker, count in ((old, 5), (_replacement(world, old), 2)):
        worker.telemetry = replace(worker.telemetry, arms=(ArmCounts("digits", 1, "default", {"OK": count}),), connections=3)
    assert world.control.fleet.report(10) == ()
    (counts,) = world.control.counts.merged().workers
    assert (world.control.counts.merged().worker_requests, counts.connections) == ({0: 7}, 6)


def test_a_change_waits_for_a_replacement_that_is_coming_too(world: World, wait_for: Wait) -> None:
    (old,) = world.deployed(1)
    new = _replacement(world, old)
    wait_for(lambda: ("digits", 1) in new.loaded)
    new.gate.clear()
    promoted = world.control.traffic.promote("digits", "2")
    wait_for(lambda: ("digits", 2) in old.loaded)
    assert not world.control.operations.get(promoted.name).is_done
    new.gate.set()
    world.done(promoted)
    assert new.route_default == {"digits": 2}


@pytest.mark.parametrize("config", [{"workers": 3}])
def test_workers_that_should_be_there_and_are_not_are_away(world: World, wait_for: Wait) -> None:
    world.worker(0).leave()
    world.worker(1)
    wait_for(lambda: list(world.control.fleet.view().attached) == [1])
    assert [(w.worker, w.state) for w in world.control.status().workers] == [(0, "away"), (1, "serving"), (2, "away")]


def test_who_does_not_say_hello_is_refused(world: World) -> None:
    ours, theirs = link.pair()
    ours.send(Reported(1))
    world.control.fleet.attach(theirs)
    assert ours.receive() == HelloRefused(PROTOCOL, "expected Hello as the first message, got Reported")
    with pytest.raises(link.LinkClosed):
        ours.receive()
    ours.close()


@pytest.mark.parametrize("protocol", [PROTOCOL - 1, PROTOCOL + 1])
def test_a_worker_of_another_protocol_is_refused_and_told_what_to_do(world: World, protocol: int) -> None:
    ours, theirs = link.pair()
    ours.send(Hello(3, 1, "life", 7, "fast", protocol=protocol))
    with structlog.testing.capture_logs() as logged:
        world.control.fleet.attach(theirs)
    answer = ours.receive()
    ours.close()
    assert isinstance(answer, HelloRefused)
    assert f"control speaks protocol {PROTOCOL}, the worker {protocol}" in answer.reason
    assert "Restart the whole gateway" in answer.reason
    assert [(entry["event"], entry["worker"]) for entry in logged] == [("worker_refused", 3)]
    assert world.control.fleet.view().attached == {}


def test_a_first_frame_that_cannot_be_read_is_refused_too(world: World) -> None:
    """As a worker of another build may send."""
    one, theirs = socket.socketpair()
    frame = msgspec.msgpack.encode(("Hello", {"worker": "three"}))
    one.sendall(len(frame).to_bytes(4, "big") + frame)
    world.control.fleet.attach(link.Link(theirs))
    answer = link.Link(one).receive()
    one.close()
    assert isinstance(answer, HelloRefused)
    assert "of different builds" in answer.reason


def test_workers_attach_over_the_socket_too(world: World, wait_for: Wait) -> None:
    ours = link.connect(world.control.home.control_socket)
    ours.send(world.worker(1).hello)
    wait_for(lambda: world.control.fleet.view().departures)  # the same worker, so the earlier connection goes
    assert ours.receive() == Welcome(PROTOCOL)
    assert ours.receive() == world.control.desired.state()
    ours.close()


def test_epochs_and_predictions_reach_the_log(make_world: Callable[..., World]) -> None:
    log = FakeLog()
    world = make_world(log=log)
    worker = world.worker()
    worker.send(BATCH)
    world.control.fresh_predictions()
    assert log.epochs == [(worker.hello.epoch, worker.hello.incarnation)]
    assert log.batches == [BATCH]


def test_a_log_that_fails_once_gets_the_next_batches(make_world: Callable[..., World]) -> None:
    log = FakeLog()
    world = make_world(log=log)
    worker = world.worker()
    log.failures = 1
    worker.send(BATCH)
    world.control.fresh_predictions()
    worker.send(BATCH)
    world.control.fresh_predictions()
    assert log.batches == [BATCH]


def test_control_is_ready_when_every_default_is_ready_somewhere(world: World) -> None:
    assert not world.control.is_ready().is_ok
    (worker,) = world.deployed(1)
    assert world.control.is_ready().is_ok
    worker.leave()
    world.control.fleet.wait(lambda view: not view.attached, 10)
    assert "digits v1 is not ready in any worker" in world.control.is_ready().problems


def test_the_metrics_page_shows_swaps_and_routes(world: World) -> None:
    world.deployed(1)
    page = world.control.metrics().decode()
    assert 'interlock_swap_duration_seconds_count{model="digits",result="ok",verb="deploy"} 1.0' in page
    assert 'interlock_worker_up{worker="0"} 1.0' in page
