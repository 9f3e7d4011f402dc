"""The examples of docs/client.md run as they stand, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from onnx import TensorProto, helper

PAGE = Path(__file__).parents[2] / "docs" / "client.md"


def test_the_examples_of_the_clients_page_run(gateway, tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    monkeypatch.chdir(tmp_path)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("image", "same")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["same"])], "g", tensors[:1], tensors[1:])
    onnx.save(helper.make_model(graph), "digits.onnx")
    names: dict[str, object] = {}
    for block in blocks:
        exec(re.sub(r"127\.0\.0\.1:\d+", gateway.address, block), names)
    assert "['JOINED', 'JOINED']" in capsys.readouterr().out
