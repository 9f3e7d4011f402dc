"""A model that ends its process ends no other, and serves again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gateway.runtime.isolated.child_process import ModelToRun
from gateway.runtime.isolated.isolated_session import IsolatedSession, pause_s
from gateway.runtime.session import SessionCrashed

GOOD = {"a": np.array([6], np.int32), "b": np.array([2], np.int32)}
POISON = {"a": np.array([-(2**31)], np.int32), "b": np.array([-1], np.int32)}


@pytest.fixture
def deaths() -> list[str]:
    return []


@pytest.fixture
def session(tmp_path: Path, deaths: list[str]) -> Iterator[IsolatedSession]:
    ends = [helper.make_tensor_value_info(name, TensorProto.INT32, ["n"]) for name in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Div", ["a", "b"], ["y"])], "g", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    with ThreadPoolExecutor(1) as spawner:
        made = IsolatedSession(ModelToRun(tmp_path / "m.onnx"), spawner, deaths.append)
        yield made
        made.close()


def test_the_run_that_ends_the_process_fails_and_the_next_one_is_answered(session: IsolatedSession, deaths: list[str]) -> None:
    for _ in range(3):
        with pytest.raises(SessionCrashed, match=r"SIGFPE.*do not repeat it"):
            session.run(["y"], POISON)
        assert session.run(["y"], GOOD)[0].tolist() == [3]
    assert deaths == ["SIGFPE"] * 3


def test_a_process_that_is_killed_between_two_runs_fails_none(session: IsolatedSession, deaths: list[str]) -> None:
    child = session._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert session.run(["y"], GOOD)[0].tolist() == [3]
    assert deaths == []


def test_its_memory_is_the_child_s(session: IsolatedSession) -> None:
    assert session.resident().private_bytes > 10 << 20
    session.close()
    assert session.resident().private_bytes == 0


def test_the_first_start_is_at_once_and_later_ones_wait_twice_as_long_each() -> None:
    assert [pause_s(deaths) for deaths in (1, 2, 3, 4, 100)] == [0.0, 0.1, 0.2, 0.4, 10.0]
