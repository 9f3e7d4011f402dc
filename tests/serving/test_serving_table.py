"""A serving table is compiled of what changed; of the other models it takes over what the table before had."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from gateway.contract.desired import DesiredRoute
from gateway.errors import ModelNotFound, NotReady
from gateway.serving.table import compile_table
from gateway.versions.ports import Snapshot


class Version:
    """As much of `Served` as a table needs."""

    def target(self, arm: str) -> tuple[Version, str]:
        return self, arm


def _route(default: int, **aliases: int) -> DesiredRoute:
    return DesiredRoute(1, default, (), "salt", None, aliases)


def _snapshot(**more: Any) -> Snapshot:
    ready: dict[str, Any] = {name: MappingProxyType({1: Version(), 2: Version()}) for name in ("a", "b")}
    states = {name: {1: "READY", 2: "READY"} for name in ready}
    return Snapshot({"a": _route(1), "b": _route(1)}, ready, states, **more)


def test_parts_of_models_that_did_not_change_are_kept() -> None:
    first = _snapshot()
    before = compile_table(first)
    second = Snapshot({**first.routes, "b": _route(2)}, first.ready, first.states)
    after = compile_table(second, before)
    assert after.routes["a"] is before.routes["a"]
    assert after.named["a"] is before.named["a"]
    assert after.routes["b"].default == (first.ready["b"][2], "default")


def test_a_model_that_is_gone_is_in_no_part_of_the_table() -> None:
    first = _snapshot()
    after = compile_table(
        Snapshot({"a": first.routes["a"]}, {"a": first.ready["a"]}, {"a": first.states["a"]}), compile_table(first)
    )
    assert set(after.routes) == set(after.named) == set(after.made_of) == {"a"}
    with pytest.raises(ModelNotFound):
        after.pinned("b", "1")


def test_aliases_name_versions_of_a_model_without_a_route() -> None:
    first = _snapshot()
    only_b = Snapshot(
        {"a": first.routes["a"]}, first.ready, first.states, aliases={"b": {"best": 2}}, undeployed=frozenset("b")
    )
    table = compile_table(only_b, compile_table(first))
    assert table.pinned("b", "best") == (first.ready["b"][2], "pinned")
    assert table.has("b", "best")
    assert not table.has("b", "worst")
    assert isinstance(table.missing("b"), ModelNotFound)


def test_a_model_whose_route_is_not_in_force_yet_is_not_ready() -> None:
    table = compile_table(Snapshot({}, {}, {"a": {1: "LOADING"}}))
    assert isinstance(table.missing("a"), NotReady)
