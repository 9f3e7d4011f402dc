"""What a dead process leaves behind tells which version it ran, for whom, and which thread has failed."""

from __future__ import annotations

import threading

import pytest

from gateway.contract.deaths import NotedRun
from gateway.contract.run_notes import NOTES_BYTES, THREADS, VERSIONS, RunNotes, suspects
from gateway.protocol.pb import inference_pb2 as pb

Memory = bytearray


@pytest.fixture
def memory() -> Memory:
    return bytearray(NOTES_BYTES)


@pytest.fixture
def notes(memory: Memory) -> RunNotes:
    return RunNotes(memoryview(memory))


def _id(text: str) -> bytes:
    return pb.ModelInferRequest(id=text).SerializeToString()


def _failed(thread: int) -> str:
    return f"Fatal Python error: Floating point exception\n\nCurrent thread 0x{thread:016x} (most recent call first):\n"


def test_a_run_is_left_with_its_version_and_the_callers_ids(notes: RunNotes, memory: Memory) -> None:
    notes.begin(notes.enter("ratio", 7), 2, _id("order-17") + _id("x" * 200))
    (run,) = suspects(memory, "")
    assert (run.name, run.requests, run.ids[0], run.is_certain) == (("ratio", 7), 2, "order-17", False)
    assert run.ids[1].startswith("xxx")


def test_a_run_that_has_ended_is_not_left(notes: RunNotes, memory: Memory) -> None:
    mark = notes.enter("ratio", 7)
    notes.begin(mark, 1)
    notes.end()
    assert suspects(memory, "") == ()


def test_a_load_is_left_without_requests(notes: RunNotes, memory: Memory) -> None:
    notes.begin(notes.enter("ratio", 7))
    assert suspects(memory, "") == (NotedRun("ratio", 7),)


def test_of_several_threads_the_one_that_failed_is_the_only_suspect(notes: RunNotes, memory: Memory) -> None:
    failed = _run_in_thread(notes, "ratio")
    _run_in_thread(notes, "iris")
    assert {run.model for run in suspects(memory, "")} == {"ratio", "iris"}
    assert [(run.model, run.is_certain) for run in suspects(memory, _failed(failed))] == [("ratio", True)]


def _run_in_thread(notes: RunNotes, model: str) -> int:
    """The identity of a thread that runs a version and does not end it. Its slot stays taken."""
    begun, held = threading.Event(), threading.Event()

    def run() -> None:
        notes.begin(notes.enter(model, 1), 1)
        begun.set()
        held.wait(60)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    begun.wait(10)
    assert thread.ident is not None
    return thread.ident


def test_threads_and_versions_that_are_gone_give_their_places_back(notes: RunNotes, memory: Memory) -> None:
    for number in range(max(THREADS, VERSIONS) + 10):
        mark = notes.enter("m", number)
        assert mark
        notes.leave(mark)

    def run() -> None:
        notes.begin(notes.enter("late", 1), 1)
        notes.end()

    for _ in range(THREADS + 10):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    notes.begin(notes.enter("last", 1), 1)
    assert [run.model for run in suspects(memory, "")] == ["last"]


def test_more_versions_than_there_is_room_for_run_all_the_same(notes: RunNotes, memory: Memory) -> None:
    marks = [notes.enter("m", number) for number in range(VERSIONS + 5)]
    notes.begin(marks[-1], 1)
    assert (marks[-1], suspects(memory, "")) == (0, ())
