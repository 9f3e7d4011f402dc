"""Models, versions, aliases, deployments and the record, through the facade."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from registry_makers import FakeClock, register_adder, write_adder

from registry.deployment import Deployment, Segment, Shadow, deployed, promoted, rolled_back, split
from registry.errors import (
    InvalidModel,
    InvalidValue,
    ModelUnknown,
    RegistryError,
    RequestReplayed,
    RevisionConflict,
    VersionUnknown,
)
from registry.onnx_file import read_model
from registry.registry import Registry
from registry.signature import Signature, TensorSpec
from registry.versions import Facts, Lineage, Prediction, PredictionKind

# ---- versions


def test_versions_count_from_one_per_model(registry: Registry, tmp_path: Path) -> None:
    assert [register_adder(registry, tmp_path, amount=n).number for n in (1, 2, 1)] == [1, 2, 3]
    assert register_adder(registry, tmp_path, model="other").number == 1
    assert registry.model("digits").latest == 3


def test_a_version_keeps_everything_said_about_it(registry: Registry, tmp_path: Path, clock: FakeClock) -> None:
    register_adder(registry, tmp_path)
    source = write_adder(tmp_path / "m.onnx", 5)
    signature = read_model(source).signature
    facts = Facts(signature, Prediction("y", PredictionKind.SCORES, ("a", "b")), True, "4 inputs")
    lineage = Lineage("run-7", "abc123", ("train@1", "test@2"), parent_version=1)
    made = registry.register("digits", source, facts=facts, tags={"stage": "β"}, lineage=lineage, author="ada")
    assert registry.version("digits", 2) == made
    assert (made.facts, made.tags, made.lineage) == (facts, {"stage": "β"}, lineage)
    assert (made.created_by, made.created_at) == ("ada", clock.time)
    registry.verify(made)
    assert registry.artifact_path(made).read_bytes() == source.read_bytes()


def test_a_version_is_found_by_number_alias_and_latest(registry: Registry, tmp_path: Path) -> None:
    for amount in (1, 2):
        register_adder(registry, tmp_path, amount=amount)
    registry.set_alias("digits", "champion", 1)
    found = [registry.version("digits", ref).number for ref in (1, "1", "01", "v1", "champion", "latest", "2", "v2")]
    assert found == [1, 1, 1, 1, 1, 2, 2, 2]


def test_an_alias_that_is_there_goes_before_the_number_that_it_looks_like(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier releases allowed an alias such as v1."""
    for amount in (1, 2):
        register_adder(registry, tmp_path, amount=amount)
    monkeypatch.setattr("registry.registry.check_alias", lambda alias: None)
    registry.set_alias("digits", "v1", 2)
    assert [registry.version("digits", ref).number for ref in ("v1", "1")] == [2, 1]


@pytest.mark.parametrize(
    "ref", [0, -1, 3, "3", "0", "nobody", "", "9" * 30, "9" * 5_000, "v3", "v0", "v", "vv1", "V1", 2**70, "٣", "-1", "1.0"]
)
def test_an_unknown_version_says_what_there_is(registry: Registry, tmp_path: Path, ref: str | int) -> None:
    register_adder(registry, tmp_path, alias="champion")
    with pytest.raises(VersionUnknown, match="versions up to 1, aliases champion"):
        registry.version("digits", ref)


def test_an_unknown_model_is_named(registry: Registry) -> None:
    for call in (
        lambda: registry.model("ghost"),
        lambda: registry.version("ghost", 1),
        lambda: registry.versions("ghost"),
        lambda: registry.deployment("ghost"),
        lambda: registry.revisions("ghost"),
        lambda: registry.set_alias("ghost", "a", 1),
        lambda: registry.commit(deployed("ghost", 1, current=None, salt=""), expected_revision=0),
    ):
        with pytest.raises(ModelUnknown, match="'ghost'"):
            call()


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a b", "é", "x" * 129, "a\n", "../a"])
def test_a_bad_model_name_is_refused_before_anything_is_written(registry: Registry, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValue, match="model: expected"):
        register_adder(registry, tmp_path, model=name)
    assert registry.models() == ((), "")


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-1", "x" * 128])
def test_good_model_names_are_taken(registry: Registry, tmp_path: Path, name: str) -> None:
    assert register_adder(registry, tmp_path, model=name).model == name


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tags": {"a b": "c"}}, "tags"),
        ({"tags": {"a": "\udcff"}}, "tags.a"),
        ({"tags": {str(n): "" for n in range(65)}}, "tags"),
        ({"alias": "3"}, "alias"),
        ({"author": "x" * 4097}, "author"),
        ({"reason": "a\0b"}, "reason"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"lineage": Lineage(parent_version=1)}, "lineage.parent_version"),
        ({"lineage": Lineage(parent_version=2**80)}, "lineage.parent_version"),
        ({"lineage": Lineage(run_id="x" * 4097)}, "lineage.run_id"),
    ],
)
def test_a_bad_word_about_a_version_names_its_field(registry: Registry, tmp_path: Path, options: dict, field: str) -> None:
    with pytest.raises(InvalidValue) as error:
        register_adder(registry, tmp_path, **options)
    assert error.value.metadata["field"] == field
    assert registry.models() == ((), "")


def test_facts_about_other_tensors_are_refused(registry: Registry, tmp_path: Path) -> None:
    source = write_adder(tmp_path / "m.onnx")
    signature = read_model(source).signature
    for wrong in (Signature((), signature.outputs), Signature(signature.inputs, (TensorSpec("z", "FP32", ()),))):
        with pytest.raises(InvalidModel, match="not those that were tried"):
            registry.register("digits", source, facts=Facts(wrong))


def test_a_prediction_the_model_does_not_give_is_refused(registry: Registry, tmp_path: Path) -> None:
    source = write_adder(tmp_path / "m.onnx")
    facts = Facts(read_model(source).signature, Prediction("label", PredictionKind.LABEL))
    with pytest.raises(InvalidValue, match=r"no output 'label'; the model has 'y'"):
        registry.register("digits", source, facts=facts)


def test_a_failed_registration_shows_nothing(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InvalidModel):
        registry.register("digits", tmp_path / "text.onnx", facts=Facts(Signature((), ())))
    assert (registry.models(), registry.audit()) == (((), ""), ((), ""))


# ---- aliases


@pytest.mark.parametrize("alias", ["3", "1.0", "0_1", "v3", "latest", "Latest", "", "a/b", "-x", "x" * 129])
def test_an_alias_that_could_be_mistaken_is_refused(registry: Registry, tmp_path: Path, alias: str) -> None:
    register_adder(registry, tmp_path)
    with pytest.raises(InvalidValue, match="alias"):
        registry.set_alias("digits", alias, 1)


def test_an_alias_moves_and_goes(registry: Registry, tmp_path: Path) -> None:
    for amount in (1, 2):
        register_adder(registry, tmp_path, amount=amount, alias="champion")
    assert registry.model("digits").aliases == {"champion": 2}
    assert registry.set_alias("digits", "champion", 1).aliases == {"champion": 1}
    assert registry.delete_alias("digits", "champion").aliases == {}
    with pytest.raises(VersionUnknown, match="no alias 'champion'"):
        registry.delete_alias("digits", "champion")


def test_an_alias_needs_a_version_that_exists(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path)
    with pytest.raises(VersionUnknown):
        registry.set_alias("digits", "champion", 2)


def test_every_change_of_a_model_changes_its_etag_and_a_stale_one_is_refused(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path)
    seen = [registry.model("digits").etag]
    seen.append(registry.set_alias("digits", "a", 1, etag=seen[-1]).etag)
    seen.append(registry.delete_alias("digits", "a", etag=seen[-1]).etag)
    register_adder(registry, tmp_path, amount=2)
    seen.append(registry.model("digits").etag)
    assert len(set(seen)) == 4
    for stale in seen[:-1]:
        with pytest.raises(RevisionConflict, match="read it again"):
            registry.set_alias("digits", "b", 1, etag=stale)
    assert registry.model("digits").aliases == {}


# ---- deployments


def test_a_committed_deployment_is_the_current_one(registry: Registry, tmp_path: Path, clock: FakeClock) -> None:
    register_adder(registry, tmp_path)
    register_adder(registry, tmp_path, amount=2)
    assert registry.deployment("digits") is None
    first = registry.commit(deployed("digits", 1, current=None, salt="s"), expected_revision=0, author="ada", reason="go")
    assert (first.author, first.reason, first.created_at) == ("ada", "go", clock.time)
    second = registry.commit(split(first, {1: 7000, 2: 3000}, salt="t"), expected_revision=1)
    assert registry.deployment("digits") == second == registry.revision("digits", 2)
    assert registry.revision("digits", 1) == first
    assert registry.revisions("digits")[0] == (second, first)
    assert registry.deployments() == (second,)


def test_current_deployments_are_the_newest_of_each_model(registry: Registry, tmp_path: Path) -> None:
    for model in ("b", "a", "c"):
        register_adder(registry, tmp_path, model=model)
    for model in ("b", "a"):
        first = registry.commit(deployed(model, 1, current=None, salt=""), expected_revision=0)
        registry.commit(promoted(first, 1), expected_revision=1)
    assert [(d.model, d.revision) for d in registry.deployments()] == [("a", 2), ("b", 2)]


def test_only_the_first_of_two_changes_to_one_revision_is_committed(registry: Registry, tmp_path: Path) -> None:
    for amount in (1, 2):
        register_adder(registry, tmp_path, amount=amount)
    base = registry.commit(deployed("digits", 1, current=None, salt=""), expected_revision=0)
    kept = registry.commit(promoted(base, 2), expected_revision=1)
    with pytest.raises(RevisionConflict, match="is at revision 2, the change was made for 1") as error:
        registry.commit(promoted(base, 1), expected_revision=1)
    assert error.value.metadata["revision"] == "2"
    with pytest.raises(RevisionConflict):
        registry.commit(deployed("digits", 1, current=None, salt=""), expected_revision=0)
    assert registry.revisions("digits")[0] == (kept, base)
    assert len(registry.audit("digits")[0]) == 4


def test_a_revision_that_does_not_follow_is_refused(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path)
    with pytest.raises(InvalidValue, match="revision: expected 1"):
        registry.commit(Deployment("digits", 7, 1), expected_revision=0)


@pytest.mark.parametrize(
    "deployment",
    [
        Deployment("digits", 1, 9),
        Deployment("digits", 1, 1, shadow=Shadow(9)),
        Deployment("digits", 1, 1, segments=(Segment(0, 5, 9),)),
    ],
)
def test_a_deployment_of_a_version_that_is_not_there_is_refused(
    registry: Registry, tmp_path: Path, deployment: Deployment
) -> None:
    register_adder(registry, tmp_path)
    with pytest.raises(VersionUnknown, match="no version '9'"):
        registry.commit(deployment, expected_revision=0)


@pytest.mark.parametrize("revision", [0, 2, -1, 2**70])
def test_a_revision_that_is_not_there_is_named(registry: Registry, tmp_path: Path, revision: int) -> None:
    register_adder(registry, tmp_path)
    registry.commit(deployed("digits", 1, current=None, salt=""), expected_revision=0)
    with pytest.raises(VersionUnknown, match="no revision"):
        registry.revision("digits", revision)


# ---- requests that come again


def test_a_repeated_registration_gets_the_first_answer(registry: Registry, tmp_path: Path) -> None:
    first = register_adder(registry, tmp_path, request_id="r1", tags={"a": "1", "b": "2"})
    assert register_adder(registry, tmp_path, request_id="r1", tags={"b": "2", "a": "1"}) == first
    assert registry.model("digits").latest == 1
    assert len(registry.audit()[0]) == 1


def test_an_id_used_for_something_else_is_refused(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path, request_id="r1")
    for call in (
        lambda: register_adder(registry, tmp_path, request_id="r1", amount=2),
        lambda: register_adder(registry, tmp_path, request_id="r1", tags={"a": "b"}),
        lambda: registry.set_alias("digits", "champion", 1, request_id="r1"),
        lambda: registry.commit(deployed("digits", 1, current=None, salt=""), expected_revision=0, request_id="r1"),
    ):
        with pytest.raises(RequestReplayed, match="'r1' was used before"):
            call()
    assert registry.model("digits").latest == 1
    assert registry.model("digits").aliases == {}


def test_a_repeated_alias_gets_the_first_answer_even_after_it_moved(registry: Registry, tmp_path: Path) -> None:
    for amount in (1, 2):
        register_adder(registry, tmp_path, amount=amount)
    etag = registry.model("digits").etag
    first = registry.set_alias("digits", "champion", 1, etag=etag, request_id="r")
    registry.set_alias("digits", "champion", 2)
    assert registry.set_alias("digits", "champion", 1, etag=etag, request_id="r") == first
    assert registry.model("digits").aliases == {"champion": 2}


def test_a_repeated_commit_gets_the_first_answer_though_it_is_computed_anew(registry: Registry, tmp_path: Path) -> None:
    for amount in (1, 2):
        register_adder(registry, tmp_path, amount=amount)
    base = registry.commit(deployed("digits", 1, current=None, salt="x"), expected_revision=0)
    first = registry.commit(split(base, {1: 5000, 2: 5000}, salt="y"), expected_revision=1, request_id="r")
    again = split(dataclasses.replace(base, revision=2), {1: 5000, 2: 5000}, salt="z")
    assert registry.commit(again, expected_revision=2, request_id="r") == first
    assert registry.deployment("digits") == first
    with pytest.raises(RequestReplayed):
        registry.commit(split(first, {1: 0, 2: 10_000}, salt=""), expected_revision=2, request_id="r")


def test_a_caller_that_computes_from_the_current_one_finds_the_repeat_first(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path)
    base = registry.commit(deployed("digits", 1, current=None, salt=""), expected_revision=0)
    assert registry.replayed("r", "rollback digits") is None
    made = registry.commit(rolled_back(base, base), expected_revision=1, request_id="r", request_content="rollback digits")
    assert registry.replayed("r", "rollback digits") == made
    with pytest.raises(RequestReplayed):
        registry.replayed("r", "rollback letters")
    assert registry.replayed("", "rollback letters") is None


def test_a_repeat_is_known_by_what_the_caller_said_not_by_what_it_means_now(registry: Registry, tmp_path: Path) -> None:
    said = {"request_id": "r", "request_content": "champion -> latest"}
    register_adder(registry, tmp_path)
    first = registry.set_alias("digits", "champion", 1, **said)
    register_adder(registry, tmp_path, amount=2)
    assert registry.set_alias("digits", "champion", 2, **said) == first
    assert registry.model("digits").aliases == {"champion": 1}
    said = {"request_id": "r2", "request_content": "with alias"}
    made = register_adder(registry, tmp_path, amount=3, alias="newest", **said)
    assert register_adder(registry, tmp_path, amount=3, **said) == made
    with pytest.raises(RequestReplayed):
        register_adder(registry, tmp_path, amount=4, **said)


def test_answers_are_forgotten_after_a_week(registry: Registry, tmp_path: Path, clock: FakeClock) -> None:
    register_adder(registry, tmp_path, request_id="r1")
    clock.time += 8 * 86_400
    register_adder(registry, tmp_path, request_id="r2")
    assert register_adder(registry, tmp_path, request_id="r1").number == 3


# ---- pages


def collect(fetch, size: int) -> list:
    items, token = [], ""
    while True:
        found, token = fetch(page_size=size, page_token=token)
        assert len(found) <= size
        items += found
        if not token:
            return items


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_together_are_the_list(registry: Registry, tmp_path: Path, size: int) -> None:
    for name in ("c", "a", "B"):
        register_adder(registry, tmp_path, model=name)
    deployment = None
    for amount in (1, 2, 3):
        register_adder(registry, tmp_path, amount=amount)
        deployment = registry.commit(
            deployed("digits", amount, current=deployment, salt=""), expected_revision=amount - 1, author=f"a{amount}"
        )
    assert [m.name for m in collect(registry.models, size)] == ["B", "a", "c", "digits"]
    assert [v.number for v in collect(lambda **p: registry.versions("digits", **p), size)] == [3, 2, 1]
    assert [d.revision for d in collect(lambda **p: registry.revisions("digits", **p), size)] == [3, 2, 1]
    assert [r.id for r in collect(registry.audit, size)] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert [r.verb for r in collect(lambda **p: registry.audit("digits", **p), size)] == ["deploy", "register"] * 3


def test_a_page_goes_on_where_it_ended_though_something_was_added(registry: Registry, tmp_path: Path) -> None:
    for amount in (1, 2, 3):
        register_adder(registry, tmp_path, amount=amount)
    first, token = registry.versions("digits", page_size=2)
    register_adder(registry, tmp_path, amount=4)
    rest, end = registry.versions("digits", page_size=5, page_token=token)
    assert ([v.number for v in first + rest], end) == ([3, 2, 1], "")


def test_a_token_for_other_arguments_or_a_damaged_one_is_refused(registry: Registry, tmp_path: Path) -> None:
    for model in ("a", "b"):
        for amount in (1, 2):
            register_adder(registry, tmp_path, model=model, amount=amount)
    token = registry.versions("a", page_size=1)[1]
    for call in (
        lambda: registry.versions("b", page_token=token),
        lambda: registry.models(page_token=token),
        lambda: registry.audit("a", page_token=token),
        lambda: registry.versions("a", page_token=token[:-3]),
        lambda: registry.versions("a", page_token="ä!"),
        lambda: registry.versions("a", page_token="AAAA"),
    ):
        with pytest.raises(InvalidValue, match="page_token"):
            call()


def test_page_sizes_are_bounded(registry: Registry, tmp_path: Path) -> None:
    for amount in range(60):
        register_adder(registry, tmp_path, model=f"m{amount:02}")
    assert len(registry.models()[0]) == 50
    assert len(registry.models(page_size=10**9)[0]) == 60
    with pytest.raises(InvalidValue, match="page_size"):
        registry.models(page_size=-1)


# ---- the record


def test_every_change_is_recorded_with_before_and_after(registry: Registry, tmp_path: Path, clock: FakeClock) -> None:
    register_adder(registry, tmp_path, author="ada", reason="first")
    registry.set_alias("digits", "champion", 1, author="bob")
    registry.delete_alias("digits", "champion", author="bob", reason="no more")
    base = registry.commit(deployed("digits", 1, current=None, salt=""), expected_revision=0, author="cy")
    register_adder(registry, tmp_path, amount=2)
    clock.time += 5
    registry.commit(promoted(base, 2), expected_revision=1, author="cy", reason="better")
    records = list(reversed(registry.audit("digits")[0]))
    assert [(r.verb, r.author, r.reason) for r in records] == [
        ("register", "ada", "first"),
        ("set_alias", "bob", ""),
        ("delete_alias", "bob", "no more"),
        ("deploy", "cy", ""),
        ("register", "", ""),
        ("promote", "cy", "better"),
    ]
    assert (records[0].before, json.loads(records[0].after)["number"]) == ("", 1)
    assert (records[1].before, json.loads(records[1].after)) == ("", {"champion": 1})
    assert (json.loads(records[2].before), records[2].after) == ({"champion": 1}, "")
    assert records[3].before == ""
    assert [json.loads(text)["default"] for text in (records[5].before, records[5].after)] == [1, 2]
    assert records[5].created_at == clock.time


def test_a_refused_change_is_not_recorded(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path)
    for call in (
        lambda: registry.set_alias("digits", "champion", 7),
        lambda: registry.set_alias("digits", "champion", 1, etag='"99"'),
        lambda: registry.commit(Deployment("digits", 1, 9), expected_revision=0),
    ):
        with pytest.raises(RegistryError):
            call()
    assert [record.verb for record in registry.audit()[0]] == ["register"]
