"""Predictions, metadata and feedback through both clients, over a real port."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import numpy as np
import pytest

from gateway.client import AdminClient, AsyncClient, Client, DeadlineExceeded, Feedback, NotFound, TensorError, Verdict

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def test_importing_the_client_loads_nothing_that_serving_needs():
    heavy = "onnxruntime sqlalchemy onnx alembic opentelemetry prometheus_client pydantic".split()
    script = f"import sys, gateway.client; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_a_prediction_comes_back_with_who_made_it(gateway):
    with Client(gateway.address) as client:
        answer = client.infer("echo", {"x": X}, request_id="mine", unit_id="u1", version="2")
    assert np.array_equal(answer["x"], X)
    assert (answer.model, answer.version, answer.arm, answer.prediction_id) == ("echo", "2", "pinned", "p1")
    assert answer.request_id == "mine"
    assert gateway.requests["ModelInfer"][0].parameters["unit_id"].string_param == "u1"


def test_one_array_goes_to_the_only_input_and_metadata_is_asked_once(gateway):
    with Client(gateway.address) as client:
        for _ in range(3):
            assert np.array_equal(client.infer("echo", X).output, X)
    assert len(gateway.requests["ModelMetadata"]) == 1


def test_one_array_for_a_model_with_two_inputs_is_refused_naming_them(gateway):
    with Client(gateway.address) as client, pytest.raises(TensorError, match=r"labels takes 2 inputs \(text, flag\)"):
        client.infer("labels", X)


def test_only_the_outputs_asked_for_come(gateway):
    inputs = {"text": np.array(["a", "bc"]), "flag": np.array([True, False])}
    with Client(gateway.address) as client:
        answer = client.infer("labels", inputs, outputs=["flag"])
    assert list(answer.outputs) == ["flag"]


def test_metadata_tells_inputs_with_datatypes_and_shapes(gateway):
    with Client(gateway.address) as client:
        info = client.metadata("echo")
    assert [(spec.name, spec.datatype, spec.shape) for spec in info.inputs] == [("x", "FP32", (-1, 4))]


def test_several_channels_are_several_connections(gateway):
    with Client(gateway.address, channels=3) as client:
        for _ in range(6):
            client.infer("echo", {"x": X})
    assert len(gateway.channels) == 3


def test_a_deadline_ends_the_call_with_its_own_error(gateway):
    with Client(gateway.address) as client, pytest.raises(DeadlineExceeded, match=r"within 0\.\d+ s"):
        client.infer("echo", {"x": X}, unit_id="slow", timeout_s=0.2)


def test_ready_is_false_where_nobody_answers(gateway):
    with Client(gateway.address) as client:
        assert client.is_ready()
        assert not client.is_ready("nothing")
        gateway.stop()
        assert not client.is_ready(timeout_s=0.5)


def test_waiting_for_ready_ends_when_it_is_and_fails_when_it_never_is(gateway):
    gateway.is_ready = False

    def become_ready(_):
        gateway.is_ready = True

    with Client(gateway.address, sleep=become_ready) as client:
        client.wait_ready(5)
        with pytest.raises(DeadlineExceeded, match="model 'nothing'"):
            client.wait_ready(0.1, model="nothing")


def test_feedback_gets_a_verdict_for_each_item_in_order(gateway):
    items = [
        Feedback(prediction_id="p1", label=3),
        Feedback(prediction_id="x", label="cat"),
        Feedback(inference_id="i", value=1.5),
    ]
    with Client(gateway.address) as client:
        sent = client.send_feedback(items)
        streamed = client.stream_feedback(items * 1000)
    assert [result.verdict for result in sent] == [Verdict.JOINED, Verdict.UNKNOWN, Verdict.JOINED]
    assert [result.verdict for result in streamed] == [result.verdict for result in sent] * 1000
    assert gateway.requests["SendFeedback"][0].items[0].label == "3"


@pytest.mark.parametrize(
    "fields", [{}, {"label": "a"}, {"prediction_id": "p"}, {"prediction_id": "p", "label": 1, "value": 2.0}]
)
def test_feedback_without_one_id_and_one_truth_is_refused(fields):
    with pytest.raises(ValueError, match="one of the two"):
        Feedback(**fields)


def test_the_asynchronous_client_does_the_same(gateway):
    async def scenario():
        async with AsyncClient(gateway.address, channels=2) as client:
            await client.wait_ready(5)
            answers = await asyncio.gather(*(client.infer("echo", X + n) for n in range(8)))
            info = await client.metadata("echo")
            sent = await client.send_feedback([Feedback(prediction_id="p1", label="a")])

            async def items():
                for _ in range(1500):
                    yield Feedback(prediction_id="p1", label="a")

            streamed = await client.stream_feedback(items())
            with pytest.raises(NotFound, match="no model 'nothing'"):
                await client.infer("nothing", {"x": X})
            return answers, info, sent, streamed

    answers, info, sent, streamed = asyncio.run(scenario())
    assert all(np.array_equal(answer.output, X + n) for n, answer in enumerate(answers))
    assert info.inputs[0].name == "x"
    assert [result.verdict for result in sent] == ["JOINED"]
    assert len(streamed) == 1500


def test_examples_are_arrays_by_input_name(gateway, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"whatever")
    with AdminClient(gateway.address) as admin:
        examples = [{"x": X, "text": np.array(["a"])}, {"x": [[True]]}]
        made = admin.register("digits", tmp_path, examples=examples).result().version
    assert made.example_count == 2
    first, second = gateway.examples["digits"]
    assert [(t.name, t.datatype, list(t.shape), t.contents) for t in first.inputs] == [
        ("x", "FP32", [2, 4], X.tobytes()),
        ("text", "BYTES", [1], b"\x01\0\0\0a"),
    ]
    assert second.inputs[0].datatype == "BOOL"
