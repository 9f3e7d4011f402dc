"""`AsyncClient`: the same as `Client` for asyncio. It belongs to the event loop that makes its first call."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self

from gateway.client import inference as values
from gateway.client.aio_channels import AsyncChannels
from gateway.client.call_errors import CallError, DeadlineExceeded, RequestRefused, Unavailable
from gateway.client.client import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S, READY_POLL_S, channel_count
from gateway.client.feedback import Feedback, FeedbackResult, astream_messages, item_message, results
from gateway.client.grpc_channel import DEFAULT_MAX_MESSAGE_BYTES, AsyncChannel
from gateway.client.inference import ModelInfo, Prediction
from gateway.client.retry import RetryBudget, RetryPolicy, delay_s, is_retryable
from gateway.client.streaming import AsyncRequests, Inputs, outcome
from gateway.client.tensors import Array
from gateway.protocol.messages import feedback, inference


class AsyncClient:
    """A client of a gateway's data port (an async context manager); arguments as for `Client`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        channels: int | Literal["auto"] = "auto",
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._channels = AsyncChannels(
            lambda: AsyncChannel(address, max_message_bytes=max_message_bytes), channel_count(channels)
        )
        self._timeout_s = timeout_s
        self._policy = retry or RetryPolicy()
        self._budget = RetryBudget(self._policy)
        self._sleep, self._now = sleep, now
        self._only_inputs: dict[tuple[str, str], str] = {}

    async def infer(
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
        """Returns a prediction; see `Client.infer`. Cancelling the task cancels the call."""
        deadline = self._deadline(timeout_s)
        arrays = inputs if isinstance(inputs, Mapping) else {await self._only_input(model, version, deadline): inputs}
        message = values.request_message(
            model, arrays, version=version, unit_id=unit_id, request_id=request_id, outputs=outputs, datatypes=datatypes
        )
        try:
            return values.prediction(await self._call(lambda c: c.inference.ModelInfer, message, deadline, headers))
        except RequestRefused:
            self._only_inputs.pop((model, version), None)  # another version may name its input differently
            raise

    async def stream(
        self,
        model: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        version: str = "",
        unit_id: str | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        datatypes: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Prediction | CallError]:
        """Yields predictions over one stream; see `Client.stream`. ``inputs`` may be an async iterable."""

        async def message(item: Inputs) -> inference.ModelInferRequest:
            arrays = item if isinstance(item, Mapping) else {await self._only_input(model, version, self._deadline(None)): item}
            return values.request_message(model, arrays, version=version, unit_id=unit_id, outputs=outputs, datatypes=datatypes)

        requests = AsyncRequests(message)
        async with self._channels.next() as channel:
            responses = channel.stream(
                channel.inference.ModelStreamInfer, requests.of(inputs), timeout_s=timeout_s, headers=headers
            )
            async with aclosing(responses):
                async for response in responses:
                    yield outcome(response)
        requests.check()

    async def metadata(self, model: str, version: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Returns a model's inputs and outputs. Raises NotFound."""
        message = inference.ModelMetadataRequest(name=model, version=version)
        return values.model_info(await self._call(lambda c: c.inference.ModelMetadata, message, self._deadline(timeout_s)))

    async def is_ready(self, model: str = "", version: str = "", *, timeout_s: float = 5.0) -> bool:
        """Whether the gateway (or one model of it) serves now; False also if nobody answers."""
        async with self._channels.next() as channel:
            try:
                if model:
                    message: Any = inference.ModelReadyRequest(name=model, version=version)
                    return bool((await channel.call(channel.inference.ModelReady, message, timeout_s=timeout_s)).ready)
                message = inference.ServerReadyRequest()
                return bool((await channel.call(channel.inference.ServerReady, message, timeout_s=timeout_s)).ready)
            except CallError:
                return False

    async def wait_ready(self, timeout_s: float = 30.0, *, model: str = "", version: str = "") -> None:
        """Returns as soon as the gateway (or one model) serves. Raises DeadlineExceeded."""
        deadline = self._now() + timeout_s
        while not await self.is_ready(model, version, timeout_s=max(0.05, min(5.0, deadline - self._now()))):
            if self._now() + READY_POLL_S >= deadline:
                what = f"model {model!r} at {self.address}" if model else f"the gateway at {self.address}"
                raise DeadlineExceeded(f"{what} is not ready after {timeout_s:g} s", code="DEADLINE_EXCEEDED")
            await self._sleep(READY_POLL_S)

    async def send_feedback(self, items: Sequence[Feedback], *, timeout_s: float | None = None) -> list[FeedbackResult]:
        """Sends ground truth; see `Client.send_feedback`."""
        message = feedback.SendFeedbackRequest(items=[item_message(item) for item in items])
        response = await self._call(lambda c: c.feedback.SendFeedback, message, self._deadline(timeout_s))
        return results(response.results)

    async def stream_feedback(
        self, items: Iterable[Feedback] | AsyncIterable[Feedback], *, timeout_s: float | None = None
    ) -> list[FeedbackResult]:
        """Sends very many items; see `Client.stream_feedback`."""
        async with self._channels.next() as channel:
            response = await channel.call(channel.feedback.StreamFeedback, astream_messages(items), timeout_s=timeout_s)
        return results(response.results)

    async def close(self) -> None:
        """Closes all connections."""
        await self._channels.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _only_input(self, model: str, version: str, deadline: float) -> str:
        name = self._only_inputs.get((model, version))
        if name is None:
            name = values.only_input(await self.metadata(model, version, timeout_s=max(0.0, deadline - self._now())))
            self._only_inputs[model, version] = name
        return name

    async def _call(
        self, rpc: Callable[[AsyncChannel], Any], message: Any, deadline: float, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Makes one call with its retries, every attempt on the next connection."""
        errors: list[CallError] = []
        for attempt in itertools.count(1):
            try:
                async with self._channels.next() as channel:
                    left_s = max(0.0, deadline - self._now())
                    response = await channel.call(rpc(channel), message, timeout_s=left_s, headers=headers)
            except CallError as error:
                if isinstance(error, Unavailable):
                    self._channels.doubt()
                if not (is_retryable(error, errors) and self._budget.failed()):
                    raise
                errors.append(error)
                wait_s = delay_s(self._policy, error, attempt, deadline - self._now(), random.random())
                if wait_s is None:
                    raise
                await self._sleep(wait_s)
            else:
                self._budget.succeeded()
                return response
        raise AssertionError("unreachable: the loop returns or raises")

    def _deadline(self, timeout_s: float | None) -> float:
        return self._now() + (self._timeout_s if timeout_s is None else timeout_s)
