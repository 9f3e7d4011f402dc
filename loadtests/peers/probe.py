"""Calls that check the answers themselves: h2load proves neither gRPC's status nor what a server computed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gateway.client.call_errors import CallError
from gateway.client.grpc_channel import Channel
from gateway.demo.models import INPUT, scans
from gateway.protocol.messages import inference
from loadtests.bench.servers import MODEL, ServerFailed

IMAGES = 20
TIMEOUT_S = 10.0
PAUSE_S = 0.01
_TYPES = {"INT64": (np.int64, "int64_contents"), "FP32": (np.float32, "fp32_contents")}


@dataclass(frozen=True, slots=True)
class Expected:
    """Images as float32 [rows, 64], and what ONNX Runtime alone says to them: int64 [rows], float32 [rows, 10]."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, file: Path) -> Expected:
        """Runs the model here."""
        images = scans()[1].images[:IMAGES]
        labels, probabilities = onnxruntime.InferenceSession(str(file)).run(None, {INPUT: images})
        return cls(images, labels, probabilities)


def ask(channel: Channel, image: NDArray[np.float32]) -> Any:
    """One ModelInfer with raw contents, as h2load sends it. Raises CallError for any status but OK."""
    request = inference.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name=INPUT, datatype="FP32", shape=[1, 64])
    request.raw_input_contents.append(image.tobytes())
    return channel.call(channel.inference.ModelInfer, request, timeout_s=TIMEOUT_S)


def outputs(answer: Any) -> dict[str, NDArray[Any]]:
    """The answer's outputs by name, flat; raw or typed, as the server chose."""
    found = {}
    for index, output in enumerate(answer.outputs):
        dtype, field = _TYPES[output.datatype]
        raw = answer.raw_output_contents[index] if answer.raw_output_contents else None
        found[output.name] = np.frombuffer(raw, dtype) if raw is not None else np.array(getattr(output.contents, field), dtype)
    return found


def differs(answer: Any, expected: Expected, row: int) -> str | None:
    """What is wrong with the answer to image ``row``; None when nothing is."""
    found = outputs(answer)
    if found.keys() != {"label", "probabilities"}:
        return f"outputs {sorted(found)}, expected label and probabilities"
    if found["label"].tolist() != [expected.labels[row]]:
        return f"label {found['label'].tolist()}, expected {expected.labels[row]}"
    if not np.allclose(found["probabilities"], expected.probabilities[row], atol=1e-5):
        return f"probabilities {found['probabilities'].tolist()}, expected {expected.probabilities[row].tolist()}"
    return None


class Probe:
    """Asks a server one image after the other while it is under load. ``answered`` counts the right answers."""

    def __init__(self, name: str, port: int, expected: Expected) -> None:
        self._name, self._port, self._expected = name, port, expected
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, name="probe")
        self._wrong: str | None = None
        self.answered = 0

    def _ask_on(self) -> None:
        with Channel(f"127.0.0.1:{self._port}") as channel:
            while self._wrong is None and not self._stop.wait(PAUSE_S):
                row = self.answered % IMAGES
                try:
                    self._wrong = differs(ask(channel, self._expected.images[row]), self._expected, row)
                except CallError as error:
                    self._wrong = str(error)
                self.answered += self._wrong is None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and (self._wrong is not None or not self.answered):
            raise ServerFailed(f"{self._name} under load: {self._wrong or 'the probe got no answer'}")


def wait_right(name: str, port: int, expected: Expected, *, timeout_s: float, is_running: Any) -> None:
    """Waits until the server answers every image right. Raises ServerFailed, at once where an answer is wrong."""
    deadline, last = time.monotonic() + timeout_s, "no call was made"
    while time.monotonic() < deadline and is_running():
        try:
            with Channel(f"127.0.0.1:{port}") as channel:
                wrong = [differs(ask(channel, image), expected, row) for row, image in enumerate(expected.images)]
        except CallError as error:
            last = str(error)
            time.sleep(0.2)
            continue
        if any(wrong):
            raise ServerFailed(f"{name} answers wrong: {next(filter(None, wrong))}")
        return
    raise ServerFailed(f"{name} did not answer within {timeout_s:g} s: {last}" if is_running() else f"{name} ended by itself")
