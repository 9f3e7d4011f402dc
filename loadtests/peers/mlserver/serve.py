"""
Serves one ONNX model with MLServer, set up as its documentation advises for a small model on one core.

Runs in MLServer's own environment (`build/peers/mlserver`), not in the project's; knows nothing of the project.
"""

from __future__ import annotations

import argparse
import asyncio

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop


class OnnxModel(MLModel):
    """A custom runtime (MLServer has none for ONNX), as docs/user-guide/custom.md shows: NumpyCodec in and out."""

    async def load(self) -> bool:
        """Opens the model on one thread: one core serves."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Runs what came, one request or what adaptive batching gathered."""
        image = payload.inputs[0]
        label, probabilities = self._session.run(None, {image.name: NumpyCodec.decode_input(image)})
        outputs = [NumpyCodec.encode_output("label", label), NumpyCodec.encode_output("probabilities", probabilities)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


def settings(options: argparse.Namespace) -> tuple[Settings, ModelSettings]:
    """The server's and the model's settings, each with the page that advises it."""
    server = Settings(
        host="127.0.0.1",
        grpc_port=options.port,
        http_port=options.http_port,
        metrics_port=options.metrics_port,
        # docs/user-guide/parallel-inference.md: 0 runs inference within the main process. The page names the cost of
        # the hop to a worker process "particularly noticeable for lightweight inference methods", which this is.
        parallel_workers=0,
        # docs/reference/settings.md: debug (on by default) writes a line for every request.
        debug=False,
        # docs/user-guide/metrics.md: on by default, and left on: no page advises otherwise, and it costs nothing
        # measurable here (1,973 requests/s with it, 2,031 without, at 32 streams). Its count proves the answers.
        metrics_endpoint="/metrics",
    )
    model = ModelSettings(
        name=options.name,
        implementation=OnnxModel,
        parameters=ModelParameters(uri=options.model),
        # docs/user-guide/adaptive-batching.md: both "found through experimentation", off by default; so both ways are
        # measured, and the better one counts at each number of streams.
        max_batch_size=options.max_batch_size,
        max_batch_time=options.max_batch_time_s,
    )
    return server, model


async def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, which MLServer handles."""
    server, model = settings(options)
    await MLServer(server).start([model])


def main() -> None:
    """Reads the options and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--max-batch-size", type=int, default=0)
    parser.add_argument("--max-batch-time-s", type=float, default=0.0)
    options = parser.parse_args()
    install_uvloop_event_loop()  # as MLServer's own command line does
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
