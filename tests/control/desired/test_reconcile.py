"""Which versions are held and why, as a function of what is deployed."""

from __future__ import annotations

from dataclasses import replace

from gateway.control.desired.reconcile import (
    Found,
    ModelPlan,
    Preparing,
    desired_model,
    held,
    isolation,
    roles,
    route,
    warm_until,
)
from registry.deployment import Batching, Deployment, Segment, Shadow
from registry.signature import Signature
from registry.versions import Artifact, Facts, ModelVersion

ONE = Deployment("m", 1, default=1)
SPLIT = replace(ONE, revision=5, default=2, segments=(Segment(0, 3000, 3),), shadow=Shadow(4, 50), predecessor=4)


def find(model: str, number: int) -> Found:
    version = ModelVersion(model, number, Artifact(f"d{number}", "m.onnx", ()), Facts(Signature((), ())))
    return Found(version, f"/{model}/{number}", f"/{model}/{number}.examples")


def test_everything_that_a_deployment_names_is_held_with_its_role() -> None:
    plan = ModelPlan(SPLIT, aliases={"champion": 2, "old": 1})
    assert roles(plan) == {2: ("default", "alias"), 3: ("candidate",), 4: ("shadow",), 1: ("alias",)}


def test_the_predecessor_is_held_while_it_is_warm() -> None:
    assert roles(ModelPlan(replace(ONE, default=2), warm=ONE)) == {2: ("default",), 1: ("warm",)}


def test_the_predecessors_shadow_stays_warm_so_that_rollback_waits_for_nothing() -> None:
    assert roles(ModelPlan(ONE, warm=SPLIT))[4] == ("warm",)


def test_what_is_prepared_is_held_before_anything_is_deployed() -> None:
    plan = ModelPlan(preparing=Preparing(frozenset({7}), Batching("off")))
    assert held(plan) == {7: Batching("off")}
    assert route(plan) is None


def test_what_serves_keeps_its_settings_while_others_are_prepared() -> None:
    plan = ModelPlan(ONE, preparing=Preparing(frozenset({2}), Batching("off")))
    assert held(plan) == {1: Batching(), 2: Batching("off")}


def test_a_change_that_needs_what_serves_prepares_it_with_its_own_settings() -> None:
    plan = ModelPlan(ONE, preparing=Preparing(frozenset({1, 2}), Batching("off")))
    assert held(plan) == {1: Batching("off"), 2: Batching("off")}


def test_nothing_is_held_for_aliases_of_a_model_that_is_not_deployed() -> None:
    assert held(ModelPlan(replace(ONE, default=None), aliases={"champion": 3})) == {}


def test_the_route_is_the_deployment_with_the_aliases() -> None:
    made = route(ModelPlan(SPLIT, aliases={"champion": 2}))
    assert made is not None
    assert (made.revision, made.default, made.segments, made.shadow) == (5, 2, SPLIT.segments, SPLIT.shadow)
    assert made.aliases == {"champion": 2}


def test_the_window_counts_from_the_change_and_only_where_there_is_a_predecessor() -> None:
    assert warm_until(replace(SPLIT, created_at=100.0, rollback_window_s=60.0)) == 160.0
    assert warm_until(replace(ONE, created_at=100.0)) == 0.0


def test_a_version_is_named_with_its_file_and_digest() -> None:
    model = desired_model("m", ModelPlan(ONE), find)
    assert model is not None
    assert [(version.number, version.path, version.digest) for version in model.versions] == [(1, "/m/1", "d1")]


def test_of_a_model_with_nothing_held_there_is_no_word() -> None:
    assert desired_model("m", ModelPlan(replace(ONE, default=None)), find) is None


def test_a_version_is_isolated_by_its_deployment_by_a_change_or_because_it_has_ended_a_worker() -> None:
    isolated = replace(ONE, isolation="process")
    assert isolation(ModelPlan(ONE), 1) == "none"
    assert isolation(ModelPlan(isolated), 1) == "process"
    assert isolation(ModelPlan(ONE, suspects=frozenset({1})), 1) == "process"
    change = Preparing(frozenset({1}), Batching(), "process")
    assert [isolation(ModelPlan(ONE, preparing=change), number) for number in (1, 2)] == ["process", "none"]
    back = replace(change, isolation="none")
    assert isolation(ModelPlan(isolated, preparing=back), 1) == "none"
