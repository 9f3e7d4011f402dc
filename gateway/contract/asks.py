"""What a worker asks control, and the answers. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker passes on what only control can answer. ``body`` is the request's protobuf bytes, as the client sent them."""

    token: int
    method: str
    body: bytes


LOAD_VERSION = "LoadVersion"  # the method of an `Ask` that carries a `Wish`


@dataclass(frozen=True, slots=True)
class Wish:
    """
    A caller's version (number or alias) that this worker does not hold. Encoded as msgpack in an `Ask`; the body of the
    answer is the version's number as text, and the version itself comes by the desired state.
    """

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Control's answer to the `Ask` with this token: protobuf bytes, or an error (``code`` a gRPC code name other than
    OK, with reason, message and metadata).
    """

    token: int
    body: bytes = b""
    code: str = "OK"
    reason: str = ""
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
