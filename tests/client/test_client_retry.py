"""When a failed call is tried again: what the gateway says, the budget and the deadline decide."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.client import AsyncClient, Client, Overloaded, RequestRefused, RetryPolicy, Unavailable, Unreachable
from gateway.client.retry import RetryBudget, delay_s
from gateway.errors import InvalidRequest, NotReady
from gateway.errors import Overloaded as QueueFull

X = {"x": np.zeros((1, 4), np.float32)}
FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def pushback(milliseconds):
    return (FULL, (("grpc-retry-pushback-ms", str(milliseconds)),))


@pytest.fixture
def slept():
    return []


@pytest.fixture
def client(gateway, slept):
    with Client(gateway.address, sleep=slept.append) as made:
        yield made


def test_the_wait_is_the_one_the_gateway_asked_for(gateway, client, slept):
    gateway.fail_next("ModelInfer", pushback(70), QueueFull("queue full", retry_after_s=0.25))
    assert client.infer("echo", X).version == "1"
    assert slept == [0.07, 0.25]


def test_a_negative_pushback_means_no_retry(gateway, client, slept):
    gateway.fail_next("ModelInfer", pushback(-1))
    with pytest.raises(Overloaded):
        client.infer("echo", X)
    assert slept == []
    assert len(gateway.requests["ModelInfer"]) == 1


def test_a_pushback_that_cannot_be_read_means_no_retry(gateway, client, slept):
    gateway.fail_next("ModelInfer", (FULL, (("grpc-retry-pushback-ms", "soon"),)))
    with pytest.raises(Overloaded):
        client.infer("echo", X)
    assert slept == []


def test_unavailable_is_retried_with_growing_waits(gateway, client, slept):
    gateway.fail_next("ModelInfer", *[NotReady("loading")] * 3)
    client.infer("echo", X)
    assert len(slept) == 3
    assert all(0.8 * base <= wait <= 1.2 * base for wait, base in zip(slept, (0.05, 0.1, 0.2), strict=True))


def test_attempts_end_and_the_last_error_is_told(gateway, client, slept):
    gateway.fail_next("ModelInfer", *[NotReady("loading")] * 9)
    with pytest.raises(Unavailable, match="loading"):
        client.infer("echo", X)
    assert len(gateway.requests["ModelInfer"]) == 5


def test_a_wrong_request_is_not_retried(gateway, client, slept):
    gateway.fail_next("ModelInfer", InvalidRequest("input 'x': wrong shape"))
    with pytest.raises(RequestRefused, match="input 'x': wrong shape"):
        client.infer("echo", X)
    assert slept == []


def test_no_wait_reaches_past_the_deadline(gateway, client, slept):
    gateway.fail_next("ModelInfer", pushback(5000))
    with pytest.raises(Overloaded):
        client.infer("echo", X, timeout_s=2)
    assert slept == []


def test_the_budget_ends_the_retries_of_a_gateway_that_only_fails(gateway, slept):
    policy = RetryPolicy(max_attempts=3, budget_tokens=6)
    with Client(gateway.address, sleep=slept.append, retry=policy) as client:
        gateway.fail_next("ModelInfer", *[NotReady("loading")] * 20)
        for _ in range(10):
            with pytest.raises(Unavailable):
                client.infer("echo", X)
    assert len(slept) == 2  # six tokens: two failures leave more than half


def test_successes_fill_the_budget_again():
    budget = RetryBudget(RetryPolicy(budget_tokens=4, tokens_per_success=1))
    assert [budget.failed() for _ in range(3)] == [True, False, False]
    for _ in range(3):
        budget.succeeded()
    assert budget.failed()


def test_the_asynchronous_client_honours_pushback_too(gateway):
    slept = []

    async def sleep(wait_s):
        slept.append(wait_s)

    async def scenario():
        async with AsyncClient(gateway.address, sleep=sleep) as client:
            return await client.infer("echo", X)

    gateway.fail_next("ModelInfer", pushback(40), NotReady("loading"))
    assert asyncio.run(scenario()).version == "1"
    assert slept[0] == 0.04
    assert len(slept) == 2


def test_nobody_at_the_address_is_told_as_such(gateway, slept):
    gateway.stop()
    text = rf"no gateway answers at {gateway.address} \(connection refused\)"
    with Client(gateway.address, sleep=slept.append) as client, pytest.raises(Unreachable, match=text):
        client.infer("echo", X)


@given(st.integers(1, 10), st.none() | st.floats(0, 60), st.floats(0, 1), st.none() | st.floats(0, 30))
def test_a_delay_is_always_before_the_deadline_and_bounded(attempt, remaining_s, jitter, asked_s):
    policy = RetryPolicy()
    wait_s = delay_s(policy, Overloaded("full", retry_after_s=asked_s), attempt, remaining_s, jitter)
    if wait_s is not None:
        assert attempt < policy.max_attempts
        assert remaining_s is None or wait_s < remaining_s
        assert wait_s == asked_s if asked_s is not None else wait_s <= 1.2 * policy.max_backoff_s


@pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"first_backoff_s": 2.0}, {"budget_tokens": -1}])
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        RetryPolicy(**wrong)
