"""When a new version would break the callers of the serving one, against a dumb caller that tries everything."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.signature import Signature, TensorSpec, incompatibilities

X = TensorSpec("x", "FP32", (-1, 4))
Y = TensorSpec("y", "INT64", (-1,))
SERVING = Signature((X,), (Y,))

SHAPES = st.sampled_from([(), (-1,), (2,), (3,), (-1, 2), (3, 2), (-1, -1), None])


def specs(names: str):
    def build(name: str, datatype: str, shape: tuple[int, ...] | None, is_optional: bool) -> TensorSpec:
        return TensorSpec(name, datatype, shape or (), is_optional, is_ranked=shape is not None)

    one = st.builds(build, st.sampled_from(names), st.sampled_from(["FP32", "INT64"]), SHAPES, st.booleans())
    return st.lists(one, max_size=2, unique_by=lambda spec: spec.name).map(tuple)


signatures = st.builds(Signature, specs("abc"), specs("yz"))


def concrete(spec: TensorSpec) -> list[tuple[str, tuple[int, ...]]]:
    """All tensors of a small world that ``spec`` accepts."""
    world = [shape for rank in range(3) for shape in itertools.product((2, 3, 5), repeat=rank)]
    fits = [
        shape
        for shape in world
        if not spec.is_ranked
        or (len(shape) == len(spec.shape) and all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True)))
    ]
    return [(spec.datatype, shape) for shape in fits]


def breaks_a_caller(old: Signature, new: Signature) -> bool:
    """A caller sends all required inputs and any of the optional, with any tensor that was right, and reads every output."""
    accepted = {spec.name: spec for spec in new.inputs}
    known = {spec.name for spec in old.inputs}
    for spec in old.inputs:
        now = accepted.get(spec.name)
        if now is None or not set(concrete(spec)) <= set(concrete(now)) or (spec.is_optional and not now.is_optional):
            return True
    if any(spec.name not in known and not spec.is_optional for spec in new.inputs):
        return True
    given_now = {spec.name: spec for spec in new.outputs}
    return any(
        spec.name not in given_now or not set(concrete(given_now[spec.name])) <= set(concrete(spec)) for spec in old.outputs
    )


@given(signatures, signatures)
def test_incompatible_is_what_breaks_a_caller(old: Signature, new: Signature) -> None:
    assert bool(incompatibilities(old, new)) == breaks_a_caller(old, new)


@given(signatures)
def test_every_signature_is_compatible_with_itself(signature: Signature) -> None:
    assert incompatibilities(signature, signature) == ()


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (Signature((), (Y,)), "input 'x' is gone"),
        (Signature((TensorSpec("x", "FP64", (-1, 4)),), (Y,)), "input 'x' takes FP64, was FP32"),
        (Signature((TensorSpec("x", "FP32", (1, 4)),), (Y,)), "input 'x' takes shape [1, 4], was [-1, 4]"),
        (Signature((X, TensorSpec("w", "FP32", ())), (Y,)), "input 'w' is new and required"),
        (Signature((X,), ()), "output 'y' is gone"),
        (Signature((X,), (TensorSpec("y", "BYTES", (-1,)),)), "output 'y' gives BYTES, was INT64"),
        (Signature((X,), (TensorSpec("y", "INT64", (-1, 1)),)), "output 'y' gives shape [-1, 1], was [-1]"),
        (Signature((X,), (TensorSpec("y", "INT64", (), is_ranked=False),)), "output 'y' gives shape of any rank, was [-1]"),
    ],
)
def test_a_problem_names_the_tensor_and_both_sides(new: Signature, words: str) -> None:
    assert incompatibilities(SERVING, new) == (words,)


def test_more_freedom_for_callers_is_compatible() -> None:
    new = Signature((TensorSpec("x", "FP32", (-1, -1)), TensorSpec("w", "FP32", (), True)), (TensorSpec("y", "INT64", (8,)), X))
    assert incompatibilities(SERVING, new) == ()
