"""Traces of a real gateway at a real receiver: also those that waited for a dead control, and the last ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from otlp_receiver import Receiver
from running import Start, is_running, kill
from tiny import scaler

from gateway.client import AdminClient, Client

ROW = np.array([[1.0, 2.0]], np.float32)


def traced(receiver: Receiver) -> set[str]:
    """The predictions whose server spans have come."""
    facts = [{fact.key: fact.value for fact in span.attributes} for span in receiver.spans()]
    return {one["interlock.prediction_id"].string_value for one in facts if "interlock.prediction_id" in one}


def test_traces_come_by_control_even_those_of_its_absence_and_of_the_end(
    start: Start, tmp_path: Path, receiver: Receiver, wait_for: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")  # milliseconds
    gateway = start("--trace-ratio", "1", workers=2)
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(tmp_path / "m.onnx", 2.0)).result()
        admin.deploy("m", 1).result()
    with Client(gateway.data) as client:
        client.wait_ready(model="m")

        def predict(times: int) -> set[str]:
            return {client.infer("m", ROW).prediction_id for _ in range(times)}

        sent = predict(20)
        wait_for(lambda: traced(receiver) >= sent, 20)
        control = gateway.note()["control_pid"]
        kill(control)
        wait_for(lambda: not is_running(control))
        away = predict(20)
        wait_for(lambda: traced(receiver) >= away, 30)
        last = predict(20)
        assert gateway.stop() == 0
        assert traced(receiver) >= last
    names = {span.name for span in receiver.spans()}
    assert names == {"inference.GRPCInferenceService/ModelInfer", "route", "queue", "run"}
    resources = [{fact.key: fact.value.string_value for fact in one.resource.attributes} for one in receiver.received]
    assert {one["service.name"] for one in resources} == {"interlock"}
    assert {one["service.instance.id"].rpartition("-")[0] for one in resources} <= {"worker-0", "worker-1"}
