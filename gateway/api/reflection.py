"""
Server reflection for the data port, with the Open Inference Protocol under the name that clients know.

Our messages live in a private package (see protos/interlock/oip/v2/inference.proto), so reflection gets a pool of its own
in which that file is renamed to package ``inference``.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.protocol.pb import feedback_pb2, inference_pb2
from gateway.protocol.services import FEEDBACK, INFERENCE_NAME

PACKAGE = INFERENCE_NAME.rpartition(".")[0]


def enable_reflection(server: grpc.Server) -> None:
    """Adds ServerReflection, which lists the inference, feedback, health and reflection services."""
    health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    names = (INFERENCE_NAME, FEEDBACK.full_name, health, reflection.SERVICE_NAME)
    untyped: Any = reflection
    untyped.enable_server_reflection(names, server, pool=public_pool())


def public_pool() -> Any:
    """Returns a pool with the files of all services of the data port, as clients see them."""
    pool = DescriptorPool()
    for file in (feedback_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        _add(pool, file)
    pool.AddSerializedFile(_renamed(inference_pb2.DESCRIPTOR).SerializeToString())
    return pool


def _add(pool: Any, file: FileDescriptor) -> None:
    """Adds a file after those that it imports."""
    for dependency in file.dependencies:
        _add(pool, dependency)
    pool.AddSerializedFile(file.serialized_pb)


def _renamed(file: FileDescriptor) -> FileDescriptorProto:
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    old, new = f".{proto.package}.", f".{PACKAGE}."
    proto.package, proto.name = PACKAGE, "inference.proto"
    for message in proto.message_type:
        _rename_in(message, old, new)
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new, 1)
            method.output_type = method.output_type.replace(old, new, 1)
    return proto


def _rename_in(message: DescriptorProto, old: str, new: str) -> None:
    for field in message.field:
        if field.type_name:
            field.type_name = field.type_name.replace(old, new, 1)
    for nested in message.nested_type:
        _rename_in(nested, old, new)
