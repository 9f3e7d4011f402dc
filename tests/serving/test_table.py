"""A routing table is compiled from a snapshot; parts of models that did not change are kept."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from versions_of import loaded

from gateway.contract.counts import ArmCounts
from gateway.contract.desired import DesiredRoute
from gateway.errors import ModelNotFound, NotReady
from gateway.serving.resolve import unrouted
from gateway.serving.table import RoutingTable, compile_table
from gateway.versions.snapshot import Snapshot


def _route(default: int, **aliases: int) -> DesiredRoute:
    return DesiredRoute(1, default, (), "salt", None, aliases)


def _snapshot(**more: Any) -> Snapshot:
    ready: dict[str, Any] = {
        name: MappingProxyType({number: loaded(name, number) for number in (1, 2, 7)}) for name in ("a", "b")
    }
    states = {name: {1: "READY", 2: "READY", 7: "READY"} for name in ready}
    return Snapshot({"a": _route(1, best=2, lost=9), "b": _route(1)}, ready, states, **more)


def _compiled(snapshot: Snapshot, before: RoutingTable | None = None) -> RoutingTable:
    return compile_table(snapshot, before or RoutingTable(), ArmCounts)


def test_parts_of_models_that_did_not_change_are_kept() -> None:
    first = _snapshot()
    before = _compiled(first)
    second = Snapshot({**first.routes, "b": _route(2)}, first.ready, first.states)
    after = _compiled(second, before)
    assert after.routes["a"] is before.routes["a"]
    assert after.pins["a"] is before.pins["a"]
    default = after.routes["b"].default
    assert (default.version, default.name) == (first.ready["b"][2], "default")


def test_arms_stay_the_same_with_what_is_cached_in_them_while_their_version_is_ready() -> None:
    first = _snapshot()
    before = _compiled(first)
    after = _compiled(Snapshot({**first.routes, "b": _route(2)}, first.ready, first.states), before)
    assert after.pins["b"]["1"] is before.pins["b"]["1"]


def test_a_model_that_is_gone_is_in_no_part_of_the_table() -> None:
    first = _snapshot()
    only_a = Snapshot({"a": first.routes["a"]}, {"a": first.ready["a"]}, {"a": first.states["a"]})
    after = _compiled(only_a, _compiled(first))
    assert set(after.routes) == set(after.pins) == set(after.sources) == {"a"}
    assert {version.model for version in after.arms} == {"a"}
    with pytest.raises(ModelNotFound):
        after.pinned("b", "1")


def test_a_version_is_pinned_by_number_in_any_spelling_and_by_alias() -> None:
    table = _compiled(_snapshot())
    assert {table.pinned("a", spelling) for spelling in ("7", "007", "0000007", "v7")} == {table.pins["a"]["7"]}
    assert table.pinned("a", "best") is table.pins["a"]["2"]
    assert table.has("a", "007")


def test_an_alias_goes_before_the_number_that_it_looks_like() -> None:
    snapshot = _snapshot()
    routes = {"a": _route(1, v1=2)}
    table = _compiled(Snapshot(routes, snapshot.ready, snapshot.states))
    assert table.pinned("a", "v1") is table.pins["a"]["2"]
    assert table.pinned("a", "1") is table.pins["a"]["1"]


@pytest.mark.parametrize(
    "version", ["²", "٣", "７", "1²", "+7", " 7", "7 ", "-1", "0", "9" * 40, "9" * 5_000, "v9", "vv7", "lost", "worst", "\0"]
)
def test_a_version_that_is_no_number_and_no_alias_is_not_found(version: str) -> None:
    table = _compiled(_snapshot())
    with pytest.raises(ModelNotFound, match="has no version or alias"):
        table.pinned("a", version)
    assert not table.has("a", version)


def test_aliases_name_versions_of_a_model_without_a_route() -> None:
    first = _snapshot()
    only_b = Snapshot(
        {"a": first.routes["a"]}, first.ready, first.states, aliases={"b": {"best": 2}}, undeployed=frozenset("b")
    )
    table = _compiled(only_b, _compiled(first))
    assert (table.pinned("b", "best").version, table.pinned("b", "best").name) == (first.ready["b"][2], "pinned")
    assert table.has("b", "best")
    assert not table.has("b", "worst")
    assert isinstance(unrouted(only_b, "b"), ModelNotFound)


def test_a_version_that_is_loading_is_not_ready() -> None:
    snapshot = Snapshot({}, {}, {"a": {1: "LOADING"}})
    assert isinstance(unrouted(snapshot, "a"), NotReady)
    with pytest.raises(NotReady, match="version 1 is LOADING"):
        _compiled(snapshot).pinned("a", "01")
