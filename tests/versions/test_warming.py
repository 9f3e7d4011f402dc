"""What a warm-up runs, what fails it, and when it ends."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gateway.runtime.session import RunFailed, SessionCrashed
from gateway.versions import warm_up as warming
from gateway.versions.recent_inputs import RecentInputs
from gateway.versions.warm_up import LoadFailed, Rehearsal, WarmUp, emitted_sizes
from registry.examples import Example, ExampleTensor
from registry.signature import Signature, TensorSpec

FREE = Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("y", "FP32", (-1, -1)),))
FIXED = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


class FakeSession:
    """Answers with its input; refuses what ``refuses`` says. ``runs`` are the inputs of every run."""

    def __init__(self, signature: Signature, refuses: Callable[[np.ndarray], bool] = lambda x: False) -> None:
        self.signature, self._refuses = signature, refuses
        self.runs: list[np.ndarray] = []

    def run(self, outputs, inputs, until=None, halt=None):
        if self._refuses(inputs["x"]):
            raise RunFailed("not with me")
        self.runs.append(inputs["x"])
        return [inputs["x"]]

    def close(self) -> None:
        pass

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the runs, each once and in order."""
        return list(dict.fromkeys(run.shape for run in self.runs))


def example(*rows: list[float], name: str = "") -> Example:
    array = np.array(rows, np.float32)
    return Example((ExampleTensor("x", "FP32", array.shape, array.tobytes()),), name)


def warm_up(session: FakeSession, *sizes: int, is_batched: bool = True, **rehearsal: tuple[Example, ...]) -> warming.Warmth:
    return WarmUp("m v1", session, session.signature, Rehearsal(**rehearsal), is_batched=is_batched).run(sizes)


@pytest.mark.parametrize(
    ("max_rows", "preferred", "sizes"),
    [
        (1, (), [1]),
        (8, (), [1, 2, 4, 8]),
        (12, (6,), [1, 2, 4, 6, 8, 12]),
        (1, (4,), [1]),  # a version that turned out not to be batched
    ],
)
def test_every_size_that_will_be_emitted_is_run(max_rows, preferred, sizes):
    assert emitted_sizes(max_rows, preferred) == sizes


def test_rows_of_an_example_are_repeated_to_every_size():
    session = FakeSession(FREE)
    warmth = warm_up(session, 1, 3, registered=(example([1, 2], [3, 4]),))
    assert [rows for rows, _ in warmth.runs] == [1, 3]
    assert warmth.is_complete
    assert session.runs[-1].tolist() == [[1, 2], [3, 4], [1, 2]]
    assert session.shapes() == [(1, 2), (3, 2)]


def test_examples_of_every_layout_are_run_and_of_one_layout_the_first():
    session = FakeSession(FREE)
    warm_up(session, 1, registered=(example([1, 2]), example([9, 9]), example([1, 2, 3])))
    assert session.shapes() == [(1, 2), (1, 3)]
    assert not any((run == 9).any() for run in session.runs)


def test_without_batching_an_example_is_run_as_it_is():
    session = FakeSession(FREE)
    warm_up(session, 1, is_batched=False, registered=(example([1, 2], [3, 4]), example([1, 2])))
    assert session.shapes() == [(2, 2), (1, 2)]


def test_a_registered_example_that_fails_fails_the_version():
    session = FakeSession(FREE, lambda x: len(x) > 2)
    with pytest.raises(LoadFailed, match=r"m v1: warm-up with 4 rows of example 'a\.json' failed: not with me"):
        warm_up(session, 1, 2, 4, registered=(example([1, 2], name="a.json"),))


def test_a_recorded_example_that_fails_proves_nothing():
    session = FakeSession(FIXED, lambda x: bool((x == 7).any()))
    warmth = warm_up(session, 1, 2, recorded=(example([7, 7]),))
    assert warmth.is_complete  # on made-up inputs
    assert session.shapes() == [(1, 2), (2, 2)]


def test_where_recorded_examples_fail_made_up_inputs_decide():
    session = FakeSession(FIXED, lambda x: len(x) > 1)
    with pytest.raises(LoadFailed, match="warm-up with 2 rows failed on every made-up input"):
        warm_up(session, 1, 2, recorded=(example([1, 2]),))


def test_a_model_of_free_dimensions_that_nothing_fits_is_not_warm_but_not_broken():
    assert warm_up(FakeSession(FREE, lambda x: True), 1, 2) == warming.Warmth((), is_complete=False)


def test_damaged_contents_of_a_recorded_example_are_passed_over():
    damaged = Example((ExampleTensor("x", "FP32", (1, 2), b"123"),))
    assert warm_up(FakeSession(FIXED), 1, recorded=(damaged,)).is_complete


def test_batches_that_would_take_too_much_memory_are_left_out(monkeypatch):
    monkeypatch.setattr(warming, "MAX_BATCH_BYTES", 32)
    session = FakeSession(FREE)
    warmth = warm_up(session, 1, 4, 5, recorded=(example([1, 2], [3, 4]),))  # 8 bytes a row
    assert (session.shapes(), warmth.is_complete) == ([(1, 2), (4, 2)], False)


def test_nothing_is_run_any_more_when_the_budget_is_spent(monkeypatch):
    monkeypatch.setattr(warming, "BUDGET_S", -1.0)
    session = FakeSession(FREE)
    warmth = warm_up(session, 1, 2, 4, registered=(example([1, 2]), example([1, 2, 3])))
    assert (warmth, session.shapes()) == (warming.Warmth((), is_complete=False), [(1, 2)])


class CrashingSession(FakeSession):
    """Its process dies of inputs with a negative number."""

    def run(self, outputs, inputs, until=None, halt=None):
        self.runs.append(inputs["x"])
        if inputs["x"].min() < 0:
            raise SessionCrashed("its process died of it (SIGFPE)")
        return [inputs["x"]]


def test_a_registered_example_that_ends_the_process_fails_the_version() -> None:
    with pytest.raises(LoadFailed, match=r"example 'bad' failed: its process died"):
        warm_up(CrashingSession(FIXED), 1, 2, registered=(example([-1.0, 2.0], name="bad"),))


def test_a_recorded_example_that_ends_the_process_is_run_once_and_forgotten() -> None:
    recent, bad = RecentInputs(), example([-1.0, 2.0])
    recent.keep("m", bad, is_batched=True)
    recent.keep("other", bad, is_batched=True)
    session = CrashingSession(FIXED)
    rehearsal = Rehearsal((), recent.fitting("m", FIXED), lambda one: recent.forget("m", one))
    WarmUp("m v2", session, FIXED, rehearsal, is_batched=True).run([1, 2])
    assert sum(run.min() < 0 for run in session.runs) == 1
    assert (recent.fitting("m", FIXED), recent.fitting("other", FIXED)) == ((), (bad,))
