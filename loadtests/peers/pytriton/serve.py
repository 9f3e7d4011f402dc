"""
Serves one ONNX model with PyTriton (Triton's server in front, this process as its Python backend), set up as its
documentation advises for throughput.

Runs in PyTriton's own environment (`build/peers/pytriton`), not in the project's; knows nothing of the project.
"""

from __future__ import annotations

import argparse
import signal
import tempfile

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

MAX_BATCH = 128  # as many as there are streams: docs/binding_configuration.md, "Maximal batch size"


def server(options: argparse.Namespace, workspace: str) -> Triton:
    """Triton with gRPC alone, on loopback."""
    config = TritonConfig(
        grpc_address="127.0.0.1",
        grpc_port=options.port,
        # docs/initialization.md: what is not asked for is off. Triton's log is not verbose by default, which
        # docs/known_issues.md names as what drops performance.
        allow_http=False,
        allow_metrics=False,
        exit_timeout_secs=1,
    )
    # No token for the statistics: they prove how many requests were answered. It changes nothing for inference.
    return Triton(config=config, workspace=workspace, security_config=TritonSecurityConfig(restricted_endpoints=[]))


def bind(triton: Triton, options: argparse.Namespace) -> None:
    """One inference callable on whole batches (docs/inference_callables/decorators.md: @batch)."""
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = 1  # one core serves
    session = onnxruntime.InferenceSession(options.model, session_options)

    @batch
    def infer(image: np.ndarray) -> dict[str, np.ndarray]:
        label, probabilities = session.run(None, {"image": image})
        return {"label": label.reshape(-1, 1), "probabilities": probabilities}

    triton.bind(
        model_name=options.name,
        infer_func=infer,
        inputs=[Tensor(name="image", dtype=np.float32, shape=(64,))],
        outputs=[Tensor(name="label", dtype=np.int64, shape=(1,)), Tensor(name="probabilities", dtype=np.float32, shape=(10,))],
        config=ModelConfig(
            max_batch_size=MAX_BATCH,
            # docs/binding_configuration.md, "Dynamic batching". Whether a delay pays depends on the load, so a server
            # without one and a server with one are measured, and the better one counts at each number of streams.
            batcher=DynamicBatcher(max_queue_delay_microseconds=options.queue_delay_us),
        ),
    )


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--http-port", type=int, help="not used: gRPC alone is served")
    parser.add_argument("--metrics-port", type=int, help="not used: Triton's statistics come over gRPC")
    parser.add_argument("--queue-delay-us", type=int, default=0)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `serve` ends in order at KeyboardInterrupt
    with tempfile.TemporaryDirectory(prefix="pytriton-") as folder:
        triton = server(options, f"{folder}/workspace")  # PyTriton makes it, and refuses one that exists
        bind(triton, options)
        triton.serve()


if __name__ == "__main__":  # Triton's backend starts processes that import this file again
    main()
