"""What runs hold between two nodes is shared by the sessions of a process, and goes when one of them is closed."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from layout_models import saved
from onnx import TensorProto, helper

COLUMNS, ROWS = 1 << 20, 8
TENSOR_BYTES = 4 * COLUMNS * ROWS
PROGRAM = f"""
import json, sys
from pathlib import Path
import numpy as np
from gateway.runtime.onnx import OnnxSession
from gateway.runtime.process_memory import give_back, resident

def private():
    give_back()
    return resident().private_bytes

x = np.ones(({ROWS}, {COLUMNS}), np.float32)
sessions = [OnnxSession(Path(sys.argv[1])) for _ in range(2)]
seen = [private()]
for session in sessions:
    assert session.run(["y"], {{"x": x}})[0].tolist() == [1.0] * {ROWS}
    seen.append(private())
sessions[0].close()
seen.append(private())
assert sessions[1].run(["y"], {{"x": x}})[0].tolist() == [1.0] * {ROWS}
print(json.dumps(seen))
"""


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A model whose runs hold two tensors of TENSOR_BYTES between nodes."""
    names = ["x", "a", "b", "c"]
    nodes = [helper.make_node("Neg", [before], [name]) for before, name in pairwise(names)]
    nodes += [helper.make_node("ReduceMax", ["c", "axes"], ["d"], keepdims=0), helper.make_node("Neg", ["d"], ["y"])]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *rest]) for name, rest in (("x", [COLUMNS]), ("y", []))
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    return saved(nodes, ends[:1], ends[1:], [axes], tmp_path / "wide.onnx")


def test_what_runs_hold_is_shared_by_sessions_and_goes_with_one(wide: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(wide)], stdout=subprocess.PIPE, check=True, timeout=60)
    before, one, both, closed = json.loads(done.stdout)
    assert one - before > TENSOR_BYTES, "it is held for the next run"
    assert both - before < 1.25 * (one - before), "the second session's runs hold nothing more"
    assert closed - before < 0.25 * (one - before)
