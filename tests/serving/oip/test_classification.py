"""The classification extension: the largest values of a row as texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.protocol.pb import inference_pb2 as pb
from gateway.serving.oip.classification import Classes, class_count_of, class_texts, classes_of
from registry.signature import TensorSpec
from registry.versions import Prediction, PredictionKind


def texts(array: np.ndarray, count: int, *labels: str, datatype: str = "FP32", has_rows: bool = True) -> list:
    return class_texts(array, Classes(count, labels, datatype, has_rows)).tolist()


def test_the_largest_come_first_with_their_positions_and_labels() -> None:
    scores = np.array([[0.25, 0.5, 0.125], [3, 1, 2]], np.float32)
    assert texts(scores, 2) == [["0.500000:1", "0.250000:0"], ["3.000000:0", "2.000000:2"]]
    assert texts(scores[:1], 3, "cat", "dog") == [["0.500000:1:dog", "0.250000:0:cat", "0.125000:2"]]


def test_there_are_as_many_as_the_row_has() -> None:
    assert texts(np.array([[1.5]], np.float64), 1_000) == [["1.500000:0"]]
    assert class_texts(np.empty((0, 3), np.float32), Classes(2, (), "FP32", True)).shape == (0, 2)
    assert class_texts(np.empty((2, 0), np.float32), Classes(2, (), "FP32", True)).shape == (2, 0)


def test_further_axes_of_a_row_are_counted_through() -> None:
    assert texts(np.arange(8, dtype=np.int64).reshape(2, 2, 2), 1) == [["3:3"], ["7:3"]]


def test_without_rows_the_whole_tensor_is_one() -> None:
    assert texts(np.array([[1, 5, 3]], np.int32), 2, has_rows=False) == ["5:1", "3:2"]
    assert texts(np.array(7, np.int32), 2, has_rows=False) == ["7:0"]


def test_equal_values_keep_their_order_and_no_number_comes_last() -> None:
    assert texts(np.array([[1, np.nan, 2, 2, np.inf]], np.float32), 5) == [
        ["inf:4", "2.000000:2", "2.000000:3", "1.000000:0", "nan:1"]
    ]


def test_bfloat16_is_read_as_numbers() -> None:
    bits = (np.array([[1.5, -2.0]], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert texts(bits, 2, datatype="BF16") == [["1.500000:0", "-2.000000:1"]]


@given(st.sampled_from(["int8", "uint8", "int64", "uint64"]), st.data())
def test_whole_numbers_are_sorted_at_the_ends_of_their_range_too(dtype: str, data: st.DataObject) -> None:
    limits = np.iinfo(dtype)
    row = data.draw(st.lists(st.integers(int(limits.min), int(limits.max)) | st.just(int(limits.min)), max_size=8))
    expected = sorted(range(len(row)), key=lambda index: (-row[index], index))
    assert texts(np.array([row], dtype), 8) == [[f"{row[index]}:{index}" for index in expected]]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL"])
def test_an_output_without_numbers_is_refused_by_name(datatype: str) -> None:
    with pytest.raises(InvalidRequest, match=f"output 'y': classification needs numbers, it is {datatype}"):
        classes_of(TensorSpec("y", datatype, (-1, 3)), 1, None, is_batched=True)


def test_labels_are_those_of_the_output_that_is_the_prediction() -> None:
    prediction = Prediction("y", PredictionKind.SCORES, ("a", "b"))
    made = [classes_of(TensorSpec(name, "FP32", (-1, 2)), 1, prediction, is_batched=False) for name in ("y", "z")]
    assert [one.labels for one in made if one] == [("a", "b"), ()]


@pytest.mark.parametrize(
    ("shape", "is_batched", "has_rows"),
    [((-1, 3), False, True), ((1, 3), False, False), ((-1,), False, False), ((-1,), True, True)],
)
def test_rows_are_those_of_a_batch_or_of_a_variable_first_axis(shape: tuple, is_batched: bool, has_rows: bool) -> None:
    classes = classes_of(TensorSpec("y", "FP32", shape), 1, None, is_batched=is_batched)
    assert classes is not None
    assert classes.has_rows is has_rows


@pytest.mark.parametrize(("field", "value"), [("string_param", "3"), ("int64_param", -1), ("bool_param", True)])
def test_a_count_that_is_none_is_refused(field: str, value: object) -> None:
    tensor = pb.ModelInferRequest.InferRequestedOutputTensor(name="y")
    setattr(tensor.parameters["classification"], field, value)
    with pytest.raises(InvalidRequest, match="output 'y': parameter 'classification': expected a number of classes, got"):
        class_count_of("output 'y'", tensor.parameters)


def test_classes_do_not_go_to_shared_memory() -> None:
    tensor = pb.ModelInferRequest.InferRequestedOutputTensor(name="y")
    tensor.parameters["classification"].int64_param = 2
    tensor.parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InvalidRequest, match="output 'y': classification cannot go to shared memory"):
        class_count_of("output 'y'", tensor.parameters)
