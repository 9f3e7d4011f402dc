"""Predictions over one stream, through both clients: in order, errors in their place, nothing swallowed."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from gateway.client import AsyncClient, Client, NotFound, Prediction, TensorError, Unavailable
from gateway.client.streaming import outcome
from gateway.errors import NotReady
from gateway.protocol.messages import inference

ROWS = [np.full((1, 4), number, np.float32) for number in range(100)]


def stream(gateway, kind, *arguments, **options):
    """All that the stream gives, by either client."""
    if kind == "sync":
        with Client(gateway.address) as client:
            return list(client.stream(*arguments, **options))

    async def run():
        async with AsyncClient(gateway.address) as client:
            return [result async for result in client.stream(*arguments, **options)]

    return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


def test_predictions_come_in_the_order_of_the_inputs(gateway, kind):
    answers = stream(gateway, kind, "echo", ROWS, unit_id="u")
    assert [answer["x"].tolist() for answer in answers] == [row.tolist() for row in ROWS]
    assert {request.parameters["unit_id"].string_param for request in gateway.requests["ModelInfer"]} == {"u"}


def test_a_failed_request_gives_its_error_in_its_place(gateway, kind):
    (error,) = stream(gateway, kind, "nobody", [{"x": ROWS[0]}])
    assert isinstance(error, NotFound)
    assert (error.code, str(error)) == ("NOT_FOUND", "no model 'nobody' is served")


def test_a_wait_that_the_gateway_asks_for_is_told():
    response = inference.ModelStreamInferResponse(error_message="full")
    response.infer_response.parameters["error_code"].string_param = "RESOURCE_EXHAUSTED"
    response.infer_response.parameters["retry_after_ms"].int64_param = 250
    error = outcome(response)
    assert not isinstance(error, Prediction)
    assert (error.code, error.retry_after_s) == ("RESOURCE_EXHAUSTED", 0.25)


def test_inputs_that_cannot_be_sent_raise_after_the_answers_before_them(gateway, kind):
    seen = []
    with pytest.raises(TensorError):
        consume(gateway, kind, [{"x": ROWS[0]}, {"x": np.array([1j])}], seen)
    assert len(seen) == 1


def test_what_the_callers_own_iterator_raises_reaches_the_caller(gateway, kind):
    def inputs():
        yield {"x": ROWS[0]}
        raise KeyError("the caller's")

    with pytest.raises(KeyError, match="the caller's"):
        consume(gateway, kind, inputs(), [])


def consume(gateway, kind, inputs, seen):
    """As `stream`, noting in ``seen`` what came before an error."""
    if kind == "sync":
        with Client(gateway.address) as client:
            for result in client.stream("echo", inputs):
                seen.append(result)
        return

    async def run():
        async with AsyncClient(gateway.address) as client:
            async for result in client.stream("echo", inputs):
                seen.append(result)

    asyncio.run(run())


def test_a_stream_that_ends_early_raises(gateway, kind):
    gateway.fail_next("ModelStreamInfer", NotReady("stopping"))
    with pytest.raises(Unavailable, match="stopping"):
        stream(gateway, kind, "echo", [{"x": ROWS[0]}])


def test_a_stream_that_ends_while_inputs_are_sent_tells_why(gateway):
    async def run():
        async with AsyncClient(gateway.address) as client:
            for _ in range(100):
                gateway.fail_next("ModelStreamInfer", NotReady("stopping"))
                with pytest.raises(Unavailable, match="stopping"):
                    async for _ in client.stream("echo", itertools.repeat({"x": ROWS[0]})):
                        pass

    asyncio.run(run())


def test_leaving_the_iterator_cancels_the_rest(gateway):
    with Client(gateway.address) as client:
        for number, _ in enumerate(client.stream("echo", itertools.repeat({"x": ROWS[0]}))):
            if number == 10:
                break
        assert client.infer("echo", {"x": ROWS[1]})["x"].tolist() == ROWS[1].tolist()


def test_async_inputs_are_taken_as_they_come(gateway):
    async def inputs():
        for row in ROWS[:5]:
            await asyncio.sleep(0)
            yield row

    assert len(stream(gateway, "async", "echo", inputs())) == 5
