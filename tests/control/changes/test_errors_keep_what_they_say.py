"""An error whose text is extended on the way keeps its type, its metadata and its retry delay."""

from __future__ import annotations

import pytest

from gateway import errors as gateway_errors
from gateway.api.status_codes import describe
from gateway.errors import AskRefused, GatewayError, Overloaded
from registry import errors as registry_errors
from registry.errors import ExpectedError, RegistryError


def _leaves(kind: type[ExpectedError]) -> list[type[ExpectedError]]:
    modules = (gateway_errors.__name__, registry_errors.__name__)
    below = [cls for cls in kind.__subclasses__() if cls.__module__ in modules]
    return [leaf for cls in below for leaf in _leaves(cls)] if below else [kind]


def _made(kind: type[ExpectedError]) -> ExpectedError:
    more = {"code": "NOT_FOUND", "reason": "GONE"} if kind is AskRefused else {}
    return kind("short", **more, model="m")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [*_leaves(GatewayError), *_leaves(RegistryError)], ids=lambda kind: kind.__name__)
def test_another_text_is_all_that_changes(kind):
    error = _made(kind)
    other = error.with_message(f"{error}; and more")
    assert (type(other), str(other)) == (kind, "short; and more")
    assert (other.reason, other.metadata) == (error.reason, error.metadata)
    assert describe(other)[0] is describe(error)[0]
    assert str(error) == "short"


def test_a_retry_delay_stays():
    error = Overloaded("full", retry_after_s=3.0, limit=8).with_message("full; the old version serves again")
    assert error.retry_after_s == 3.0
    assert ("grpc-retry-pushback-ms", "3000") in describe(error)[2]
