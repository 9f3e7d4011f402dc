"""
A locust user that calls the gateway over gRPC with real images and checks every answer.

Importing this patches the process for gevent (locust does), and tells gRPC so: import it first.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from locust import User, constant_throughput, task  # patches for gevent: before everything that opens sockets

import grpc.experimental.gevent as grpc_gevent  # isort: skip

grpc_gevent.init_gevent()

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from gateway.client import CallError, Client, RetryPolicy  # noqa: E402
from gateway.demo.models import INPUT  # noqa: E402

MODEL = "digits"
OUTPUT = "probabilities"
TIMEOUT_S = 10.0


@dataclass(slots=True)
class Book:
    """
    The data that all users of one run share: requests, right answers, and what they saw. One thread: greenlets need no lock.
    """

    address: str
    images: NDArray[np.float32]
    right: Mapping[str, NDArray[np.float32]]  # by version: the probabilities of every image
    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    stale: int = 0
    longest_s: float = 0.0  # of a call
    last_failure: float = 0.0  # monotonic seconds
    expected: tuple[float, str] | None = None  # since when only this version may answer

    def answered(self, began: float, row: int, version: str, output: NDArray[Any]) -> None:
        """Counts one answer, and compares it with what the version it names gives for that image."""
        self.answers[version] += 1
        if version not in self.right or not np.allclose(output[0], self.right[version][row], atol=1e-4):
            self.wrong += 1
        if self.expected is not None and began > self.expected[0] and version != self.expected[1]:
            self.stale += 1

    def failed(self, error: CallError) -> None:
        """Counts one failure by its code."""
        self.failures[error.code] += 1
        self.messages[f"{error.code}: {error}"] += 1
        self.last_failure = time.monotonic()


def user_class(book: Book, *, rate_per_user: float) -> type[User]:
    """Returns a locust user that reads from and writes to ``book``."""

    class ImageUser(User):  # type: ignore[misc]
        """One caller with its own connection; never retries, so that every failure is seen."""

        wait_time = constant_throughput(rate_per_user)

        def on_start(self) -> None:
            """Opens the connection."""
            self.client = Client(book.address, channels=1, retry=RetryPolicy(max_attempts=1))
            self.random = np.random.default_rng(id(self))

        def on_stop(self) -> None:
            """Closes it."""
            self.client.close()

        @task
        def infer(self) -> None:
            """One prediction of a random image."""
            row = int(self.random.integers(len(book.images)))
            began, error, size = time.monotonic(), None, 0
            try:
                answer = self.client.infer(MODEL, {INPUT: book.images[row : row + 1]}, timeout_s=TIMEOUT_S)
                size = answer[OUTPUT].nbytes
                book.answered(began, row, answer.version, answer[OUTPUT])
            except CallError as failed:
                error = failed
                book.failed(failed)
            book.longest_s = max(book.longest_s, time.monotonic() - began)
            self.environment.events.request.fire(
                request_type="grpc",
                name="ModelInfer",
                response_time=(time.monotonic() - began) * 1000,
                response_length=size,
                exception=error,
                context={},
            )

    return ImageUser
