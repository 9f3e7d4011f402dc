"""
grpc.health.v1 on a port: "" for the server, its services, and one name per model, as the published snapshots say.

A server that is about to stop is NOT_SERVING for good, so that load balancers send callers elsewhere before it drains.
"""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.api.header_size import MAX_MESSAGE_BYTES, shortened
from gateway.api.health_list import list_handler
from gateway.protocol.services import FEEDBACK, INFERENCE_NAME
from gateway.versions.snapshot import Snapshot

Status = health_pb2.HealthCheckResponse


SERVICES = ("", INFERENCE_NAME, FEEDBACK.full_name)


def health_servicer() -> Any:
    """Returns grpcio-health-checking's servicer, with a text for a name that it does not know: its own has none."""
    untyped: Any = health
    servicer = untyped.HealthServicer()
    check = servicer.Check

    def check_and_tell(request: Any, context: Any) -> Any:
        response = check(request, context)
        if context.code() is grpc.StatusCode.NOT_FOUND:
            name = shortened(repr(request.service), MAX_MESSAGE_BYTES // 2)
            context.set_details(f"service {name}: not found, expected '' for the server, or the name of a service or a model")
        return response

    servicer.Check = check_and_tell
    return servicer


class Health:
    """The answers of the health service. Thread-safe; NOT_SERVING until `serve`."""

    def __init__(self) -> None:
        self._servicer = health_servicer()
        self._set_services(Status.NOT_SERVING)
        self._models: dict[str, bool] = {}

    def add_to(self, server: grpc.Server) -> None:
        """Registers the service, with List."""
        generated: Any = health_pb2_grpc
        generated.add_HealthServicer_to_server(self._servicer, server)
        server.add_generic_rpc_handlers((list_handler(lambda: dict(self._servicer._server_status)),))

    def serve(self) -> None:
        """Sets the whole server to SERVING."""
        self._set_services(Status.SERVING)

    def show(self, snapshot: Snapshot) -> None:
        """Sets a model to SERVING while it has a route in force; one that is gone becomes SERVICE_UNKNOWN. For one thread."""
        models = {name: name in snapshot.routes for name in {*snapshot.states, *snapshot.routes}.difference(SERVICES)}
        for name in {*models, *self._models}:
            if models.get(name) != self._models.get(name):
                self._servicer.set(name, _status(models.get(name)))
        self._models = models

    def _set_services(self, status: Any) -> None:
        for name in SERVICES:
            self._servicer.set(name, status)

    def drain(self) -> None:
        """Sets everything to NOT_SERVING for good, whatever snapshots come."""
        self._servicer.enter_graceful_shutdown()

    def end_watches(self) -> None:
        """
        Ends every Watch with status OK. They do not end by themselves, and a stop would wait for them. The library has no
        public method for it, only the callbacks of those that watch.
        """
        for watchers in list(self._servicer._send_response_callbacks.values()):
            for send in list(watchers):
                send(None)


def _status(is_routed: bool | None) -> int:
    if is_routed is None:
        return int(Status.SERVICE_UNKNOWN)
    return int(Status.SERVING if is_routed else Status.NOT_SERVING)
