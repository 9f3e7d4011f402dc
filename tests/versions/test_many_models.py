"""With many models a change costs what it concerns: nothing else is decided, published or compiled anew."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from manager_bench import Bench, desired, route

from gateway.contract.desired import DesiredModel, DesiredState
from gateway.versions import policy

MODELS = 50


def _state(revision: int, *, promoted: int = -1) -> DesiredState:
    """So many models with versions 1 and 2; one of them serves version 2."""
    models: list[DesiredModel] = []
    for index in range(MODELS):
        models += desired(revision, (1, 2), route(1, 1) if index != promoted else route(2, 2), name=f"m{index}").models
    return DesiredState(revision, tuple(models))


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the decisions of the policy."""
    counts: Counter[str] = Counter()
    decide = policy.decide

    def counting(*args: Any) -> Any:
        counts["decide"] += 1
        return decide(*args)

    monkeypatch.setattr(policy, "decide", counting)
    return counts


def test_loading_many_models_takes_decisions_in_proportion(bench: Bench, decided: Counter[str]) -> None:
    bench.manager.apply(_state(1))
    bench.settle()
    assert len(bench.snapshot.ready) == MODELS
    assert decided["decide"] <= 10 * MODELS  # a few for each version, however many others there are


def test_a_tick_at_which_nothing_happened_decides_and_shows_nothing(bench: Bench, decided: Counter[str]) -> None:
    bench.manager.apply(_state(1))
    bench.settle()
    decided.clear()
    bench.log.clear()
    assert bench.manager.tick() is False
    assert (decided["decide"], bench.log) == (0, [])


def test_a_change_of_one_model_leaves_what_is_shown_of_the_others_as_it_is(bench: Bench, decided: Counter[str]) -> None:
    bench.manager.apply(_state(1))
    bench.settle()
    before = bench.snapshot
    decided.clear()
    bench.manager.apply(_state(2, promoted=7))
    bench.settle()
    assert bench.snapshot.routes["m7"].default == 2
    assert decided["decide"] <= 3
    for name in before.ready.keys() - {"m7"}:
        assert bench.snapshot.ready[name] is before.ready[name]
        assert bench.snapshot.routes[name] is before.routes[name]


def test_a_draining_version_is_looked_at_until_its_last_lease_is_back(bench: Bench) -> None:
    bench.manager.apply(_state(1))
    bench.settle()
    (held,) = [held for held in (bench.snapshot.ready["m7"][1],) if held.lease()]
    models = tuple(model for model in _state(2).models if model.name != "m7")
    bench.manager.apply(DesiredState(2, models))
    bench.settle()
    assert bench.manager.tick() is True
    held.release()
    bench.settle()
    assert bench.manager.tick() is False
    assert not [one for one in bench.manager.observed().versions if one.model == "m7"]
