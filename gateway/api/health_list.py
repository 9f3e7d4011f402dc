"""
The List call of grpc.health.v1, which grpcio-health-checking does not have yet: every service with its status at once.
https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto. Drop this file when the library has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MessageOptions
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

Field = FieldDescriptorProto
SERVICE = "grpc.health.v1.Health"


def list_handler(statuses: Callable[[], Mapping[str, int]]) -> grpc.GenericRpcHandler:
    """
    Returns a handler that answers List with the result of ``statuses``: numbers of HealthCheckResponse.ServingStatus by
    name.
    """

    def answer(request: bytes, context: grpc.ServicerContext) -> Any:
        return ListResponse(statuses={name: {"status": status} for name, status in statuses().items()})

    method: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        answer, response_serializer=lambda message: message.SerializeToString()
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"List": method})


def _list_response() -> Any:
    """HealthListResponse: ``map<string, HealthCheckResponse> statuses = 1``, in a pool of its own."""
    file = FileDescriptorProto(name="health_list.proto", package="interlock.health", syntax="proto3")
    status = file.message_type.add(name="Status")
    status.field.add(name="status", number=1, type=Field.TYPE_INT32, label=Field.LABEL_OPTIONAL)
    response = file.message_type.add(name="ListResponse")
    entry = DescriptorProto(name="StatusesEntry", options=MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=Field.TYPE_MESSAGE, label=Field.LABEL_OPTIONAL, type_name=".interlock.health.Status"
    )
    response.nested_type.append(entry)
    response.field.add(
        name="statuses",
        number=1,
        type=Field.TYPE_MESSAGE,
        label=Field.LABEL_REPEATED,
        type_name=".interlock.health.ListResponse.StatusesEntry",
    )
    pool: Any = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("interlock.health.ListResponse"))


ListResponse = _list_response()
