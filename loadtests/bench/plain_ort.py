"""ONNX Runtime alone, no server: rows a second one by one and in batches. Usage: plain_ort MODEL SECONDS BATCH."""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime

from gateway.demo.models import INPUT


def rows_per_s(model: str, seconds: float, batch: int) -> float:
    """Rows a second in a loop that does nothing else, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    feed = {INPUT: np.random.default_rng(0).uniform(0, 16, (batch, 64)).astype(np.float32)}
    for _ in range(100):
        session.run(None, feed)
    rows, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for _ in range(20):
            session.run(None, feed)
        rows += 20 * batch
    return rows / took


if __name__ == "__main__":
    print(rows_per_s(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
