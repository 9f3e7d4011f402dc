"""The messages between a worker and the child process of one isolated model. Values only."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from registry.signature import Signature


class PlacedTensor(msgspec.Struct, frozen=True):
    """A tensor in shared memory: ``size`` bytes from ``offset`` on. ``dtype`` is numpy's name, "" for texts."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class ChildOrders(msgspec.Struct, frozen=True):
    """
    What a child starts with: the model, and file descriptors of its line, of the line of stops, and of the memory for inputs
    and outputs.
    """

    path: str
    threads: int
    config: Mapping[str, str]
    line: int
    stops: int
    inputs: int
    outputs: int


class RunOrder(msgspec.Struct, frozen=True, tag=True):
    """Runs the model once. ``number`` names the run for a stop. ``until`` is the deadline in monotonic
    seconds, a clock that all processes of a machine share."""

    number: int
    outputs: tuple[str, ...]
    inputs: tuple[PlacedTensor, ...]
    until: float | None = None


class ModelLoaded(msgspec.Struct, frozen=True, tag=True):
    """The child's first message: the model can run."""

    signature: Signature


class RunDone(msgspec.Struct, frozen=True, tag=True):
    """The outputs of a run, in the order that was asked for."""

    outputs: tuple[PlacedTensor, ...]


class ChildRefused(msgspec.Struct, frozen=True, tag=True):
    """The load or the run failed. ``kind`` is the name of the error's class in `gateway.runtime.session`."""

    kind: str
    text: str


ChildMessage = ModelLoaded | RunDone | ChildRefused
