"""The outbox of one worker, with a thread of its own: a worker that does not read delays nobody else."""

from __future__ import annotations

import threading
from collections import deque

from gateway.contract.desired import DesiredState
from gateway.contract.link import Link, LinkClosed
from gateway.contract.observed import Report
from gateway.contract.questions import Answer


class Outbox:
    """
    Messages that wait to be sent to one worker. Keeps only the newest desired state, because the last one wins.

    ``put`` never blocks; ``run`` sends until ``close``.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._changed = threading.Condition()
        self._desired: DesiredState | None = None
        self._others: deque[Report | Answer] = deque()
        self._is_closed = False

    def put(self, message: DesiredState | Report | Answer) -> None:
        """Queues a message. Does nothing if the worker is gone."""
        with self._changed:
            if isinstance(message, DesiredState):
                self._desired = message
            else:
                self._others.append(message)
            self._changed.notify()

    def close(self) -> None:
        """Ends ``run`` and the connection. Unsent messages are lost. Safe to call twice."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._link.close()

    def run(self) -> None:
        """Sends messages until the outbox is closed or the worker is gone; the reading side notices that by itself."""
        while (message := self._next()) is not None:
            try:
                self._link.send(message)
            except LinkClosed:
                self.close()

    def _next(self) -> DesiredState | Report | Answer | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._desired or self._others)
            if self._is_closed:
                return None
            if self._desired is not None:
                message, self._desired = self._desired, None
                return message
            return self._others.popleft()
