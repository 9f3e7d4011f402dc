"""A collector of traces that only counts, so that the gateway under load really sends what it samples."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """OTLP over gRPC on a free port. ``traces`` counts the requests whose spans have come."""

    def __init__(self) -> None:
        self.traces = 0
        self._server = grpc.server(ThreadPoolExecutor(1))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a process send its traces here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._port}", "OTEL_EXPORTER_OTLP_INSECURE": "true"}

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Counts the traces of one export."""
        self.traces += len(
            {span.trace_id for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans}
        )
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop(1).wait()
