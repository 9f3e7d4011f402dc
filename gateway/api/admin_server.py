"""The admin port: `interlock.v1.AdminService`, the model-control calls of the Open Inference Protocol, health, reflection."""

from __future__ import annotations

from typing import Any

import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gateway.api.admin_service import AdminService
from gateway.api.forwarded import INFERENCE_RPCS, Forwarded
from gateway.api.health import health_servicer
from gateway.api.status_codes import guarded
from gateway.control.control import Control
from gateway.protocol.grpc_server import grpc_server
from gateway.protocol.services import ADMIN, INFERENCE, INFERENCE_NAME, handlers

THREADS = 64  # every watched operation takes one
MAX_MESSAGE_BYTES = 17 << 20  # one example may have all the bytes that examples may have

_log = structlog.get_logger("interlock.admin")


class AdminServer:
    """
    Serves ``control`` on ``address`` ("host:port", port 0: any free one). It serves in plain text and to everyone who can
    connect, so the address should be a loopback one.
    """

    def __init__(self, control: Control, address: str) -> None:
        self._address = address
        generated, reflecting = _untyped(health_pb2_grpc), _untyped(reflection)
        self._health = health_servicer()
        self._server = grpc_server("admin", threads=THREADS, max_receive_bytes=MAX_MESSAGE_BYTES)
        forwarded = {name: guarded(_answered(control, rpc)) for name, rpc in INFERENCE_RPCS.items()}
        self._server.add_generic_rpc_handlers(
            (handlers(ADMIN, AdminService(control).behaviours()), handlers(INFERENCE, forwarded, name=INFERENCE_NAME))
        )
        generated.add_HealthServicer_to_server(self._health, self._server)
        names = (ADMIN.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflecting.enable_server_reflection(names, self._server)

    def start(self) -> str:
        """Listens and serves. Returns the bound address. Raises OSError that names the address if it cannot."""
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen for administration on {self._address}: {error}") from error
        self._server.start()
        for name in ("", ADMIN.full_name):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        bound = f"{self._address.rpartition(':')[0]}:{port}"
        _log.info("admin_listening", address=bound)
        return bound

    def stop(self, grace_s: float) -> None:
        """
        Sets health to NOT_SERVING and refuses new calls; running ones have ``grace_s`` seconds. Returns when the port is
        closed.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()


def _untyped(module: Any) -> Any:
    """Imports a module whose functions have no types."""
    return module


def _answered(control: Control, rpc: Forwarded) -> Any:
    return lambda request, context: rpc.response(control.answers.to(rpc.question(request)))
