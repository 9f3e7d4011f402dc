"""
The messages of protos/ for code outside this package, and their form in JSON.

JSON for scripts: field names as in the .proto files, every field present, numbers as numbers, times as RFC 3339 text, unset
fields as null. A version is always text, because a version may be named by an alias too.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.protocol.pb import admin_pb2 as admin
from gateway.protocol.pb import feedback_pb2 as feedback
from gateway.protocol.pb import inference_pb2 as inference

__all__ = ["Message", "Timestamp", "admin", "as_json", "feedback", "inference"]

_VERSION_FIELDS = frozenset({"version", "default_version", "latest_version", "parent_version"})


def as_json(message: Message) -> dict[str, Any]:
    """Converts the message to a dict that `json.dumps` takes."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value: Any = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return {key: str(item) if field.name == "aliases" else item for key, item in sorted(value.items())}
    if field.is_repeated:
        return [as_json(item) if kind is not None else item for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    if isinstance(value, Timestamp):
        return value.ToJsonString()
    if kind is not None:
        return as_json(value)
    if field.name in _VERSION_FIELDS and not isinstance(value, str):
        return str(value) if value else None
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value
