"""`Client`: predictions, metadata and ground truth over the data port, for code that waits. Thread-safe."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from gateway.client import inference as values
from gateway.client.call_errors import CallError, DeadlineExceeded, RequestRefused, Unavailable
from gateway.client.channels import Channels
from gateway.client.feedback import Feedback, FeedbackResult, item_message, results, stream_messages
from gateway.client.grpc_channel import DEFAULT_MAX_MESSAGE_BYTES, Channel
from gateway.client.inference import ModelInfo, Prediction
from gateway.client.retry import RetryBudget, RetryPolicy, delay_s, is_retryable
from gateway.client.streaming import Inputs, Requests, outcome
from gateway.client.tensors import Array
from gateway.protocol.messages import feedback, inference

DEFAULT_ADDRESS = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 30.0
READY_POLL_S = 0.05


class Client:
    """
    A client of a gateway's data port, open until closed (a context manager).

    ``timeout_s`` is the deadline of a call with all its retries, unless the call has its own. Workers share the port, and
    connections, not calls, are spread over them. With ``channels`` "auto" the client keeps one connection to each worker (16
    at most; it looks for them in the background after the first calls, and again every half minute). With a number it keeps
    so many, whichever workers they reach. Calls take turns over them. ``sleep`` and ``now`` (monotonic seconds) are for
    tests.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        channels: int | Literal["auto"] = "auto",
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._channels = Channels(lambda: Channel(address, max_message_bytes=max_message_bytes), channel_count(channels))
        self._timeout_s = timeout_s
        self._policy = retry or RetryPolicy()
        self._budget = RetryBudget(self._policy)
        self._sleep, self._now = sleep, now
        self._only_inputs: dict[tuple[str, str], str] = {}

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array] | Array,
        *,
        version: str = "",
        unit_id: str | None = None,
        request_id: str = "",
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        datatypes: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """
        Returns a prediction.

        ``inputs``: arrays by name, or one array for a model with one input; their dtypes must be the model's. ``version``:
        "" is routed by the deployment, a number or an alias names one version. The same ``unit_id`` always gets the same
        arm. ``request_id`` comes back and may name the prediction in feedback. ``outputs``: only these. ``datatypes``
        overrides by name what the dtypes say (BF16 as uint16). ``headers`` go out as metadata, e.g. ``traceparent``. Raises
        CallError (see `gateway.client.call_errors`), and TensorError for an array that the protocol has no form for.
        """
        deadline = self._deadline(timeout_s)
        arrays = inputs if isinstance(inputs, Mapping) else {self._only_input(model, version, deadline): inputs}
        message = values.request_message(
            model, arrays, version=version, unit_id=unit_id, request_id=request_id, outputs=outputs, datatypes=datatypes
        )
        try:
            return values.prediction(self._call(lambda c: c.inference.ModelInfer, message, deadline, headers))
        except RequestRefused:
            self._only_inputs.pop((model, version), None)  # another version may name its input differently
            raise

    def stream(
        self,
        model: str,
        inputs: Iterable[Inputs],
        *,
        version: str = "",
        unit_id: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        datatypes: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[Prediction | CallError]:
        """
        Yields predictions for everything that ``inputs`` yields, over one stream: requests go out without waiting for
        answers (the gateway bounds how many are in flight), answers come in the same order. The fastest way to ask for many.

        If a request is refused or fails, its error is yielded in its place and the stream goes on. Leaving the iterator
        cancels the rest. Arguments as for `infer`; there is no default timeout, and nothing is retried. Raises CallError if
        the stream itself ends early, and whatever ``inputs`` raises, after the answers so far.
        """

        def message(item: Inputs) -> inference.ModelInferRequest:
            arrays = item if isinstance(item, Mapping) else {self._only_input(model, version, self._deadline(None)): item}
            return values.request_message(model, arrays, version=version, unit_id=unit_id, outputs=outputs, datatypes=datatypes)

        requests = Requests(message)
        with self._channels.next() as channel:
            rpc = channel.inference.ModelStreamInfer
            for response in channel.stream(rpc, requests.of(inputs), timeout_s=timeout_s, headers=headers):
                yield outcome(response)
        requests.check()

    def metadata(self, model: str, version: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Returns a model's inputs and outputs. Raises NotFound."""
        message = inference.ModelMetadataRequest(name=model, version=version)
        return values.model_info(self._call(lambda c: c.inference.ModelMetadata, message, self._deadline(timeout_s)))

    def is_ready(self, model: str = "", version: str = "", *, timeout_s: float = 5.0) -> bool:
        """Whether the gateway (or one model of it) serves now; False also if nobody answers."""
        with self._channels.next() as channel:
            try:
                if model:
                    message: Any = inference.ModelReadyRequest(name=model, version=version)
                    return bool(channel.call(channel.inference.ModelReady, message, timeout_s=timeout_s).ready)
                message = inference.ServerReadyRequest()
                return bool(channel.call(channel.inference.ServerReady, message, timeout_s=timeout_s).ready)
            except CallError:
                return False

    def wait_ready(self, timeout_s: float = 30.0, *, model: str = "", version: str = "") -> None:
        """Returns as soon as the gateway (or one model) serves. Raises DeadlineExceeded."""
        deadline = self._now() + timeout_s
        while not self.is_ready(model, version, timeout_s=max(0.05, min(5.0, deadline - self._now()))):
            if self._now() + READY_POLL_S >= deadline:
                what = f"model {model!r} at {self.address}" if model else f"the gateway at {self.address}"
                raise DeadlineExceeded(f"{what} is not ready after {timeout_s:g} s", code="DEADLINE_EXCEEDED")
            self._sleep(READY_POLL_S)

    def send_feedback(self, items: Sequence[Feedback], *, timeout_s: float | None = None) -> list[FeedbackResult]:
        """
        Sends ground truth. Returns the verdicts in the order of the items. Retried like a prediction: an item that had
        already arrived is then a DUPLICATE, and counted once.
        """
        message = feedback.SendFeedbackRequest(items=[item_message(item) for item in items])
        return results(self._call(lambda c: c.feedback.SendFeedback, message, self._deadline(timeout_s)).results)

    def stream_feedback(self, items: Iterable[Feedback], *, timeout_s: float | None = None) -> list[FeedbackResult]:
        """
        Sends very many items while ``items`` yields them. Returns the verdicts at the end. Not retried, no default timeout.
        """
        with self._channels.next() as channel:
            response = channel.call(channel.feedback.StreamFeedback, stream_messages(items), timeout_s=timeout_s)
        return results(response.results)

    def close(self) -> None:
        """Closes all connections."""
        self._channels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _only_input(self, model: str, version: str, deadline: float) -> str:
        name = self._only_inputs.get((model, version))
        if name is None:
            name = values.only_input(self.metadata(model, version, timeout_s=max(0.0, deadline - self._now())))
            self._only_inputs[model, version] = name
        return name

    def _call(
        self, rpc: Callable[[Channel], Any], message: Any, deadline: float, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Makes one call with its retries, every attempt on the next connection."""
        errors: list[CallError] = []
        for attempt in itertools.count(1):
            try:
                with self._channels.next() as channel:
                    left_s = max(0.0, deadline - self._now())
                    response = channel.call(rpc(channel), message, timeout_s=left_s, headers=headers)
            except CallError as error:
                if isinstance(error, Unavailable):
                    self._channels.doubt()
                if not (is_retryable(error, errors) and self._budget.failed()):
                    raise
                errors.append(error)
                wait_s = delay_s(self._policy, error, attempt, deadline - self._now(), random.random())
                if wait_s is None:
                    raise
                self._sleep(wait_s)
            else:
                self._budget.succeeded()
                return response
        raise AssertionError("unreachable: the loop returns or raises")

    def _deadline(self, timeout_s: float | None) -> float:
        return self._now() + (self._timeout_s if timeout_s is None else timeout_s)


def channel_count(channels: int | Literal["auto"]) -> int | None:
    """Returns the wanted number of connections; None for as many as there are workers. Raises ValueError."""
    if channels == "auto":
        return None
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f'channels: expected 1 or more, or "auto", got {channels!r}')
    return channels
