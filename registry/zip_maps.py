"""
Score maps: outputs that exporters of classifiers make of a tensor of scores with ZipMap, a map from class to score a row.

The protocol has no form for maps. So the scores themselves are served, under the output's name, and the maps' keys are the
names of their columns. https://github.com/onnx/onnx/blob/main/docs/Operators-ml.md#ai.onnx.ml.ZipMap
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx

from registry.errors import InvalidModel
from registry.names import class_text
from registry.prediction import columns_problem

MAX_SHOWN = 10  # class names in a message
_DOMAIN = "ai.onnx.ml"


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """An output that is a map of scores in the file. ``scores`` is the tensor that it is made of, [rows, classes] FP32."""

    output: str
    scores: str
    classes: tuple[str, ...]


def score_maps(model: onnx.ModelProto) -> tuple[ScoreMap, ...]:
    """Returns the outputs that are score maps, in the order of the file."""
    producers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for value in model.graph.output:
        if value.type.WhichOneof("value") != "sequence_type":
            continue
        node = producers.get(value.name)
        if node is not None and node.op_type == "ZipMap" and node.domain == _DOMAIN and _classes(node):
            found.append(ScoreMap(value.name, node.input[0], _classes(node)))
    return tuple(found)


def served_as(one: ScoreMap) -> str:
    """Returns how a score map is served, in words."""
    classes = ", ".join(one.classes[:MAX_SHOWN]) + (", …" if len(one.classes) > MAX_SHOWN else "")
    return f"output {one.output!r} is a map a row; it is served as its scores, FP32 [?, {len(one.classes)}], classes {classes}"


def check_classes(one: ScoreMap) -> None:
    """Raises InvalidModel if two classes of a score map have the same name: feedback could not tell them apart."""
    name, count = Counter(map(class_text, one.classes)).most_common(1)[0]
    if count > 1:
        raise InvalidModel(
            f"output {one.output!r} is a map a row in which {count} classes are named {name!r}: name each class differently",
            tensor=one.output,
        )


def shape_problem(one: ScoreMap, shape: tuple[int, ...]) -> str:
    """Returns why scores of this shape, which a run gave, are not those of the map; empty if they are."""
    if len(shape) != 2:
        return f"output {one.output!r}: its scores have the shape {list(shape)}, expected [rows, classes]"
    problem = columns_problem(one.classes, shape[1])
    return f"output {one.output!r}: its map has {problem}" if problem else ""


def _classes(node: onnx.NodeProto) -> tuple[str, ...]:
    """Returns the keys of a ZipMap's maps: texts, or whole numbers in decimal."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    names = values.get("classlabels_strings") or values.get("classlabels_int64s") or ()
    return tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names)


def with_scores(path: Path) -> bytes | None:
    """
    Returns the model at ``path`` with tensors of scores in place of its score maps; None if it has none. External data is
    not read and stays where it is.
    """
    model = onnx.load_model(str(path), load_external_data=False)
    return model.SerializeToString() if replace_maps(model) else None


def replace_maps(model: onnx.ModelProto) -> bool:
    """Replaces the model's score maps by their scores. Returns whether there were any."""
    maps = {one.output: one for one in score_maps(model)}
    if not maps:
        return False
    for node in model.graph.node:
        if node.output[0] in maps:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input, node.output, name=node.name))
    for value in model.graph.output:
        if value.name in maps:
            columns = len(maps[value.name].classes)
            value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, [None, columns]))
    return True
