"""
A worker's connection to control: made again whenever it breaks, with what waits on it failing at once.

The receiving thread does no work of its own: what arrives is handed to a callback, answers to those who asked.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gateway.contract.asks import Answer, Ask
from gateway.contract.desired import DesiredState
from gateway.contract.link import Link, LinkClosed, Message
from gateway.contract.observed import Hello, Report
from gateway.errors import NotReady

FIRST_DELAY_S = 0.05
LAST_DELAY_S = 1.0
_log = structlog.get_logger("interlock.worker")


@dataclass(slots=True)
class _Waiting:
    """Somebody who asked; ``answer`` stays None when the connection broke."""

    is_done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None


class ControlLink:
    """
    ``connect`` makes a connection (OSError when control is not there); ``on_connected`` is called after `Hello` was sent,
    ``on_message`` for every desired state and report request, both in the receiving thread.
    """

    def __init__(
        self,
        connect: Callable[[], Link],
        hello: Hello,
        *,
        on_connected: Callable[[], None],
        on_message: Callable[[DesiredState | Report], None],
    ) -> None:
        self._connect, self._hello = connect, hello
        self._on_connected, self._on_message = on_connected, on_message
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._tokens = itertools.count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-link", daemon=True)

    @property
    def is_connected(self) -> bool:
        """Whether control is there, as far as is known."""
        return self._link is not None

    def start(self) -> None:
        """Begins to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Closes the connection for good; who waits for an answer gets NotReady. Safe to call twice."""
        self._stopping.set()
        with self._lock:
            link = self._link
        if link is not None:
            link.close()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def send(self, message: Message) -> bool:
        """Sends to control; False when it is away (what was under way may be lost)."""
        link = self._link
        if link is None:
            return False
        try:
            link.send(message)
        except LinkClosed:
            return False
        return True

    def ask(self, method: str, body: bytes, timeout_s: float) -> Answer:
        """Control's answer. Raises NotReady when control is away, goes away, or does not answer in time."""
        token, waiting = next(self._tokens), _Waiting()
        with self._lock:
            self._waiting[token] = waiting
        try:
            if not self.send(Ask(token, method, body)):
                raise NotReady("control is unreachable: try again", method=method)
            if not waiting.is_done.wait(timeout_s):
                raise NotReady(f"control did not answer {method} within {timeout_s:g} s", method=method)
            if waiting.answer is None:
                raise NotReady("control became unreachable before it answered: try again", method=method)
            return waiting.answer
        finally:
            with self._lock:
                self._waiting.pop(token, None)

    def _run(self) -> None:
        delay_s = FIRST_DELAY_S
        while not self._stopping.is_set():
            link = self._connected()
            if link is not None and self._receive(link):
                delay_s = FIRST_DELAY_S
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, LAST_DELAY_S)

    def _connected(self) -> Link | None:
        try:
            link = self._connect()
        except OSError as error:
            _log.debug("control_away", error=str(error))
            return None
        try:
            link.send(self._hello)
        except LinkClosed:
            link.close()
            return None
        return link

    def _receive(self, link: Link) -> bool:
        """Hands on what arrives until the connection breaks; whether anything came."""
        with self._lock:
            self._link = link
        if self._stopping.is_set():  # `stop` may have looked for the connection before it was there
            link.close()
        _log.info("control_connected")
        has_received = False
        try:
            self._on_connected()
            for message in link.messages():
                has_received = True
                self._take(message)
        finally:
            self._lost(link)
        return has_received

    def _take(self, message: Message) -> None:
        if isinstance(message, Answer):
            with self._lock:
                waiting = self._waiting.get(message.token)
            if waiting is not None:
                waiting.answer = message
                waiting.is_done.set()
        elif isinstance(message, DesiredState | Report):
            self._on_message(message)
        else:
            _log.warning("unexpected_message", kind=type(message).__name__)

    def _lost(self, link: Link) -> None:
        with self._lock:
            self._link = None
            waiting = list(self._waiting.values())
        link.close()
        for one in waiting:
            one.is_done.set()
        _log.info("control_disconnected")
