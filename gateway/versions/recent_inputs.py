"""
Inputs of a few recent requests per model, so that its next version is warmed up with what callers really send.

They stay in this process's memory: never written, never sent, and forgotten when no version of the model is in memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Container

from registry.examples import Example, misfit
from registry.signature import Signature

MAX_SHAPES = 4  # examples of different shapes per model
MAX_EXAMPLE_BYTES = 1 << 20  # bytes of one example; larger ones are not kept
MAX_BYTES = 32 << 20  # bytes of all examples
Shapes = tuple[object, ...]


class RecentInputs:
    """The newest example of each of the last few input shapes per model. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Shapes], Example] = OrderedDict()  # oldest first
        self._bytes = 0
        self._lock = threading.Lock()

    def keep(self, model: str, example: Example, *, is_batched: bool) -> None:
        """
        Keeps an example in place of an earlier one of the same shapes. ``is_batched``: its first dimension counts rows,
        which differ from request to request and do not make another shape.
        """
        if example.size_bytes > MAX_EXAMPLE_BYTES:
            return
        first = 1 if is_batched else 0
        key = model, tuple((one.name, one.shape[first:]) for one in example.inputs)
        with self._lock:
            self._drop(key)
            self._kept[key] = example
            self._bytes += example.size_bytes
            of_model = [known for known in self._kept if known[0] == model]
            for oldest in of_model[:-MAX_SHAPES]:
                self._drop(oldest)
            while self._bytes > MAX_BYTES:
                self._drop(next(iter(self._kept)))

    def fitting(self, model: str, signature: Signature) -> tuple[Example, ...]:
        """Returns the kept examples of a model that fit a signature, newest first."""
        with self._lock:
            known = [example for (name, _), example in self._kept.items() if name == model]
        return tuple(example for example in reversed(known) if not misfit(example, signature))

    def forget(self, model: str, example: Example) -> None:
        """Forgets an example, if it is still kept."""
        with self._lock:
            for key in [key for key, kept in self._kept.items() if key[0] == model and kept is example]:
                self._drop(key)

    def forget_others(self, models: Container[str]) -> None:
        """Forgets every model but these."""
        with self._lock:
            for key in [key for key in self._kept if key[0] not in models]:
                self._drop(key)

    def _drop(self, key: tuple[str, Shapes]) -> None:
        example = self._kept.pop(key, None)
        if example is not None:
            self._bytes -= example.size_bytes
