"""
grpc.health.v1 on a port: "" for the server and one name per model, as the published snapshots say.

A server that is about to stop is NOT_SERVING for good, so that load balancers send callers elsewhere before it drains.
"""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway.api.health_list import list_handler
from gateway.versions.snapshot import Snapshot

Status = health_pb2.HealthCheckResponse


class Health:
    """The answers of the health service. Thread-safe; NOT_SERVING until `serve`."""

    def __init__(self) -> None:
        made: Any = health  # grpcio-health-checking has no types
        self._servicer: Any = made.HealthServicer()
        self._servicer.set("", Status.NOT_SERVING)
        self._models: dict[str, bool] = {}

    def add_to(self, server: grpc.Server) -> None:
        """Registers the service, with List."""
        generated: Any = health_pb2_grpc
        generated.add_HealthServicer_to_server(self._servicer, server)
        server.add_generic_rpc_handlers((list_handler(lambda: dict(self._servicer._server_status)),))

    def serve(self) -> None:
        """Sets the whole server to SERVING."""
        self._servicer.set("", Status.SERVING)

    def show(self, snapshot: Snapshot) -> None:
        """Sets a model to SERVING while it has a route in force; one that is gone becomes SERVICE_UNKNOWN. For one thread."""
        models = {name: name in snapshot.routes for name in {*snapshot.states, *snapshot.routes}}
        for name in {*models, *self._models}:
            if models.get(name) != self._models.get(name):
                self._servicer.set(name, _status(models.get(name)))
        self._models = models

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
