"""Writes that may come twice: the digest of what a request asked for, and the rule for a repeated request_id. Pure."""

from __future__ import annotations

import hashlib

import msgspec

from registry.errors import RequestReplayed
from registry.records import AnsweredRequest

MAX_REQUEST_ID = 128  # characters
KEPT_S = 7 * 86_400.0  # how long a repeat gets the first answer


def fingerprint(verb: str, *content: object) -> str:
    """SHA-256 (hex) of the verb and of values that JSON can hold; the same for the same content, whatever a mapping's order."""
    return hashlib.sha256(msgspec.json.encode([verb, *content], order="deterministic")).hexdigest()


def first_answer(earlier: AnsweredRequest | None, content: str) -> str | None:
    """The answer (JSON) to give again, None for a new request. Raises RequestReplayed when the content is another."""
    if earlier is None:
        return None
    if earlier.fingerprint != content:
        raise RequestReplayed(
            f"request_id: {earlier.request_id!r} was used before for something else; a new request needs a new id",
            request_id=earlier.request_id,
        )
    return earlier.answer
