"""
Services from descriptors: server handlers and client stubs for any service of protos/, without generated service code.

The service's name on the wire is told apart from its descriptor, because the Open Inference Protocol's messages live in
a private package (see protos/interlock/oip/v2/inference.proto).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from gateway.protocol.pb import admin_pb2, feedback_pb2, inference_pb2

INFERENCE_NAME = "inference.GRPCInferenceService"
PUSHBACK_KEY = "grpc-retry-pushback-ms"  # trailing metadata: the delay that a server asks for before a retry
WORKER_KEY = "x-interlock-worker"  # trailing metadata of ServerReady and ServerMetadata: who answers, e.g. 1/4
INFER_METHOD = f"/{INFERENCE_NAME}/ModelInfer"
STREAM_METHOD = f"/{INFERENCE_NAME}/ModelStreamInfer"
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
FEEDBACK = feedback_pb2.DESCRIPTOR.services_by_name["FeedbackService"]
INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

Behaviour = Callable[[Any, grpc.ServicerContext], Any]


def handlers(service: ServiceDescriptor, methods: dict[str, Behaviour], *, name: str | None = None) -> grpc.GenericRpcHandler:
    """
    The handler to add to a grpc server: each RPC of ``service`` that ``methods`` names, called as ``method(request, context)``
    (an iterator of requests for client streams; yield responses for server streams). ``name`` overrides the wire name.
    """
    made = {rpc: _handler(service.methods_by_name[rpc], method) for rpc, method in methods.items()}
    return grpc.method_handlers_generic_handler(name or service.full_name, made)


def _handler(rpc: MethodDescriptor, method: Behaviour) -> grpc.RpcMethodHandler[Any, Any]:
    kind = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[rpc.client_streaming, rpc.server_streaming]
    request, response = GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type)
    handler: grpc.RpcMethodHandler[Any, Any] = kind(
        method, request_deserializer=request.FromString, response_serializer=response.SerializeToString
    )
    return handler


class Stub:
    """One attribute per RPC: a callable as grpc's generated stubs have. Works on sync and aio channels."""

    def __init__(self, channel: Any, service: ServiceDescriptor, *, name: str | None = None) -> None:
        for rpc in service.methods:
            shape = f"{'stream' if rpc.client_streaming else 'unary'}_{'stream' if rpc.server_streaming else 'unary'}"
            response = GetMessageClass(rpc.output_type)
            call = getattr(channel, shape)(
                f"/{name or service.full_name}/{rpc.name}",
                request_serializer=GetMessageClass(rpc.input_type).SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, rpc.name, call)

    def __getattr__(self, name: str) -> Any:
        """For type checkers: every RPC is an attribute; any other name is a mistake."""
        raise AttributeError(f"no such RPC: {name}")
