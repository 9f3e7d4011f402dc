"""
The Python client: `Client` and `AsyncClient` for the data port, `AdminClient` for the admin port, and what they give.

Importing it loads numpy and grpc, and nothing that serving needs (no onnxruntime, no database).
"""

from gateway.client.admin import AdminClient, Updates
from gateway.client.aio import AsyncClient
from gateway.client.call_errors import (
    CallCancelled,
    CallError,
    CannotSend,
    Conflict,
    DeadlineExceeded,
    GatewayFailed,
    NotFound,
    NotPermitted,
    NotSupported,
    Overloaded,
    RequestRefused,
    RuleForbids,
    Unavailable,
    Unreachable,
)
from gateway.client.client import Client
from gateway.client.feedback import Feedback, FeedbackResult, Verdict
from gateway.client.inference import ModelInfo, Prediction, TensorInfo
from gateway.client.retry import RetryPolicy
from gateway.client.tensors import TensorError
from gateway.client.upload import Lineage, UploadError

__all__ = [
    "AdminClient",
    "AsyncClient",
    "CallCancelled",
    "CallError",
    "CannotSend",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "Feedback",
    "FeedbackResult",
    "GatewayFailed",
    "Lineage",
    "ModelInfo",
    "NotFound",
    "NotPermitted",
    "NotSupported",
    "Overloaded",
    "Prediction",
    "RequestRefused",
    "RetryPolicy",
    "RuleForbids",
    "TensorError",
    "TensorInfo",
    "Unavailable",
    "Unreachable",
    "Updates",
    "UploadError",
    "Verdict",
]
