"""What control does about deaths: whom it isolates and fences, what workers are told, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from control_fakes import FakeWorker, SetClock
from world import World

from gateway.contract.counts import Telemetry
from gateway.contract.deaths import NotedRun, WorkerDeath
from gateway.contract.desired import DesiredVersion
from gateway.contract.handshake import Hello
from registry.deployment import Deployment

NOW = SetClock().time
WaitFor = Callable[..., object]


def _died(world: World, version: int = 1, *, at: float = NOW, is_certain: bool = True, signal: str = "SIGFPE") -> None:
    run = NotedRun("digits", version, 1, is_certain=is_certain)
    world.control.containment.died(WorkerDeath(0, signal, at, (run,)))


def _counted(world: World, version: int, deaths: int, life: str = "life") -> None:
    world.control.containment.counted(_telemetry({f"digits|{version}|SIGFPE": deaths}, life))


def _telemetry(deaths: dict[str, int], life: str) -> Telemetry:
    return Telemetry(life, (), (), {}, 0, 0, {}, isolated_deaths=deaths)


def _told(worker: FakeWorker, number: int) -> DesiredVersion:
    return next(one for model in worker.states[-1].models for one in model.versions if one.number == number)


def _verbs(world: World) -> list[tuple[str, str]]:
    records, _ = world.registry.audit("digits")
    return [(record.verb, record.author) for record in records if record.author == "interlock"]


def test_a_proven_culprit_is_isolated_in_every_worker_and_in_the_audit_log(world: World, wait_for: WaitFor) -> None:
    workers = world.deployed(2)
    _died(world)
    for worker in workers:
        wait_for(lambda worker=worker: _told(worker, 1).is_suspect)
        assert _told(worker, 1).isolation == "process"
    assert _verbs(world) == [("isolate", "interlock")]


def test_a_suspect_is_isolated_at_the_second_death_within_a_minute(world: World) -> None:
    world.deployed(1)
    for at in (NOW, NOW + 61):
        _died(world, at=at, is_certain=False, signal="SIGKILL")
        assert _verbs(world) == []
    _died(world, at=NOW + 90, is_certain=False, signal="SIGKILL")
    assert _verbs(world) == [("isolate", "interlock")]


def test_further_deaths_of_an_isolated_version_change_nothing(world: World) -> None:
    world.deployed(1)
    for _ in range(3):
        _died(world)
    assert _verbs(world) == [("isolate", "interlock")]
    assert world.control.containment.view().deaths == {("digits", 1): 3}


def test_isolation_is_remembered_by_the_next_control(
    make_world: Callable[..., World], start_control: Callable[..., object], tmp_path: Path
) -> None:
    world = make_world()
    world.deployed(1)
    _died(world)
    world.control.stop()
    again = World(start_control())  # type: ignore[arg-type]
    (version,) = again.control.desired.state().models[0].versions
    assert (version.isolation, version.is_suspect) == ("process", True)


def test_a_file_that_cannot_be_read_isolates_nothing(make_world: Callable[..., World], tmp_path: Path) -> None:
    (tmp_path / "crashes.json").write_text("[{]")
    world = make_world()
    world.deployed(1)
    assert world.control.containment.view().deaths == {}


def test_three_counted_deaths_fence_a_version_and_unfence_ends_that(world: World, wait_for: WaitFor) -> None:
    (worker,) = world.deployed(1)
    world.control.containment.joined(Hello(5, 1, "life", 1, "fast"))
    _counted(world, 1, 2)
    assert world.control.containment.view().fenced == {}
    _counted(world, 1, 3)
    until = world.control.containment.view().fenced["digits", 1]
    wait_for(lambda: worker.states[-1].models[0].fences == {1: until})
    assert world.control.containment.unfence("digits", "1") == (1,)
    wait_for(lambda: worker.states[-1].models[0].fences == {})
    assert [verb for verb, _ in _verbs(world)] == ["fence"]


def test_deaths_that_an_earlier_control_has_counted_count_no_more(make_world: Callable[..., World]) -> None:
    world = make_world(is_restarted=True)
    world.deployed(1)
    world.control.containment.joined(Hello(5, 1, "old", 1, "fast", started_at=1.0))
    _counted(world, 1, 50, "old")
    assert world.control.containment.view().deaths == {}
    _counted(world, 1, 51, "old")
    assert world.control.containment.view().deaths == {("digits", 1): 1}


def test_a_fenced_candidate_s_share_goes_to_the_default(world: World, wait_for: WaitFor) -> None:
    world.deployed(1)
    world.done(world.control.traffic.split("digits", {"1": 90, "2": 10}))
    world.control.containment.joined(Hello(5, 1, "life", 1, "fast"))
    _counted(world, 2, 3)

    def deployment() -> Deployment:
        found = world.registry.deployment("digits")
        assert found is not None
        return found

    wait_for(lambda: deployment().weights() == {1: 10_000})
    assert deployment().author == "interlock"
