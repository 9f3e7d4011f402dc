"""A data plane on a real port: real models, real gRPC, either lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from plane_models import save

from gateway.api.status_codes import describe
from gateway.clock import SystemClock
from gateway.contract.desired import DesiredRoute, DesiredVersion
from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import INFER_METHOD
from gateway.runtime.trial import TrialOrder, examine
from gateway.serving.lane.call import Lane
from gateway.serving.lane.opening import open_lane
from gateway.serving.on_demand.parking import Ask
from gateway.serving.plane import DataPlane
from gateway.settings.sections import PredictionSettings, RequestSettings
from gateway.telemetry.worker_tracing import Tracing
from gateway.versions.loaded import LoadedVersion
from gateway.versions.onnx_loader import OnnxLoader
from gateway.versions.recent_inputs import RecentInputs
from gateway.versions.snapshot import Snapshot
from registry.batching import can_split
from registry.deployment import Batching, Segment, Shadow

EPOCH = 77
DEFAULT_BATCHING = Batching()


@dataclass
class Gate:
    """A serving plane: add versions, set routes, call it."""

    plane: DataPlane
    loader: OnnxLoader
    channel: grpc.Channel
    address: str
    folder: Path
    loaded: dict[str, dict[int, LoadedVersion]] = field(default_factory=dict)
    desired: dict[str, dict[int, DesiredVersion]] = field(default_factory=dict)
    routes: dict[str, DesiredRoute] = field(default_factory=dict)

    def load(
        self, model: str, number: int, proto: object, *, batching: Batching = DEFAULT_BATCHING, is_class: bool = True
    ) -> LoadedVersion:
        path = save(proto, self.folder / f"{model}-{number}.onnx")
        outcome = examine(TrialOrder(str(path), None, 1 << 40, 600))
        assert outcome.facts is not None, outcome.refusal
        known = outcome.facts
        version = DesiredVersion(
            number,
            str(path),
            "digest",
            known.signature,
            known.prediction if is_class else None,
            known.is_batchable,
            batching,
            batched_inputs=known.batched_inputs,
            can_split=can_split(known),
        )
        served = self.loader.load(model, version)
        served.warm_up()
        self.loaded.setdefault(model, {})[number] = served
        self.desired.setdefault(model, {})[number] = version
        return served

    def route(self, model: str, default: int, *segments: Segment, shadow: Shadow | None = None, **aliases: int) -> None:
        revision = self.routes[model].revision + 1 if model in self.routes else 1
        self.routes[model] = DesiredRoute(revision, default, segments, "salt", shadow, aliases)
        self.publish()

    def publish(self) -> None:
        states = {model: dict.fromkeys(versions, "READY") for model, versions in self.loaded.items()}
        ready = {model: dict(versions) for model, versions in self.loaded.items()}
        self.plane.publish(Snapshot(dict(self.routes), ready, states, self.desired))

    def infer(self, request: pb.ModelInferRequest, **options: object) -> pb.ModelInferResponse:
        return self.call(request.SerializeToString(), **options)

    def start(self, request: pb.ModelInferRequest, timeout: float = 60) -> grpc.Future:
        """A call under way: to be cancelled, or asked for its code."""
        return self.channel.unary_unary(INFER_METHOD).future(request.SerializeToString(), timeout=timeout)

    def call(self, message: bytes, timeout: float = 20, **options: object) -> pb.ModelInferResponse:
        method = self.channel.unary_unary(INFER_METHOD, response_deserializer=pb.ModelInferResponse.FromString)
        return method(message, timeout=timeout, **options)


@pytest.fixture(params=["fast", "standard"])
def lane_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_gate(tmp_path: Path) -> Iterator[Callable[..., Gate]]:
    """Opens planes on either lane; all are stopped at the end."""
    opened: list[tuple[grpc.Server, Lane, Gate]] = []

    def start(kind: str = "fast", tracing: Tracing | None = None, ask: Ask | None = None, **config: object) -> Gate:
        server = grpc.server(futures.ThreadPoolExecutor(32))
        port = server.add_insecure_port("127.0.0.1:0")
        lane = open_lane(server, kind)
        assert lane.kind == kind
        recent = RecentInputs()
        plane = DataPlane(
            RequestSettings(**{name: config.pop(name) for name in ("shared_memory", "unit_header") if name in config}),
            PredictionSettings(**config),
            epoch=EPOCH,
            incarnation="test",
            describe=describe,
            tracing=tracing or Tracing(),
            recent=recent,
            clock=SystemClock(),
            seed=1,
        )
        if ask is not None:
            plane.load_on_demand(ask)
        server.start()
        lane.start()
        plane.serve(lane)
        address = f"127.0.0.1:{port}"
        gate = Gate(plane, OnnxLoader(1, recent), grpc.insecure_channel(address), address, tmp_path)
        opened.append((server, lane, gate))
        return gate

    yield start
    for server, lane, gate in opened:
        gate.channel.close()
        stopped = server.stop(5)
        lane.server_stopped()
        assert stopped.wait(10)
        gate.plane.stop()


@pytest.fixture
def gate(open_gate: Callable[..., Gate], lane_kind: str) -> Gate:
    return open_gate(lane_kind)
