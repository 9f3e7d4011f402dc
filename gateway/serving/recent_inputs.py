"""
Inputs of a few real requests per model, so that its next version is warmed up with what callers really send.

They are kept in this process's memory only: never written, never sent, forgotten when the model is not held any more.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Container

from gateway.runtime.tensors import to_raw
from gateway.serving.item import Item, merge_inputs
from gateway.serving.served import Served
from registry.examples import Example, ExampleTensor, misfit
from registry.signature import Signature

PERIOD_NS = 1_000_000_000  # between two takings from one version
MAX_LAYOUTS = 4  # of one model
MAX_EXAMPLE_BYTES = 1 << 20
MAX_BYTES = 32 << 20  # of all models
Layout = tuple[object, ...]


class RecentInputs:
    """The newest request of each of the last few layouts per model. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Layout], Example] = OrderedDict()  # the longest known first
        self._bytes = 0
        self._lock = threading.Lock()

    def take(self, served: Served, item: Item, now_ns: int) -> None:
        """Remembers the inputs of a request that was answered; the next is due a second later."""
        served.example_due_ns = now_ns + PERIOD_NS
        example = _example(item)
        if example is None:
            return
        # Rows of batched requests differ all the time; what the warm-up has to know is the shape of one.
        first = 0 if item.binding.group is None else 1
        key = served.model, tuple((one.name, one.shape[first:]) for one in example.inputs)
        with self._lock:
            self._drop(key)
            self._kept[key] = example
            self._bytes += example.size_bytes
            of_model = [known for known in self._kept if known[0] == served.model]
            for oldest in of_model[:-MAX_LAYOUTS]:
                self._drop(oldest)
            while self._bytes > MAX_BYTES:
                self._drop(next(iter(self._kept)))

    def fitting(self, model: str, signature: Signature) -> tuple[Example, ...]:
        """What is remembered of a model and fits a signature, the newest first."""
        with self._lock:
            known = [example for (name, _), example in self._kept.items() if name == model]
        return tuple(example for example in reversed(known) if not misfit(example, signature))

    def forget_others(self, models: Container[str]) -> None:
        """Forgets every model but these."""
        with self._lock:
            for key in [key for key in self._kept if key[0] not in models]:
                self._drop(key)

    def _drop(self, key: tuple[str, Layout]) -> None:
        example = self._kept.pop(key, None)
        if example is not None:
            self._bytes -= example.size_bytes


def _example(item: Item) -> Example | None:
    """A copy of a request's inputs; None when they are too large to keep."""
    inputs = merge_inputs([item])
    if sum(array.nbytes for array in inputs.values()) > MAX_EXAMPLE_BYTES:
        return None
    example = Example(
        tuple(ExampleTensor(feed.name, feed.datatype, feed.shape, to_raw(inputs[feed.name])) for feed in item.binding.feeds)
    )
    return example if example.size_bytes <= MAX_EXAMPLE_BYTES else None
