"""Loading on demand in control: versions that are loaded, evicted and refused; deployed versions always stay."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from control_fakes import told
from world import World

from gateway.clock import SystemClock
from gateway.contract.questions import Ask, LoadVersionQuestion
from gateway.control.catalog.on_demand_loading import MAX_REQUESTED
from gateway.errors import ForbiddenNow, Overloaded
from registry.errors import ModelUnknown, VersionUnknown

WaitFor = Callable[[Callable[[], object]], None]
Load = Callable[[str, str], None]


@pytest.fixture
def config() -> dict[str, object]:
    return {"on_demand": 2}


def _ready(world: World, model: str = "digits") -> dict[int, tuple[str, ...]]:
    status = next((one for one in world.control.status().models if one.model == model), None)
    return {version.version: version.roles for version in status.versions if version.state == "READY"} if status else {}


@pytest.fixture
def load(world: World, wait_for: WaitFor) -> Callable[[str, str], None]:
    """``load(model, ref)`` names a version and waits until every worker has it."""

    def loaded(model: str, ref: str) -> None:
        number = world.control.loading.ask(model, ref)
        wait_for(lambda: number in _ready(world, model))

    return loaded


def test_a_named_version_is_loaded_beside_what_is_deployed(world: World, load: Load) -> None:
    world.deployed(2)
    load("digits", "2")
    assert _ready(world) == {1: ("default",), 2: ("on-demand",)}
    assert world.control.loading.counts().loaded == 1


def test_a_step_of_the_clock_fails_no_load_that_is_under_way(world: World, wait_for: WaitFor, monkeypatch) -> None:
    (worker,) = world.deployed(1)
    worker.gate.clear()
    world.control.loading.ask("digits", "2")
    wait_for(lambda: world.control.loading.counts().loaded == 1)
    monkeypatch.setattr(SystemClock, "now", lambda self: time.time() + 86_400)
    world.control.loading.step()
    assert world.control.loading.counts().failures == 0
    worker.gate.set()
    wait_for(lambda: 2 in _ready(world))


def test_a_model_that_is_not_deployed_is_loaded_without_a_route_but_with_its_aliases(world: World, load: Load) -> None:
    world.register("spare", alias="best")
    (worker,) = [world.worker()]
    load("spare", "best")
    (model,) = worker.states[-1].models
    assert (model.route, model.aliases) == (None, {"best": 1})


def test_the_least_recently_named_goes_first_and_what_is_deployed_never(world: World, load: Load) -> None:
    world.deployed(1)
    for _ in range(3):
        world.register()
    for ref in ("2", "3", "2", "4"):
        load("digits", ref)
    assert _ready(world) == {1: ("default",), 2: ("on-demand",), 4: ("on-demand",)}
    assert world.control.loading.counts().evictions == 1


def test_a_version_that_gets_deployed_leaves_its_place(world: World, load: Load, wait_for: WaitFor) -> None:
    world.deployed(1)
    load("digits", "2")
    world.done(world.control.traffic.promote("digits", "2"))
    load("digits", "1")
    wait_for(lambda: world.control.loading.counts().loaded == 0)
    assert set(_ready(world)) == {1, 2}


def test_a_version_that_fails_to_load_is_removed_and_refused_with_the_reason_for_a_while(
    world: World, wait_for: WaitFor
) -> None:
    (worker,) = world.deployed(1)
    worker.failing[2] = "no such operator"
    world.control.loading.ask("digits", "2")
    wait_for(lambda: world.control.loading.counts().failures == 1)
    with pytest.raises(ForbiddenNow, match=r"digits v2 cannot be loaded: .*no such operator"):
        world.control.loading.ask("digits", "2")
    wait_for(lambda: _ready(world) == {1: ("default",)})
    assert world.control.loading.counts().loaded == 0


@pytest.mark.parametrize("ref", ["9", "stranger", "latest", "²", "2" * 5_000])
def test_a_version_that_is_not_registered_under_that_name_is_unknown(world: World, ref: str) -> None:
    world.deployed(1)
    with pytest.raises(VersionUnknown):
        world.control.loading.ask("digits", ref)


def test_a_model_that_is_not_registered_is_unknown(world: World) -> None:
    with pytest.raises(ModelUnknown):
        world.control.loading.ask("nobody", "1")


def test_requests_for_versions_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.control.catalog.on_demand_loading.MAX_REQUESTED", 1)
    assert MAX_REQUESTED > 1
    world.deployed(1)
    world.register()
    world.control.loading.stop()
    world.control.loading.ask("digits", "2")
    with pytest.raises(Overloaded):
        world.control.loading.ask("digits", "3")


def test_without_the_option_a_request_for_an_unloaded_version_is_refused(make_world: Callable[..., World]) -> None:
    world = make_world(on_demand=0)
    world.deployed(1)
    answer = world.control.answers.reply(Ask(1, LoadVersionQuestion("digits", "2")))
    assert told(answer)[:2] == ("FAILED_PRECONDITION", "FORBIDDEN_NOW")


def test_after_a_restart_nothing_is_loaded_on_demand(
    world: World, make_world: Callable[..., World], load: Load, wait_for: WaitFor
) -> None:
    world.deployed(1)
    load("digits", "2")
    world.control.stop()
    other = make_world(on_demand=2)
    other.worker()
    wait_for(lambda: _ready(other) == {1: ("default",)})
