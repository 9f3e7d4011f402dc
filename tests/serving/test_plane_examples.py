"""What callers send is remembered for the warm-up of the next version: little of it, seldom, and only while it is needed."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper
from plane_models import F, answer, ask, identity, lookup, model, scale, tensor

from gateway.protocol.pb import inference_pb2 as pb
from gateway.versions import recent_inputs as examples
from gateway.versions.recent_inputs import RecentInputs

ROW = np.ones((1, 4), np.float32)


def wide(columns: int):
    """A model that takes any width by its signature, and one in truth."""
    weights = numpy_helper.from_array(np.ones((columns, 1), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, [tensor("x", F, ["n", "m"])], [tensor("y", F, ["n", 1])], [weights])


@pytest.fixture
def gate(open_gate):
    return open_gate("fast")


@pytest.fixture
def recent(gate) -> RecentInputs:
    return gate.plane._recent


def seen(recent: RecentInputs, gate, name: str = "m", number: int = 1) -> list[list[int]]:
    """Shapes of the first input of what is remembered, the newest first."""
    signature = gate.desired[name][number].signature
    return [list(example.inputs[0].shape) for example in recent.fitting(name, signature)]


def infer(gate, *requests: pb.ModelInferRequest, is_due: bool = True) -> None:
    """Sends each, and another model's after it: what follows the answer is then done, as all run in the lane's thread."""
    for request in requests:
        if is_due:
            gate.loaded[request.model_name][1].example_due_ns = 0
        gate.infer(request)
        gate.infer(ask("other", ROW))


@pytest.fixture(autouse=True)
def other(gate) -> None:
    gate.load("other", 1, scale(1)).pace.is_inline = True
    gate.route("other", 1)


def serve(gate, proto, name: str = "m", number: int = 1):
    served = gate.load(name, number, proto)
    served.pace.is_inline = True  # all in the lane's thread, one after the other
    gate.route(name, number)
    return served


def test_a_new_version_is_warmed_up_with_what_callers_sent(gate):
    first = serve(gate, wide(5))
    assert first.pace.run_times.longest_s() == 0
    infer(gate, ask("m", np.ones((3, 5), np.float32)))
    assert gate.load("m", 2, wide(5)).pace.run_times.longest_s() > 0
    assert gate.load("unasked", 1, wide(5)).pace.run_times.longest_s() == 0


def test_what_does_not_fit_the_new_version_is_ignored(gate, recent):
    serve(gate, wide(5))
    infer(gate, ask("m", np.ones((1, 5), np.float32)))
    assert recent.fitting("m", gate.desired["other"][1].signature) == ()
    for proto in (scale(2), lookup(), identity(F, ["n", "m"])):  # another width, another datatype, and one that fits
        assert gate.load("m", 2, proto).pace.run_times.longest_s() > 0
    assert gate.load("m", 3, wide(6)).pace.run_times.longest_s() == 0  # fits by its signature, and fails: that proves nothing


def test_at_most_one_request_a_second_is_taken(gate, recent):
    serve(gate, wide(5))
    infer(gate, *(ask("m", np.full((1, 5), value, np.float32)) for value in (1, 2, 3)), is_due=False)
    (kept,) = recent.fitting("m", gate.desired["m"][1].signature)
    assert np.frombuffer(kept.inputs[0].contents, np.float32)[0] == 1


def test_a_few_layouts_are_remembered_the_newest_of_each(gate, recent):
    served = serve(gate, identity(F, ["n", "m"]))
    assert served.is_batched
    infer(gate, *(ask("m", np.ones((rows, width), np.float32)) for width in range(1, 7) for rows in (1, 2)))
    assert seen(recent, gate) == [[2, 6], [2, 5], [2, 4], [2, 3]]


def test_requests_that_are_not_batched_differ_by_their_rows_too(gate, recent):
    assert not serve(gate, wide(5)).is_batched
    infer(gate, *(ask("m", np.ones((rows, 5), np.float32)) for rows in (1, 2, 2)))
    assert seen(recent, gate) == [[2, 5], [1, 5]]


def test_large_requests_are_not_kept(gate, recent):
    serve(gate, identity(F, ["n", "m"]))
    infer(gate, ask("m", np.ones((1, 300_000), np.float32)))
    assert seen(recent, gate) == []


def test_all_that_is_kept_is_bounded(gate, recent, monkeypatch):
    monkeypatch.setattr(examples, "MAX_BYTES", 100)
    for name in "abc":
        serve(gate, identity(F, ["n", "m"]), name)
        infer(gate, ask(name, np.ones((1, 10), np.float32)))
    assert [seen(recent, gate, name) for name in "abc"] == [[], [[1, 10]], [[1, 10]]]


def test_a_model_that_is_not_held_any_more_is_forgotten(gate, recent):
    serve(gate, wide(5))
    infer(gate, ask("m", np.ones((1, 5), np.float32)))
    assert seen(recent, gate) == [[1, 5]]
    desired = gate.desired.pop("m")
    gate.loaded.pop("m"), gate.routes.pop("m")
    gate.publish()
    assert recent.fitting("m", desired[1].signature) == ()


def test_requests_with_typed_contents_and_text_are_remembered(gate, recent):
    serve(gate, identity(8, ["n"]))  # STRING
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"one", b"three"])
    infer(gate, request)
    (kept,) = recent.fitting("m", gate.desired["m"][1].signature)
    assert kept.inputs[0].contents == b"\x03\0\0\0one\x05\0\0\0three"


def test_a_request_that_fails_is_not_remembered(gate, recent):
    serve(gate, wide(5))
    with pytest.raises(Exception, match=r"refuses these inputs|failed on this request"):
        infer(gate, ask("m", np.ones((1, 6), np.float32)))
    assert seen(recent, gate) == []
    assert answer(gate.infer(ask("m", np.ones((1, 5), np.float32)))).tolist() == [[5]]
