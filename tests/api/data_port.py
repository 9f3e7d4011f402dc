"""The services of the data port on a real port, for a snapshot and a control that tests give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import grpc
import pytest

from gateway.api.health import Health
from gateway.contract.desired import DesiredRoute, DesiredVersion
from gateway.contract.questions import AnyAnswerValue, AnyQuestion, Done
from gateway.errors import AskRefused
from gateway.protocol.services import INFERENCE, INFERENCE_NAME, Stub
from gateway.versions.loaded import LoadedVersion
from gateway.versions.snapshot import Snapshot
from registry.deployment import Batching
from registry.errors import ExpectedError
from registry.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 4)),))


def snapshot_of(model: str, *numbers: int, **aliases: int) -> Snapshot:
    """A model with these versions READY, the first as the default."""
    desired = {number: DesiredVersion(number, "/m", "digest", SIGNATURE, None, True, Batching()) for number in numbers}
    ready = {number: LoadedVersion(model, version, None) for number, version in desired.items()}  # type: ignore[arg-type]
    route = DesiredRoute(1, numbers[0], (), "salt", None, aliases)
    states = dict.fromkeys(numbers, "READY")
    return Snapshot({model: route}, {model: MappingProxyType(ready)}, {model: states}, {model: desired})


@dataclass
class FakeWorker:
    """A worker of one snapshot. ``answer`` answers what is asked of control; ``asked`` are the questions."""

    snapshot: Snapshot
    place: str = "0/1"
    is_serving: bool = True
    answer: Callable[[AnyQuestion], AnyAnswerValue] = lambda question: Done("m")
    asked: list[AnyQuestion] = field(default_factory=list)

    def ask(self, question: AnyQuestion, timeout_s: float) -> AnyAnswerValue:
        self.asked.append(question)
        try:
            return self.answer(question)
        except ExpectedError as error:
            raise AskRefused(str(error), kind=type(error).__name__, reason=error.reason, **error.metadata) from None


@dataclass
class DataPort:
    """``rpc.Name(request)`` calls a method of the inference service."""

    worker: FakeWorker
    health: Health
    channel: grpc.Channel

    @property
    def rpc(self) -> Any:
        return Stub(self.channel, INFERENCE, name=INFERENCE_NAME)


def refused(call: Callable[[], object]) -> grpc.RpcError:
    """The status of a call that fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value
