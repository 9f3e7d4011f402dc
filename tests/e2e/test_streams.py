"""Streams through a whole gateway: nothing is lost, mistaken or out of order, whatever happens under them."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start, kill
from tiny import scaler

from gateway.client import AdminClient, CallError
from gateway.client.grpc_channel import Channel
from gateway.protocol.messages import inference as messages

MESSAGES = 10_000
KILLED_AFTER = 500
UNDER_WAY = 20  # of a client that waits for answers


def request(number: int) -> messages.ModelInferRequest:
    made = messages.ModelInferRequest(model_name="m", id=str(number))
    made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    made.raw_input_contents.append(np.array([number, number + 1], np.float32).tobytes())
    return made


def is_right(answer: messages.ModelStreamInferResponse, number: int) -> bool:
    """Whether this is the answer to that request, by the version that it names."""
    response = answer.infer_response
    values = np.frombuffer(response.raw_output_contents[0], np.float32) if response.raw_output_contents else np.zeros(2)
    expected = np.array([number, number + 1], np.float32) * float(response.model_version or 0)
    return not answer.error_message and response.id == str(number) and bool(np.array_equal(values, expected))


@pytest.fixture
def deployed(start: Start, tmp_path: Path) -> Running:
    """One worker; version n multiplies by n; 1 serves."""
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin:
        for factor in (1.0, 2.0):
            admin.register("m", scaler(tmp_path / f"{factor}.onnx", factor)).result()
        admin.deploy("m", 1).result()
    return gateway


def test_ten_thousand_messages_keep_order_and_values_while_versions_are_promoted(deployed: Running) -> None:
    is_over, seen, swaps = threading.Event(), set(), []

    def swap() -> None:
        with AdminClient(deployed.admin) as admin:
            while not is_over.is_set():
                admin.promote("m", 2).result()
                admin.rollback("m").result()
                swaps.append(2)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        with Channel(deployed.data) as channel:
            answers = channel.stream(channel.inference.ModelStreamInfer, map(request, range(MESSAGES)), timeout_s=120)
            number = -1
            for number, answer in enumerate(answers):
                assert is_right(answer, number), f"{number}: {answer}"
                seen.add(answer.infer_response.model_version)
    finally:
        is_over.set()
        swapping.join()
    assert number == MESSAGES - 1
    assert seen == {"1", "2"}
    assert swaps


def test_a_worker_that_is_killed_ends_its_streams_with_an_error_after_right_answers(deployed: Running) -> None:
    number = -1
    with Channel(deployed.data) as channel:
        answers = channel.stream(channel.inference.ModelStreamInfer, map(request, itertools.count()), timeout_s=60)
        with pytest.raises(CallError) as error:  # noqa: PT012
            for number, answer in enumerate(answers):
                assert is_right(answer, number), f"{number}: {answer}"
                if number == KILLED_AFTER:
                    kill(deployed.note()["workers"][0]["pid"])
    assert error.value.code == "UNAVAILABLE"
    assert number >= KILLED_AFTER


def test_a_stop_ends_a_stream_that_idles_and_does_not_wait_for_it(deployed: Running) -> None:
    outgoing: queue.SimpleQueue[object] = queue.SimpleQueue()

    def requests() -> Iterator[object]:
        return iter(outgoing.get, None)

    with Channel(deployed.data) as channel:
        answers = channel.stream(channel.inference.ModelStreamInfer, requests(), timeout_s=60)
        outgoing.put(request(0))
        assert is_right(next(answers), 0)
        began = time.monotonic()
        assert deployed.stop() == 0
        assert time.monotonic() - began < 10, "a grace of 30 s was not needed"
        with pytest.raises(CallError, match="stopping"):
            next(answers)
        outgoing.put(None)


def test_at_the_connections_maximum_age_a_stream_ends_and_the_next_one_goes_on_where_it_ended(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTERLOCK_MAX_CONNECTION_AGE_S", "1")
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin:
        admin.register("m", scaler(tmp_path / "m.onnx", 1.0)).result()
        admin.deploy("m", 1).result()
    number, ends = 0, []

    def requests(room: threading.Semaphore) -> Iterator[messages.ModelInferRequest]:
        for sent in itertools.count(number):
            room.acquire()
            yield request(sent)

    with Channel(gateway.data) as channel:
        while len(ends) < 3:
            room = threading.Semaphore(UNDER_WAY)
            answers = channel.stream(channel.inference.ModelStreamInfer, requests(room), timeout_s=60)
            with pytest.raises(CallError) as error:  # noqa: PT012
                for answer in answers:
                    assert is_right(answer, number), f"{number}: {answer}"
                    number += 1
                    room.release()
            room.release(UNDER_WAY)  # lets the sender see that the stream has ended
            ends.append(str(error.value))
    assert all("maximum age" in end for end in ends), ends
    assert number > 0
