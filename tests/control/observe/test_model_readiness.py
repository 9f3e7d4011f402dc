"""Which models are enough for a gateway to be ready."""

from __future__ import annotations

import pytest

from gateway.contract.handshake import Hello
from gateway.contract.observed import Observed, ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.control.desired.reconcile import ModelPlan
from gateway.control.fleet.progress import FleetView, WorkerView
from gateway.control.observe.model_readiness import are_enough, unready_models
from registry.deployment import Deployment

PLANS = {name: ModelPlan(Deployment(name, 1, 1)) for name in ("good", "bad")}
VERSIONS = (
    ObservedVersion("good", 1, VersionState.READY),
    ObservedVersion("bad", 1, VersionState.FAILED, "its file is cut off"),
)
VIEW = FleetView({0: WorkerView(Hello(0, 1, "life", 7, "fast"), Observed(1, VERSIONS, {}, is_serving=True))})


@pytest.mark.parametrize(
    ("words", "expected"),
    [("any", True), ("all", False), ("none", True), ("good", True), ("bad", False), ("good,bad", False), ("good,new", False)],
)
def test_what_is_enough(words: str, expected: bool) -> None:
    assert are_enough(PLANS, unready_models(PLANS, VIEW, words), words) is expected


def test_without_an_answered_model_any_is_not_enough() -> None:
    plans = {"bad": PLANS["bad"]}
    assert not are_enough(plans, unready_models(plans, VIEW), "any")


def test_without_a_deployment_any_is_enough() -> None:
    assert are_enough({}, unready_models({}, VIEW), "any")


def test_a_model_says_why_it_is_not_ready() -> None:
    assert [str(one) for one in unready_models(PLANS, VIEW, "new")] == [
        "bad v1 is not ready in any worker: FAILED, its file is cut off",
        "new is not deployed",
    ]
