"""Random graphs of the operators that move, combine and reduce axes: most of them mix rows in some way."""

from __future__ import annotations

import random

import numpy as np
import onnx
from mixing_models import Model, ok, simple, weight
from onnx import TensorProto as T

OPERATORS = (
    "Add", "Mul", "Transpose", "Reshape", "ReduceSum", "ReduceMax", "Softmax", "MatMul", "Concat", "Slice", "Gather",
    "Unsqueeze", "Squeeze", "Expand", "CumSum", "Flatten", "TopK", "Tile", "Shape", "Where", "LayerNormalization", "Split",
    "Pad", "Einsum", "Gemm", "ArgMax", "GatherElements", "ConstantOfShape",
)  # fmt: skip
WIDE = 4


class Writer:
    """Writes one graph from x [n, 4] to y, from what ``seed`` says."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.tensors: list[tuple[str, int]] = [("x", 2)]  # name and rank, as far as it is known
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def constant(self, values: object, kind: type = np.float32) -> str:
        name = self.name()
        self.weights.append(weight(name, values, kind))
        return name

    def axis(self, rank: int) -> int:
        return self.random.randrange(-rank, rank)

    def add(self, operator: str, inputs: list[str], rank: int, **attributes: object) -> None:
        name = self.name()
        self.nodes.append(ok(operator, " ".join(inputs), name, **attributes))
        self.tensors.append((name, rank))

    def step(self) -> None:  # noqa: C901  # one case for each operator
        pick = self.random.choice
        operator = pick(OPERATORS)
        one, rank = pick(self.tensors[-4:])
        other, other_rank = pick(self.tensors[-4:])
        index = lambda *values: self.constant(list(values), np.int64)  # noqa: E731
        if rank < 1:
            return
        axis = self.axis(rank)
        match operator:
            case "Add" | "Mul" | "MatMul":
                second = pick([other, self.constant(np.ones((WIDE, WIDE)) / WIDE), self.constant(np.arange(1.0, WIDE + 1))])
                self.add(operator, pick([[one, second], [second, one]]), max(rank, other_rank, 2))
            case "Transpose":
                order = list(range(rank))
                self.random.shuffle(order)
                self.add(operator, [one], rank, perm=order)
            case "Reshape":
                target = pick([[-1, WIDE], [0, 2, 2], [0, -1], [-1], [WIDE, -1], [-1, 2], [2, -1], [1, -1, WIDE], [0, 1, -1]])
                self.add(operator, [one, index(*target)], len(target))
            case "ReduceSum" | "ReduceMax":
                keeps = pick([0, 1])
                self.add(operator, [one, index(axis)], rank if keeps else rank - 1, keepdims=keeps)
            case "Softmax" | "LayerNormalization":
                more = [self.constant([1.0])] if operator == "LayerNormalization" else []
                self.add(operator, [one, *more], rank, axis=axis)
            case "ArgMax":
                self.add(operator, [one], rank, axis=axis)
                self.add("Cast", [self.tensors.pop()[0]], rank, to=T.FLOAT)
            case "Concat":
                self.add(operator, [one, other], rank, axis=axis)
            case "Slice":
                start, end = pick([(0, 2**40), (0, 2), (1, 2**40), (-1, 2**40), (0, -1)])
                self.add(operator, [one, index(start), index(end), index(axis), index(pick([1, 1, -1]))], rank)
            case "Gather":
                place = pick([self.constant(0, np.int64), index(0), index(1, 0), self.constant(-1, np.int64)])
                self.add(operator, [one, place], rank, axis=axis)
            case "Unsqueeze":
                self.add(operator, [one, index(self.random.randrange(rank + 1))], rank + 1)
            case "Squeeze":
                self.add(operator, [one, index(axis)] if pick([True, True, False]) else [one], rank - 1)
            case "Expand" | "Tile":
                shape = pick([[1] * rank, [2] + [1] * (rank - 1), [1] * (rank - 1) + [2]])
                self.add(operator, [one, index(*shape)], rank)
            case "CumSum":
                self.add(operator, [one, self.constant(axis, np.int64)], rank)
            case "Flatten":
                self.add(operator, [one], 2, axis=self.random.randrange(rank + 1))
            case "TopK":
                values, places = self.name(), self.name()
                self.nodes.append(ok("TopK", f"{one} {index(1)}", f"{values} {places}", axis=axis))
                self.tensors.append((values, rank))
            case "Shape":
                self.shaped(one, rank)
            case "Where":
                condition = self.name()
                self.nodes.append(ok("Greater", f"{one} {self.constant(0.1)}", condition))
                self.add(operator, [condition, one, other], max(rank, other_rank))
            case "Split":
                left, right = self.name(), self.name()
                self.nodes.append(ok("Split", one, f"{left} {right}", axis=axis, num_outputs=2))
                self.tensors += [(left, rank), (right, rank)]
            case "Pad":
                pads = [0] * (2 * rank)
                pads[self.random.randrange(2 * rank)] = 1
                self.add(operator, [one, index(*pads)], rank)
            case "Einsum":
                self.add(
                    operator, [one, other], 2, equation=pick(["ij,ij->ij", "ij,kj->ik", "ij,ij->i", "ij,ik->jk", "ij,jk->ik"])
                )
            case "Gemm":
                self.add(operator, [one, other], 2, transA=pick([0, 1]), transB=pick([0, 1]))
            case "GatherElements":
                places = self.name()
                self.nodes.append(ok("ArgMax", other, places, axis=self.axis(max(other_rank, 1))))
                self.add(operator, [one, places], rank, axis=axis)
            case "ConstantOfShape":
                shape = self.name()
                self.nodes.append(ok("Shape", one, shape))
                self.add(operator, [shape], rank)

    def shaped(self, one: str, rank: int) -> None:
        """A shape, used for what exporters use it for, and for data."""
        shape, part, index = self.name(), self.name(), self.random.randrange(rank)
        self.nodes.append(ok("Shape", one, shape))
        self.nodes.append(ok("Gather", f"{shape} {self.constant([index], np.int64)}", part, axis=0))
        match self.random.randrange(4):
            case 0:
                self.add("Cast", [part], 1, to=T.FLOAT)
            case 1:
                target = self.name()
                self.nodes.append(ok("Concat", f"{part} {self.constant([-1], np.int64)}", target, axis=0))
                self.add("Reshape", [one, target], 2)
            case 2:
                target = self.name()
                self.nodes.append(ok("Concat", f"{part} {self.constant([WIDE], np.int64)}", target, axis=0))
                self.add("Expand", [self.constant(np.arange(1.0, WIDE + 1)), target], 2)
            case _:
                end = self.name()
                self.nodes.append(ok("Sub", f"{part} {self.constant([1], np.int64)}", end))
                zero = self.constant([0], np.int64)
                self.add("Slice", [one, zero, end, zero], rank)

    def model(self, steps: int) -> Model:
        for _ in range(steps):
            self.step()
        shape = ["n", *["any"] * (self.tensors[-1][1] - 1)] if self.tensors[-1][1] > 0 else []
        self.nodes.append(ok("Identity", self.tensors[-1][0], "y"))
        return simple(self.nodes, self.weights, y=(T.FLOAT, shape or ["n"]))
