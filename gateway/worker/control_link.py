"""
A worker's connection to control. It is made again whenever it breaks; questions that wait for an answer then fail at once.

The receiving thread does no work of its own: it hands desired states and report requests to a callback, and answers to the
callers that asked.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from gateway.contract.desired import DesiredState
from gateway.contract.handshake import PROTOCOL, Hello, HelloRefused, Welcome, mismatch
from gateway.contract.link import Link, LinkClosed, MalformedFrame, Message
from gateway.contract.observed import Report
from gateway.contract.questions import Answer, AnyAnswerValue, AnyQuestion, Ask
from gateway.errors import AskRefused, NotReady

FIRST_DELAY_S, LAST_DELAY_S = 0.05, 1.0  # seconds between two attempts to connect: doubled from the first to the last
_log = structlog.get_logger("interlock.worker")


@dataclass(slots=True)
class _WaitingQuestion:
    """A question that waits; ``answer`` stays None if the connection breaks."""

    is_done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None


class ControlLink:
    """
    ``connect`` makes a connection (OSError while control is away). ``on_connected`` is called after the handshake,
    ``on_message`` for every desired state and report request, both in the receiving thread. ``refusal`` says why control
    did not accept this worker at the last attempt; "" if it did, or was away.
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
        self._opening: Link | None = None  # a connection before its handshake has ended
        self.refusal = ""
        self.failed_before: frozenset[tuple[str, int]] = frozenset()  # versions, in the process that this one replaces
        self._waiting: dict[int, _WaitingQuestion] = {}
        self._tokens = itertools.count(1)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-link", daemon=True)

    def __repr__(self) -> str:
        return f"<link to control, {'connected' if self.is_connected else self.refusal or 'control is away'}>"

    @property
    def is_connected(self) -> bool:
        """Whether control has accepted this worker and the connection is not known to be broken."""
        return self._link is not None

    def start(self) -> None:
        """Starts to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Closes the connection for good. Questions that wait fail with NotReady. Safe to call twice."""
        self._stopping.set()
        with self._lock:
            links = [link for link in (self._opening, self._link) if link is not None]
        for link in links:
            link.close()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def send(self, message: Message) -> bool:
        """Sends to control. Returns False if it is away; messages sent just before may be lost."""
        link = self._link
        if link is None:
            return False
        try:
            link.send(message)
        except LinkClosed:
            return False
        return True

    def ask(self, question: AnyQuestion, timeout_s: float) -> AnyAnswerValue:
        """
        Returns control's answer. Raises AskRefused with control's error; NotReady if control is away, goes away, or does
        not answer in time.
        """
        answer = self._answer(question, timeout_s)
        error = answer.error
        if error is not None or answer.value is None:
            if error is None:
                raise AskRefused("control sent no answer", kind="", reason="INTERNAL")
            raise AskRefused(
                error.message, kind=error.kind, reason=error.reason, retry_after_s=error.retry_after_s, **error.metadata
            )
        return answer.value

    def _answer(self, question: AnyQuestion, timeout_s: float) -> Answer:
        token, waiting = next(self._tokens), _WaitingQuestion()
        with self._lock:
            self._waiting[token] = waiting
        try:
            if not self.send(Ask(token, question)):
                raise NotReady(self.refusal or "control is unreachable: try again")
            if not waiting.is_done.wait(timeout_s):
                raise NotReady(f"control did not answer within {timeout_s:g} s")
            if waiting.answer is None:
                raise NotReady("control became unreachable before it answered: try again")
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
        with self._lock:
            self._opening = link
        try:
            if self._stopping.is_set():  # `stop` may have come before the connection was there
                raise LinkClosed("stopping")
            link.send(self._hello)
            self._check(link.receive())
        except LinkClosed as error:
            if isinstance(error, MalformedFrame):
                self._refused(mismatch(PROTOCOL, 0) + f" ({error})")
            link.close()
            return None
        finally:
            with self._lock:
                self._opening = None
        self.refusal = ""
        return link

    def _check(self, first: Message) -> None:
        """Raises LinkClosed unless the first message of control is a welcome in the same protocol."""
        match first:
            case Welcome(protocol, failed) if protocol == PROTOCOL:
                self.failed_before = frozenset(failed)
                return
            case Welcome(protocol):
                self._refused(mismatch(PROTOCOL, protocol))
            case HelloRefused():
                self._refused(first.reason)
            case _:
                self._refused(mismatch(PROTOCOL, 1))  # a control from before there was a handshake
        raise LinkClosed(self.refusal)

    def _refused(self, reason: str) -> None:
        if reason != self.refusal:  # else it is known, and comes at every attempt
            _log.error("control_refused", reason=reason)
        self.refusal = reason

    def _receive(self, link: Link) -> bool:
        """Takes messages until the connection breaks. Returns whether there was one."""
        with self._lock:
            self._link = link
        if self._stopping.is_set():  # `stop` may have come before the connection was there
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
