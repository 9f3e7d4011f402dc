"""How many inferences each peer says it answered: h2load counts HTTP answers, which a gRPC error is too."""

from __future__ import annotations

import re
import urllib.request
from dataclasses import dataclass

from gateway.client.grpc_channel import Channel
from gateway.protocol.messages import inference

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a peer listens on loopback."""

    grpc: int
    http: int
    metrics: int


def of_mlserver(ports: Ports, model: str) -> int:
    """From its Prometheus metrics: successful inferences."""
    return sample_sum(_page(ports.metrics), "model_infer_request_success_total", f'model="{model}"')


def of_kserve(ports: Ports, model: str) -> int:
    """From its Prometheus metrics: predictions that reached their last step, which a failed one does not."""
    return sample_sum(_page(ports.http), "request_postprocess_seconds_count", f'model_name="{model}"')


def of_triton(ports: Ports, model: str) -> int:
    """From Triton's statistics: successful inferences."""
    with Channel(f"127.0.0.1:{ports.grpc}") as channel:
        request = inference.ModelStatisticsRequest(name=model)
        answer = channel.call(channel.inference.ModelStatistics, request, timeout_s=TIMEOUT_S)
    return sum(one.inference_stats.success.count for one in answer.model_stats)


def _page(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S) as response:
        return str(response.read().decode())


def sample_sum(page: str, name: str, label: str) -> int:
    """The sum of a Prometheus metric's samples that carry the label."""
    found = re.findall(rf"^{re.escape(name)}\{{([^}}]*)\}} (\S+)", page, re.MULTILINE)
    return int(sum(float(value) for labels, value in found if label in labels.split(",")))
