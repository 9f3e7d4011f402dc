"""Examples are kept with the version that they were registered with: whole, unchanged, bounded."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from registry_makers import FakeClock, register_adder

from registry import examples
from registry.errors import ArtifactCorrupt, InvalidValue, RequestReplayed
from registry.examples import Example, ExampleTensor, from_file, misfit, to_file
from registry.registry import Registry, open_registry
from registry.signature import Signature, TensorSpec


def example(*shape: int, datatype: str = "FP32", input_name: str = "x") -> Example:
    return Example((ExampleTensor(input_name, datatype, shape, bytes(4 * abs(shape[0] * shape[1]))),), "a.json")


def test_examples_come_back_as_they_were_registered(registry: Registry, tmp_path: Path) -> None:
    told = (example(1, 2), example(3, 2))
    version = register_adder(registry, tmp_path, examples=told)
    kept = registry.version("digits", 1)
    assert (kept, kept.examples.count) == (version, 2)
    path = registry.examples_path(kept)
    assert from_file(path.read_bytes()) == told
    assert kept.examples.artifact.digest in str(path)


def test_a_version_without_examples_has_no_file_of_them(registry: Registry, tmp_path: Path) -> None:
    version = register_adder(registry, tmp_path)
    assert (version.examples, registry.examples_path(version)) == (None, None)


def test_the_same_examples_are_stored_once(registry: Registry, tmp_path: Path) -> None:
    paths = {registry.examples_path(register_adder(registry, tmp_path, examples=[example(1, 2)])) for _ in range(2)}
    assert len(paths) == 1


def test_a_changed_example_file_is_found_out(registry: Registry, tmp_path: Path) -> None:
    version = register_adder(registry, tmp_path, examples=[example(1, 2)])
    path = registry.examples_path(version)
    path.chmod(0o600)
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(ArtifactCorrupt, match=r"'examples\.msgpack' does not match its SHA-256"):
        registry.verify(version)


def test_a_repeated_request_with_other_examples_is_another_request(registry: Registry, tmp_path: Path) -> None:
    first = register_adder(registry, tmp_path, examples=[example(1, 2)], request_id="r")
    assert register_adder(registry, tmp_path, examples=[example(1, 2)], request_id="r") == first
    with pytest.raises(RequestReplayed):
        register_adder(registry, tmp_path, examples=[example(2, 2)], request_id="r")


def test_a_version_of_an_earlier_release_has_none(home: Path, tmp_path: Path) -> None:
    first = open_registry(home, FakeClock())
    made = register_adder(first, tmp_path)
    first.close()
    database = sqlite3.connect(home / "registry.db")
    (document,) = database.execute("SELECT document FROM versions").fetchone()
    earlier = json.loads(document)
    del earlier["examples"]
    with database:
        database.execute("UPDATE versions SET document = ?", (json.dumps(earlier),))
    database.close()
    second = open_registry(home, FakeClock())
    assert second.version("digits", 1) == made
    second.close()


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ([example(1, 2)] * 17, "examples"),
        ([example(1, 2), example(1, 3)], "examples[1]"),
        ([Example((), "a\0b")], "examples[0].name"),
    ],
)
def test_examples_out_of_bounds_are_refused_and_nothing_is_registered(
    registry: Registry, tmp_path: Path, told: list[Example], field: str
) -> None:
    with pytest.raises(InvalidValue) as error:
        register_adder(registry, tmp_path, examples=told)
    assert error.value.metadata["field"] == field
    assert registry.models() == ((), "")


def test_bytes_count_over_all_examples(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "MAX_BYTES", 20)
    with pytest.raises(InvalidValue, match="at most 20 bytes in all"):
        register_adder(registry, tmp_path, examples=[example(1, 2), example(2, 2)])
    register_adder(registry, tmp_path, examples=[example(1, 2), example(1, 2)])


SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("any", "FP32", (), is_optional=True, is_ranked=False)),
    (TensorSpec("y", "FP32", (-1, 2)),),
)


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        (example(5, 2), ""),
        (example(1, 3), "input 'x': expected x: FP32 [?, 2], got FP32 [1, 3]"),
        (example(-1, 2), "input 'x': expected x: FP32 [?, 2], got FP32 [-1, 2]"),
        (example(1, 2, datatype="INT32"), "input 'x': expected x: FP32 [?, 2], got INT32 [1, 2]"),
        (example(1, 2, input_name="z"), "input 'z': unknown, the model takes x, any"),
        (Example(()), "input 'x': missing, expected x: FP32 [?, 2]"),
        (Example(example(1, 2).inputs * 2), "an input is named twice"),
        (Example((*example(1, 2).inputs, *example(7, 1, input_name="any").inputs)), ""),
    ],
)
def test_what_does_not_fit_a_signature_is_told(told: Example, problem: str) -> None:
    assert misfit(told, SIGNATURE) == problem


@pytest.mark.parametrize("content", [b"", b"\x00", b"text", to_file([example(1, 2)])[:-3]])
def test_a_file_that_holds_no_examples_says_so(content: bytes) -> None:
    with pytest.raises(InvalidValue, match="cannot be read"):
        from_file(content)


def test_rows_are_those_that_all_inputs_share() -> None:
    one, two = example(1, 2).inputs, example(2, 2, input_name="z").inputs
    assert [Example(inputs).rows for inputs in (two, (*one, *two), (), (ExampleTensor("s", "FP32", (), b""),))] == [2, 0, 0, 0]
