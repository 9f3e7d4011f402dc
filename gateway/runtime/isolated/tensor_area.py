"""Memory that two processes map, for the tensors of one run at a time. One side writes, the other reads."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable

import numpy as np

from gateway.runtime.isolated.orders_to_child import PlacedTensor
from gateway.runtime.session import Array
from gateway.runtime.tensor_contents import from_raw, to_raw

_ALIGNMENT = 64  # bytes; what the runtime's kernels like best
_STEP = 1 << 20  # bytes by which the memory grows


class TensorArea:
    """Shared memory in the file ``descriptor``, which it owns. It grows with the largest run and never shrinks."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory: mmap.mmap | None = None

    @classmethod
    def make(cls) -> TensorArea:
        """Returns new memory, which a child can inherit."""
        return cls(os.memfd_create("interlock-tensors"))

    def write(self, tensors: Iterable[tuple[str, Array]]) -> tuple[PlacedTensor, ...]:
        """Puts tensors in place of those before. Returns where they are."""
        parts = [(name, array, to_raw(array) if array.dtype == np.object_ else None) for name, array in tensors]
        placed, end = [], 0
        for name, array, texts in parts:
            size = array.nbytes if texts is None else len(texts)
            placed.append(PlacedTensor(name, "" if texts is not None else array.dtype.str, array.shape, end, size))
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        memory = self._mapped(end)
        for one, (_, array, texts) in zip(placed, parts, strict=True):
            if texts is not None:
                memory[one.offset : one.offset + one.size] = texts
            elif one.size:
                np.ndarray(one.shape, array.dtype, memory, one.offset)[...] = array
        return tuple(placed)

    def read(self, placed: PlacedTensor) -> Array:
        """Returns a tensor without a copy; it is overwritten by the next `write` of the other side."""
        memory = self._mapped(placed.offset + placed.size, is_reader=True)
        if not placed.dtype:
            return from_raw(placed.name, "BYTES", placed.shape, memory[placed.offset : placed.offset + placed.size])
        if not placed.size:
            return np.empty(placed.shape, placed.dtype)
        return np.ndarray(placed.shape, placed.dtype, memory, placed.offset)

    def close(self) -> None:
        """Gives the memory back when nobody reads it any more."""
        self._memory = None
        os.close(self.descriptor)

    def _mapped(self, size: int, *, is_reader: bool = False) -> mmap.mmap:
        memory = self._memory
        if memory is None or len(memory) < size:
            if not is_reader:
                os.ftruncate(self.descriptor, max(-(-size // _STEP), 1) * _STEP)
            self._memory = memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        return memory
