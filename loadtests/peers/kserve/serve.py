"""
Serves one ONNX model with KServe's Python server, set up as its documentation advises for a small model on one core.

Runs in KServe's own environment (`build/peers/kserve`), not in the project's; knows nothing of the project.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from types import SimpleNamespace
from typing import Any

import onnxruntime
import uvloop


def options() -> argparse.Namespace:
    """The options; taken away from sys.argv, which KServe reads when it is imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, help="not used: KServe's metrics are on its HTTP port")
    given = parser.parse_args()
    sys.argv = sys.argv[:1]
    return given


OPTIONS = options()
# KServe's constants: the log level comes from the environment. At INFO every request writes a line.
os.environ["KSERVE_LOGLEVEL"] = "WARNING"

import kserve.model_server  # noqa: E402 - both lines above must come first
import kserve.protocol.grpc.server  # noqa: E402
from grpc import aio  # noqa: E402
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer  # noqa: E402


class OnnxModel(Model):
    """A custom predictor as the docs show (model-serving/predictive-inference, "Custom Python predictor")."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = 1  # one core serves
        self._session = onnxruntime.InferenceSession(path, session)
        self.ready = True

    async def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        """Runs one request; `set_data_from_numpy` keeps the outputs binary, which is the cheaper form."""
        image = payload.inputs[0]
        label, probabilities = self._session.run(None, {image.name: image.as_numpy()})
        outputs = [
            InferOutput("label", list(label.shape), "INT64"),
            InferOutput("probabilities", list(probabilities.shape), "FP32"),
        ]
        for output, array in zip(outputs, (label, probabilities), strict=True):
            output.set_data_from_numpy(array)
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=outputs)


class LoopbackREST(kserve.model_server.RESTServer):
    """KServe listens on every address and has no setting for it; a benchmark must not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.host = "127.0.0.1"


def loopback_server(*args: Any, **kwargs: Any) -> aio.Server:
    """grpc.aio.server, but bound to loopback alone; only its start differs."""
    server = aio.server(*args, **kwargs)
    bind = server.add_insecure_port
    server.add_insecure_port = lambda address: bind(address.replace("[::]", "127.0.0.1"))
    return server


def main() -> None:
    """Serves until SIGTERM, which KServe handles."""
    kserve.model_server.RESTServer = LoopbackREST
    kserve.protocol.grpc.server.aio = SimpleNamespace(server=loopback_server)
    # Python runtime SDK reference, --event-loop: uvloop where it is installed. With one worker that reaches only the
    # HTTP server's configuration, not the loop that gRPC runs on, so the policy is set here.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    server = ModelServer(
        http_port=OPTIONS.http_port,
        grpc_port=OPTIONS.port,
        workers=1,  # Python runtime SDK reference: the default; more are processes for HTTP, and one core serves
        enable_latency_logging=False,  # the same page: on by default, "a line per request"
        grace_period=1,
    )
    server.start([OnnxModel(OPTIONS.name, OPTIONS.model)])


if __name__ == "__main__":
    main()
