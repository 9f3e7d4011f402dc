"""Versions of earlier releases are proved in the background, and what a worker cannot split is not batched again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from control_fakes import SetClock
from world import facts_of, model_bytes

from gateway.contract.handshake import Hello
from gateway.contract.observed import Observed, ObservedVersion
from gateway.contract.version_state import VersionState
from gateway.control.catalog.row_proofs import RowProofs
from gateway.control.desired.reconcile import ModelPlan
from gateway.control.fleet.progress import FleetView, WorkerView
from registry.deployment import Deployment, deployed
from registry.errors import InvalidModel
from registry.registry import Registry, open_registry
from registry.versions import Facts, ModelVersion, RowProof


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry(tmp_path, SetClock())
    yield registry
    registry.close()


class Plans:
    """A desired state that remembers what it was told."""

    def __init__(self, *deployments: Deployment) -> None:
        self.deployments, self.taken = deployments, []

    def plans(self) -> dict[str, ModelPlan]:
        return {one.model: ModelPlan(one, None, {}) for one in self.deployments}

    def take_version(self, version: ModelVersion) -> int:
        self.taken.append(version)
        return 1


class Trials:
    """Trials that find ``proof``, in the order in which they were asked for."""

    def __init__(self, proof: RowProof = RowProof.PROVED, error: Exception | None = None) -> None:
        self.proof, self.error, self.tried = proof, error, []

    def __call__(self, path: Path, prediction: object, examples: object) -> Facts:
        self.tried.append(path)
        if self.error is not None:
            raise self.error
        return replace(facts_of(path), row_proof=self.proof, batching_reason="found", batched_inputs=(("k",),))


def register(registry: Registry, folder: Path, model: str, count: int = 1, proof: RowProof = RowProof.SAMPLED) -> None:
    for number in range(count):
        path = folder / "next.onnx"
        path.write_bytes(model_bytes(number + 100 * len(registry.all_models())))
        registry.register(model, path, facts=replace(facts_of(path), row_proof=proof))


def proved_all(registry: Registry, plans: Plans, trials: Trials) -> None:
    proofs = RowProofs(registry, plans, trials)
    for version in proofs.waiting():
        proofs.prove(version)


def test_every_version_that_was_only_sampled_is_proved(registry, tmp_path):
    register(registry, tmp_path, "a", 2)
    register(registry, tmp_path, "b", proof=RowProof.NOT_PROVED)
    plans = Plans()
    proved_all(registry, plans, Trials())
    for number in (1, 2):
        facts = registry.version("a", number).facts
        assert (facts.row_proof, facts.batching_reason, facts.batched_inputs) == (RowProof.PROVED, "found", (("k",),))
    assert registry.version("b", 1).facts.row_proof is RowProof.NOT_PROVED
    assert [version.model for version in plans.taken] == ["a", "a"]
    records, _ = registry.audit("a")
    assert [record.verb for record in records].count("prove_rows") == 2


def test_what_is_deployed_comes_first(registry, tmp_path):
    register(registry, tmp_path, "a", 3)
    register(registry, tmp_path, "z", 2)
    plans = Plans(deployed("z", 1, current=None, salt="s"))
    order = [(version.model, version.number) for version in RowProofs(registry, plans, Trials()).waiting()]
    assert order == [("z", 1), ("a", 3), ("a", 2), ("a", 1), ("z", 2)]


def test_a_version_that_is_not_proved_is_batched_no_more(registry, tmp_path):
    register(registry, tmp_path, "a")
    assert registry.version("a", 1).facts.is_batchable
    proved_all(registry, Plans(), Trials(RowProof.NOT_PROVED))
    facts = registry.version("a", 1).facts
    assert (facts.is_batchable, facts.row_proof, facts.batched_inputs) == (False, RowProof.NOT_PROVED, ())


def test_a_version_whose_trial_fails_is_batched_no_more(registry, tmp_path):
    register(registry, tmp_path, "a")
    proved_all(registry, Plans(), Trials(error=InvalidModel("the trial run ended with signal SIGFPE")))
    facts = registry.version("a", 1).facts
    assert (facts.is_batchable, facts.batching_reason) == (False, "the trial failed: the trial run ended with signal SIGFPE")


@pytest.mark.parametrize("trials", [Trials(error=OSError("no space")), Trials(RowProof.SAMPLED)])
def test_what_could_not_be_tried_keeps_its_verdict_and_is_not_tried_twice(registry, tmp_path, trials):
    register(registry, tmp_path, "a")
    plans = Plans(deployed("a", 1, current=None, salt="s"))
    trials.tried.clear()
    proved_all(registry, plans, trials)
    facts = registry.version("a", 1).facts
    assert (facts.is_batchable, facts.row_proof, len(trials.tried)) == (True, RowProof.SAMPLED, 1)
    assert plans.taken == []


def test_a_damaged_file_keeps_nothing_from_being_proved(registry, tmp_path):
    register(registry, tmp_path, "a", 2)
    registry.artifact_path(registry.version("a", 2)).unlink()
    proved_all(registry, Plans(), Trials())
    assert [registry.version("a", number).facts.row_proof for number in (1, 2)] == [RowProof.PROVED, RowProof.SAMPLED]


def test_a_batch_that_could_not_be_split_is_remembered_once(registry, tmp_path):
    register(registry, tmp_path, "a", proof=RowProof.NOT_PROVED)
    seen = ObservedVersion("a", 1, VersionState.READY, batch_failure="an output of shape [3]")
    worker = WorkerView(Hello(0, 1, "life", 1, "fast"), Observed(1, (seen,), {}, True))
    plans = Plans()
    proofs = RowProofs(registry, plans, Trials())
    for _ in range(2):
        proofs.take_in(FleetView({0: worker}))
    facts = registry.version("a", 1).facts
    assert (facts.row_proof, facts.batching_reason) == (RowProof.IMPOSSIBLE, "an output of shape [3]")
    assert len(plans.taken) == 1
