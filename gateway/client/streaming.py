"""A stream of predictions as values: inputs become requests while they are sent, answers come in their order."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway.client.call_errors import CallError, error_of
from gateway.client.inference import Prediction, prediction
from gateway.client.tensors import Array
from gateway.protocol.messages import inference

Inputs = Mapping[str, Array] | Array


class _Making:
    """
    Requests of one stream, made one after the other while gRPC sends. What goes wrong in the making, or is raised by the
    caller's own iterator, ends the stream after the answers to what was sent, and is kept for the reader to raise: gRPC
    would only say that there was something.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def check(self) -> None:
        """Raises what went wrong in the making."""
        if self._error is not None:
            raise self._error


class Requests(_Making):
    """Makes requests in a thread of gRPC's."""

    def __init__(self, message: Callable[[Inputs], inference.ModelInferRequest]) -> None:
        super().__init__()
        self._message = message

    def of(self, inputs: Iterable[Inputs]) -> Iterator[inference.ModelInferRequest]:
        """Yields the requests."""
        try:
            for item in inputs:
                yield self._message(item)
        except GeneratorExit:
            raise
        except Exception as error:  # raised by the reader, see `check`
            self._error = error


class AsyncRequests(_Making):
    """Makes requests in the event loop."""

    def __init__(self, message: Callable[[Inputs], Awaitable[inference.ModelInferRequest]]) -> None:
        super().__init__()
        self._message = message

    async def of(self, inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> AsyncIterator[inference.ModelInferRequest]:
        """Yields the requests."""
        try:
            async for item in _each(inputs):
                yield await self._message(item)
        except GeneratorExit:
            raise
        except Exception as error:  # raised by the reader, see `check`
            self._error = error


async def _each(inputs: Iterable[Inputs] | AsyncIterable[Inputs]) -> AsyncIterator[Inputs]:
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            yield item
    else:
        for item in inputs:
            yield item


def outcome(response: Any) -> Prediction | CallError:
    """Returns an answer as a value: the prediction, or the error that a unary call would have raised."""
    if not response.error_message:
        return prediction(response.infer_response)
    parameters = response.infer_response.parameters
    code = parameters["error_code"].string_param if "error_code" in parameters else "UNKNOWN"
    retry_after_s = parameters["retry_after_ms"].int64_param / 1000 if "retry_after_ms" in parameters else None
    return error_of(code)(response.error_message, code=code, retry_after_s=retry_after_s)
