"""An alias moves only when callers who name it can be answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from world import World

from gateway.control.changes.traffic import ANONYMOUS, Change
from gateway.errors import ForbiddenNow
from registry.errors import RevisionConflict

Wait = Callable[..., object]


def test_it_moves_when_the_target_is_ready_everywhere(world: World, wait_for: Wait) -> None:
    quick, slow = world.deployed(2)
    world.done(world.control.aliases.set("digits", "champion", "1", change=ANONYMOUS))
    slow.gate.clear()
    operation = world.control.aliases.set("digits", "champion", "2", change=ANONYMOUS)
    wait_for(lambda: ("digits", 2) in quick.loaded)
    assert world.registry.model("digits").aliases == {"champion": 1}
    assert quick.states[-1].models[0].route.aliases == {"champion": 1}
    slow.gate.set()
    assert world.done(operation).result.model.aliases == {"champion": 2}
    assert slow.states[-1].models[0].route.aliases == {"champion": 2}


def test_a_target_that_cannot_be_loaded_leaves_it_where_it_is(world: World) -> None:
    (worker,) = world.deployed(1)
    worker.failing[2] = "broken"
    with pytest.raises(ForbiddenNow, match="broken"):
        world.done(world.control.aliases.set("digits", "champion", "2", change=ANONYMOUS))
    assert world.registry.model("digits").aliases == {}


def test_a_model_that_is_not_deployed_can_be_named_without_workers(world: World) -> None:
    world.register()
    world.done(world.control.aliases.set("digits", "champion", "1", change=ANONYMOUS))
    assert world.registry.model("digits").aliases == {"champion": 1}


def test_a_deleted_alias_is_gone_from_the_routes(world: World) -> None:
    (worker,) = world.deployed(1)
    world.done(world.control.aliases.set("digits", "champion", "1", change=ANONYMOUS))
    world.done(world.control.aliases.delete("digits", "champion", change=ANONYMOUS))
    assert worker.states[-1].models[0].route.aliases == {}


def test_a_stale_etag_is_refused(world: World) -> None:
    world.register()
    stale = world.registry.model("digits").etag
    world.register()
    with pytest.raises(RevisionConflict):
        world.done(world.control.aliases.set("digits", "champion", "1", change=Change(etag=stale)))
