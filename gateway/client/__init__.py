"""
The Python client: `Client` and `AsyncClient` for the data port, `AdminClient` for the admin port, and their values.

Each name is imported when it is first used: `AdminClient` needs grpc, `Client` numpy too. Nothing here imports what serving
needs (no onnxruntime, no database), and nothing here serves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client.admin import AdminClient as AdminClient
    from gateway.client.admin import Updates as Updates
    from gateway.client.aio import AsyncClient as AsyncClient
    from gateway.client.call_errors import CallCancelled as CallCancelled
    from gateway.client.call_errors import CallError as CallError
    from gateway.client.call_errors import CannotSend as CannotSend
    from gateway.client.call_errors import Conflict as Conflict
    from gateway.client.call_errors import ConnectionBroke as ConnectionBroke
    from gateway.client.call_errors import DeadlineExceeded as DeadlineExceeded
    from gateway.client.call_errors import GatewayFailed as GatewayFailed
    from gateway.client.call_errors import NotFound as NotFound
    from gateway.client.call_errors import NotPermitted as NotPermitted
    from gateway.client.call_errors import NotSupported as NotSupported
    from gateway.client.call_errors import Overloaded as Overloaded
    from gateway.client.call_errors import RequestRefused as RequestRefused
    from gateway.client.call_errors import RuleForbids as RuleForbids
    from gateway.client.call_errors import Unavailable as Unavailable
    from gateway.client.call_errors import Unreachable as Unreachable
    from gateway.client.client import Client as Client
    from gateway.client.feedback import Feedback as Feedback
    from gateway.client.feedback import FeedbackResult as FeedbackResult
    from gateway.client.feedback import Verdict as Verdict
    from gateway.client.inference import ModelInfo as ModelInfo
    from gateway.client.inference import Prediction as Prediction
    from gateway.client.inference import TensorInfo as TensorInfo
    from gateway.client.retry import RetryPolicy as RetryPolicy
    from gateway.client.tensors import TensorError as TensorError
    from gateway.client.upload import Lineage as Lineage
    from gateway.client.upload import UploadError as UploadError

_MODULES = {
    "admin": ("AdminClient", "Updates"),
    "aio": ("AsyncClient",),
    "call_errors": (
        "CallCancelled",
        "CallError",
        "CannotSend",
        "Conflict",
        "DeadlineExceeded",
        "GatewayFailed",
        "NotFound",
        "NotPermitted",
        "NotSupported",
        "Overloaded",
        "RequestRefused",
        "RuleForbids",
        "Unavailable",
        "ConnectionBroke",
        "Unreachable",
    ),
    "client": ("Client",),
    "feedback": ("Feedback", "FeedbackResult", "Verdict"),
    "inference": ("ModelInfo", "Prediction", "TensorInfo"),
    "retry": ("RetryPolicy",),
    "tensors": ("TensorError",),
    "upload": ("Lineage", "UploadError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
