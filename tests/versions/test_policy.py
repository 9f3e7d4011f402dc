"""What to do, situation by situation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from manager_bench import desired, route, version

from gateway.contract.desired import DesiredModel, DesiredRoute
from gateway.versions.policy import Action, ActionKind, EntryView, decide, next_route
from gateway.versions.states import VersionState as S
from registry.deployment import Batching, Segment, Shadow

V1, V1_NEW, V2 = version(1), version(1, digest="new"), version(2)
LOAD, RETIRE, REINSTATE = ActionKind.LOAD, ActionKind.RETIRE, ActionKind.REINSTATE
UNLOAD, ABANDON, FORGET = ActionKind.UNLOAD, ActionKind.ABANDON, ActionKind.FORGET


@pytest.mark.parametrize(
    ("situation", "wanted", "copies", "routed", "actions"),
    [
        ("wanted and absent", [V1], [], (), [Action(LOAD, version=V1)]),
        ("wanted and coming", [V1], [EntryView(0, V1, S.LOADING)], (), []),
        ("wanted and there", [V1], [EntryView(0, V1, S.READY)], (1,), []),
        ("wanted and failed: not tried again", [V1], [EntryView(0, V1, S.FAILED)], (), []),
        ("wanted again while it drains", [V1], [EntryView(0, V1, S.DRAINING)], (), [Action(REINSTATE, 0)]),
        (
            "wanted again while unloading",
            [V1],
            [EntryView(0, V1, S.UNLOADING, is_spent=True)],
            (),
            [Action(LOAD, version=V1)],
        ),
        ("not wanted, not routed", [], [EntryView(0, V1, S.READY)], (), [Action(RETIRE, 0)]),
        ("not wanted, but routed", [V2], [EntryView(0, V1, S.READY), EntryView(1, V2, S.WARMING)], (1,), []),
        ("not wanted, coming", [], [EntryView(0, V1, S.WARMING)], (), [Action(ABANDON, 0)]),
        ("draining with leases", [], [EntryView(0, V1, S.DRAINING, is_idle=False)], (), []),
        ("draining without", [], [EntryView(0, V1, S.DRAINING)], (), [Action(UNLOAD, 0)]),
        ("failed and not wanted any more", [], [EntryView(0, V1, S.FAILED)], (), [Action(FORGET, 0)]),
        ("gone", [], [EntryView(0, V1, S.UNLOADED, is_spent=True)], (), [Action(FORGET, 0)]),
        ("outdated, replacement coming", [V1_NEW], [EntryView(0, V1, S.READY), EntryView(1, V1_NEW, S.LOADING)], (), []),
        ("outdated, replacement failed", [V1_NEW], [EntryView(0, V1, S.READY), EntryView(1, V1_NEW, S.FAILED)], (), []),
        ("outdated, replaced", [V1_NEW], [EntryView(0, V1, S.READY), EntryView(1, V1_NEW, S.READY)], (1,), [Action(RETIRE, 0)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_decide(situation, wanted, copies, routed, actions) -> None:
    assert list(decide({v.number: v for v in wanted}, copies, routed)) == actions


@pytest.mark.parametrize(
    ("situation", "states", "chosen"),
    [
        ("all ready", {1: S.READY, 2: S.READY, 3: S.READY}, "new"),
        ("default coming", {1: S.WARMING, 2: S.READY, 3: S.READY}, "current"),
        ("candidate failed", {1: S.READY, 2: S.FAILED, 3: S.READY}, "current"),
        ("candidate not held", {1: S.READY, 3: S.READY}, "current"),
        ("shadow coming", {1: S.READY, 2: S.READY, 3: S.LOADING}, "current"),
        ("shadow failed", {1: S.READY, 2: S.READY, 3: S.FAILED}, "new without shadow"),
        ("shadow not held", {1: S.READY, 2: S.READY}, "new without shadow"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_next_route(situation, states, chosen) -> None:
    current, new = route(1, 9), route(2, 1, 2, shadow=3)
    in_force = next_route(desired(2, (1, 2, 3), new).models[0], states, current)
    assert in_force is not None
    assert (in_force.revision, in_force.shadow is not None) == {
        "new": (2, True),
        "current": (1, False),
        "new without shadow": (2, False),
    }[chosen]


def test_an_undeployed_model_has_no_route() -> None:
    assert next_route(desired(2, (1,)).models[0], {1: S.READY}, route(1, 1)) is None


SUSPECT = replace(V1, isolation="process", is_suspect=True)


def test_a_suspect_in_the_worker_s_process_is_retired_before_its_isolated_load_is_ready() -> None:
    entries = [EntryView(0, V1, S.READY), EntryView(1, SUSPECT, S.LOADING)]
    assert decide({1: SUSPECT}, entries, (1,)) == (Action(RETIRE, 0),)


def test_a_suspect_that_is_isolated_serves_until_its_replacement_is_ready() -> None:
    other = replace(SUSPECT, batching=Batching("off"))
    entries = [EntryView(0, SUSPECT, S.READY), EntryView(1, other, S.LOADING)]
    assert decide({1: other}, entries, (1,)) == ()


def test_a_route_does_without_a_suspect_until_it_is_isolated() -> None:
    route = DesiredRoute(1, 2, (Segment(0, 5000, 1),), "salt", Shadow(1))
    model = DesiredModel("m", (SUSPECT, V2), route)
    states = {1: S.LOADING, 2: S.READY}
    assert next_route(model, states, route) == replace(route, segments=(), shadow=None)
    assert next_route(model, states, replace(route, default=1, segments=())) is None
    assert next_route(model, states | {1: S.READY}, None) == route


def test_a_suspect_that_is_not_routed_holds_up_no_route() -> None:
    before = DesiredRoute(1, 1, (), "salt", None)
    route = replace(before, revision=2, default=2)
    model = DesiredModel("m", (SUSPECT, V2), route)
    assert next_route(model, {1: S.FAILED, 2: S.READY}, before) == route
    assert next_route(model, {1: S.FAILED, 2: S.LOADING}, before) is None
