"""What a lane promises of streams, on both: messages come as calls, answers keep their order, and streams end in time."""

from __future__ import annotations

import queue
import random
import threading
import time

import grpc
import pytest

from gateway.protocol.pb import inference_pb2 as pb
from gateway.protocol.services import STREAM_METHOD
from gateway.serving.lane.stream import MAX_UNDER_WAY

END = object()


class Client:
    """One open stream: `send` what you like, `read` what comes; ``code`` once it has ended."""

    def __init__(self, channel: grpc.Channel, **options: object) -> None:
        self._outgoing: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.answers = channel.stream_stream(STREAM_METHOD)(iter(self._outgoing.get, END), **options)

    def send(self, *messages: bytes) -> None:
        for message in messages:
            self._outgoing.put(message)

    def half_close(self) -> None:
        self._outgoing.put(END)

    def read(self) -> pb.ModelStreamInferResponse:
        return pb.ModelStreamInferResponse.FromString(next(self.answers))

    def ids(self, count: int) -> list[str]:
        return [self.read().infer_response.id for _ in range(count)]

    def code(self) -> grpc.StatusCode:
        code = self.answers.code()
        assert isinstance(code, grpc.StatusCode)
        return code


@pytest.fixture
def opened(lane_server):
    """Opens streams; all are cancelled at the end."""
    clients = []

    def start(**options) -> Client:
        clients.append(Client(lane_server.channel, timeout=60, **options))
        return clients[-1]

    yield start
    for client in clients:
        client.half_close()
        client.answers.cancel()


def request(number: int) -> bytes:
    return pb.ModelInferRequest(model_name="m", id=str(number)).SerializeToString()


def response(call) -> bytes:
    return pb.ModelInferResponse(id=pb.ModelInferRequest.FromString(call.message).id).SerializeToString()


def answer(lane, calls) -> None:
    lane.reply([(call, response(call)) for call in calls])


def turn(lane, condition):
    """Takes until the condition holds, as the taking thread does; nothing may come meanwhile."""
    until = time.monotonic() + 10
    while not (result := condition()) and time.monotonic() < until:
        assert lane.take(10, 0.02) == []
    return result


class Background:
    """A thread that takes and answers everything, until the end of the block."""

    def __init__(self, lane) -> None:
        self._lane, self._is_over, self.answered = lane, False, 0
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()

    def _loop(self) -> None:
        while not self._is_over:
            calls = self._lane.take(256, 0.02)
            answer(self._lane, calls)
            self.answered += len(calls)


def test_messages_of_a_stream_come_as_calls_and_go_back_as_answers(lane_server, opened, take):
    lane, client = lane_server.lane, opened(metadata=(("x-unit-id", "u"),))
    client.send(request(1), request(2))
    calls = take(lane, 2)
    assert [call.message for call in calls] == [request(1), request(2)]
    for call in calls:
        assert ("x-unit-id", "u") in [(key, value) for key, value in call.metadata]
        assert time.monotonic() < call.deadline < time.monotonic() + 61
    answer(lane, calls)
    with Background(lane):
        first = client.read()
        assert first.error_message == ""
        assert first.infer_response.id == "1"
        assert first.infer_response.parameters["triton_final_response"].bool_param
        assert client.ids(1) == ["2"]
        client.half_close()
        assert client.code() is grpc.StatusCode.OK


def test_many_messages_are_under_way_at_once_and_answers_keep_their_order(lane_server, opened, take):
    lane, client = lane_server.lane, opened()
    client.send(*[request(number) for number in range(100)])
    calls = take(lane, 100)
    random.Random(3).shuffle(calls)
    with Background(lane):
        threads = [threading.Thread(target=answer, args=(lane, calls[part::5])) for part in range(5)]
        for thread in threads:
            thread.start()
        assert client.ids(100) == [str(number) for number in range(100)]
        for thread in threads:
            thread.join()


def test_a_stream_without_deadline_has_one_far_away(lane_server, take):
    client = Client(lane_server.channel)
    client.send(request(1))
    (call,) = take(lane_server.lane, 1)
    assert call.deadline == float("inf")
    client.half_close()
    client.answers.cancel()
    answer(lane_server.lane, [call])


def test_beyond_the_bound_nothing_more_is_received_until_answers_go_out(lane_server, opened, take):
    lane, client = lane_server.lane, opened()
    client.send(*[request(number) for number in range(MAX_UNDER_WAY + 50)])
    calls = take(lane, MAX_UNDER_WAY)
    assert lane.take(10, 0.3) == []
    answer(lane, calls)
    with Background(lane):
        assert client.ids(MAX_UNDER_WAY + 50) == [str(number) for number in range(MAX_UNDER_WAY + 50)]


def test_a_failed_message_is_an_answer_with_its_id_and_the_stream_goes_on(lane_server, opened, take):
    lane, client = lane_server.lane, opened()
    client.send(request(1), b"\xff malformed", request(3))
    calls = take(lane, 3)
    lane.fail(calls[0], grpc.StatusCode.RESOURCE_EXHAUSTED, "zu viel: ü", (("grpc-retry-pushback-ms", "5"),))
    lane.fail(calls[1], grpc.StatusCode.INVALID_ARGUMENT, "", ())
    answer(lane, calls[2:])
    with Background(lane):
        full, malformed, fine = client.read(), client.read(), client.read()
        client.half_close()
        assert client.code() is grpc.StatusCode.OK
    assert (full.error_message, full.infer_response.id) == ("zu viel: ü", "1")
    assert full.infer_response.parameters["error_code"].string_param == "RESOURCE_EXHAUSTED"
    assert full.infer_response.parameters["retry_after_ms"].int64_param == 5
    assert (malformed.error_message, malformed.infer_response.id) == ("INVALID_ARGUMENT", "")
    assert (fine.error_message, fine.infer_response.id) == ("", "3")


def test_after_the_half_close_the_last_answers_still_come(lane_server, opened, take):
    lane, client = lane_server.lane, opened()
    client.send(request(1), request(2))
    client.half_close()
    calls = take(lane, 2)
    assert lane.take(10, 0.1) == []
    answer(lane, calls[1:])
    answer(lane, calls[:1])
    with Background(lane):
        assert client.ids(2) == ["1", "2"]
        assert client.code() is grpc.StatusCode.OK


def test_an_empty_stream_ends_well(lane_server, opened):
    client = opened()
    client.half_close()
    with Background(lane_server.lane):
        assert list(client.answers) == []
        assert client.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("cause", ["cancel", "deadline"])
def test_watched_messages_of_a_stream_that_ends_early_are_told(lane_server, opened, take, cause):
    lane = lane_server.lane
    client = Client(lane_server.channel, timeout=0.5) if cause == "deadline" else opened()
    client.send(*[request(number) for number in range(3)])
    calls, gone = take(lane, 3), []
    answer(lane, calls[:1])
    lane.watch(calls[1:], gone.append)
    if cause == "cancel":
        client.answers.cancel()
    assert turn(lane, lambda: len(gone) == 2)
    assert gone == calls[1:]
    assert [call.is_gone for call in calls] == [False, True, True]
    lane.fail(calls[2], grpc.StatusCode.CANCELLED, "cancelled", ())
    answer(lane, calls[1:2])
    client.half_close()
    stopped = lane_server.stop()
    assert turn(lane, lane.is_closed)
    assert stopped.wait(10)
    assert len(gone) == 2


def test_a_gone_stream_holds_the_lane_open_until_its_calls_are_answered(lane_server, opened, take):
    lane, client = lane_server.lane, opened()
    client.send(request(1))
    calls, gone = take(lane, 1), []
    lane.watch(calls, gone.append)
    client.half_close()
    client.answers.cancel()
    assert turn(lane, lambda: gone)
    stopped = lane_server.stop()
    lane.take(1, 0.3)
    assert not lane.is_closed()
    lane.fail(calls[0], grpc.StatusCode.CANCELLED, "cancelled", ())
    assert turn(lane, lane.is_closed)
    assert stopped.wait(10)


def test_a_message_watched_after_its_stream_ended_is_told(lane_server, opened, take):
    lane, client, gone = lane_server.lane, opened(), []
    client.send(request(1))
    (call,) = take(lane, 1)
    client.answers.cancel()
    lane.take(1, 0.2)  # the end arrives
    lane.watch([call], gone.append)
    assert turn(lane, lambda: gone) == [call]
    answer(lane, [call])


def test_a_stop_ends_a_stream_that_idles_without_waiting_for_the_grace(lane_server, opened):
    with Background(lane_server.lane) as background:
        client = opened()
        client.send(request(1))
        assert client.ids(1) == ["1"]
        began = time.monotonic()
        stopped = lane_server.stop()  # with a grace of 5 s
        assert client.code() is grpc.StatusCode.UNAVAILABLE
        assert "stopping" in client.answers.details()
        client.half_close()
        assert stopped.wait(10)
        assert time.monotonic() - began < 3
    assert background.answered == 1


def test_a_stop_lets_a_stream_answer_what_was_received(lane_server, opened, take):
    lane, client = lane_server.lane, opened()
    client.send(*[request(number) for number in range(20)])
    calls = take(lane, 20)
    stopped = lane_server.stop()
    lane.take(1, 0.3)
    answer(lane, calls)
    with Background(lane):
        assert client.ids(20) == [str(number) for number in range(20)]
        assert client.code() is grpc.StatusCode.UNAVAILABLE
        client.half_close()
        assert stopped.wait(10)


def test_a_stop_ends_a_stream_that_never_idles(lane_server, opened):
    with Background(lane_server.lane) as background:
        client, sent = opened(), 0
        client.send(*[request(number) for number in range(40)])
        sent, read, stopped = 40, 0, None
        began = time.monotonic()
        try:
            while time.monotonic() - began < 10:
                assert client.ids(1) == [str(read)]
                read += 1
                client.send(request(sent))
                sent += 1
                if read == 100:
                    stopped = lane_server.stop()
        except grpc.RpcError:
            pass
        assert client.code() is grpc.StatusCode.UNAVAILABLE
        assert read == background.answered, "every message that was received is answered"
        client.half_close()
        assert stopped is not None
        assert stopped.wait(10)
        assert time.monotonic() - began < 4.5


def test_streams_of_several_clients_share_a_lane_with_unary_calls(lane_server, opened):
    with Background(lane_server.lane):
        clients = [opened() for _ in range(5)]
        for client in clients:
            client.send(*[request(number) for number in range(200)])
        unary = [lane_server.method.future(request(7), timeout=30) for _ in range(20)]
        for client in clients:
            assert client.ids(200) == [str(number) for number in range(200)]
        assert {pb.ModelInferResponse.FromString(future.result()).id for future in unary} == {"7"}


def test_streams_cancelled_at_any_moment_leave_nothing_open(lane_server, opened):
    seed, lane = random.Random(9), lane_server.lane
    with Background(lane):
        for _ in range(30):
            client = opened()
            client.send(*[request(number) for number in range(seed.randrange(60))])
            client.ids(0)
            if seed.random() < 0.3:
                client.half_close()
            threading.Event().wait(seed.random() * 0.004)
            client.answers.cancel()
    stopped = lane_server.stop()
    while not lane.is_closed():
        answer(lane, lane.take(100, 0.02))
    assert stopped.wait(10)
