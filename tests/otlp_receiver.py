"""A receiver of traces on a real port."""

from __future__ import annotations

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from loadtests.bench.collector import Collector


class Receiver(Collector):
    """The benchmark's collector, which keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[ResourceSpans] = []
        super().__init__()

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self.received.extend(request.resource_spans)
        return super().Export(request, context)

    def spans(self) -> list[Span]:
        return [span for resource in self.received for scope in resource.scope_spans for span in scope.spans]
