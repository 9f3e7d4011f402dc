"""Merging and splitting rows against the plain way of doing it."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.serving.batch import chunks, join_raw, split_raw, split_rows

row_counts = st.lists(st.integers(1, 5), min_size=1, max_size=12)


@given(row_counts, st.lists(st.integers(1, 3), max_size=2))
def test_split_undoes_join(rows, tail):
    random = np.random.default_rng(sum(rows))
    arrays = [random.normal(size=(count, *tail)).astype(np.float32) for count in rows]
    joined = join_raw([array.tobytes() for array in arrays], np.dtype(np.float32), sum(rows), tuple(tail))
    assert np.array_equal(joined, np.concatenate(arrays))
    assert split_raw(joined, rows) == [array.tobytes() for array in arrays]
    for part, array in zip(split_rows(joined, rows), arrays, strict=True):
        assert np.array_equal(part, array)


def test_views_at_odd_places_are_joined_and_aligned():
    data = b"x" + np.arange(6, dtype=np.float64).tobytes()
    array = join_raw([memoryview(data)[1:]], np.dtype(np.float64), 2, (3,))
    assert array.flags.aligned
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_outputs_without_elements_split_into_nothing():
    assert split_raw(np.zeros((3, 0), np.float32), [1, 2]) == [b"", b""]
    assert split_raw(np.zeros((2, 0), np.float32), [1, 1]) == [b"", b""]


@given(row_counts, st.integers(1, 8))
def test_chunks_keep_order_and_bound_rows(rows, most):
    made = chunks(range(len(rows)), rows, most)
    assert [index for chunk in made for index in chunk] == list(range(len(rows)))
    assert all(len(chunk) == 1 or sum(rows[index] for index in chunk) <= most for chunk in made)
    for chunk, following in itertools.pairwise(made):  # no chunk is closed before it must be
        assert sum(rows[index] for index in chunk) + rows[following[0]] > most
