"""
Long operations: the request, every step with its time, the result, and those who watch.

Each operation runs in a thread of its own, so a client that goes away stops nothing. Operations on one model run one after
the other. The history is bounded and lives as long as control; what an operation changed is in the registry for good.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import structlog

from gateway.clock import Clock
from gateway.control.changes.deployment_settings import SettingChange
from gateway.errors import GatewayError, NotReady, OperationNotFound
from registry.deployment import Deployment
from registry.errors import RegistryError, RequestReplayed
from registry.versions import Model, ModelVersion

WATCH_S = 0.5  # seconds between two checks whether a watcher's client is still there

_log = structlog.get_logger("interlock.control")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an operation. ``time`` is when it began, in Unix seconds."""

    name: str
    detail: str
    time: float


@dataclass(frozen=True, slots=True)
class Result:
    """
    The result of an operation. ``missing`` has a text for each worker that had not acknowledged when it ended; ``workers``
    are the numbers of the workers that were replaced; ``warnings`` say what is served but will not do what it is for;
    ``changes`` are the settings that `configure` has changed.
    """

    deployment: Deployment | None = None
    version: ModelVersion | None = None
    model: Model | None = None
    missing: tuple[str, ...] = ()
    workers: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[SettingChange, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """
    An operation at one moment. ``error`` is the exception that ended it. Times are Unix seconds; ``ended_at`` is 0 until it
    ends.
    """

    name: str
    verb: str
    model: str
    created_at: float
    steps: tuple[Step, ...] = ()
    is_done: bool = False
    result: Result = Result()
    error: Exception | None = None
    ended_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """
    The request for an operation. Two requests of one ``request_id`` ("" for none) are the same if their ``content`` is. An
    exclusive operation does not run beside another exclusive one on the model.
    """

    verb: str
    model: str
    content: object = None
    request_id: str = ""
    is_exclusive: bool = True


Note = Callable[..., None]  # note(step, detail=""): begins a step
Work = Callable[[Note], Result]
Turns = tuple[threading.Event | None, threading.Event]  # the end of the operation before, and of this one
Ended = Callable[[Operation, float], None]  # with the duration in seconds


class Operations:
    """Runs and remembers operations. Thread-safe. Calls ``ended`` with each that ends."""

    def __init__(self, clock: Clock, *, history: int, ended: Ended = lambda operation, duration_s: None) -> None:
        self._clock, self._history, self._ended = clock, history, ended
        self._changed = threading.Condition()
        self._all: OrderedDict[str, Operation] = OrderedDict()
        self._requests: dict[str, tuple[Request, str]] = {}
        self._turns: dict[str, threading.Event] = {}  # by model; set when the exclusive operation begun last has ended
        self._threads: set[threading.Thread] = set()
        self._prefix, self._count = f"{int(clock.now() * 1000):x}", 0
        self._is_closed = False

    def start(self, request: Request, work: Work) -> Operation:
        """
        Begins an operation: runs ``work(note)`` in a thread. A request_id that came before returns the operation that it
        began then, unless that one failed. Raises RequestReplayed if it came with other content, NotReady while control
        stops.
        """
        with self._changed:
            if self._is_closed:
                raise NotReady("control is stopping")
            earlier = self._replayed(request)
            if earlier is not None:
                return earlier
            operation = self._open(request)
            turns = self._take_turn(request)
            arguments = (operation.name, request, work, turns)
            thread = threading.Thread(target=self._run, args=arguments, name=operation.name, daemon=True)
            self._threads.add(thread)
            thread.start()
        return operation

    def is_repeat(self, request: Request) -> bool:
        """Whether `start` would return an operation that this request began before. Raises RequestReplayed."""
        with self._changed:
            return self._replayed(request) is not None

    def _replayed(self, request: Request) -> Operation | None:
        if not request.request_id or request.request_id not in self._requests:
            return None
        first, name = self._requests[request.request_id]
        if first != request:
            raise RequestReplayed(
                f"request_id: {request.request_id!r} came before with another content ({first.verb} {first.model})",
                request_id=request.request_id,
            )
        operation = self._all.get(name)
        return operation if operation is not None and operation.error is None else None

    def _open(self, request: Request) -> Operation:
        self._count += 1
        name = f"operations/{self._prefix}-{self._count:06d}"
        operation = Operation(name, request.verb, request.model, self._clock.now())
        self._all[name] = operation
        if request.request_id:
            self._requests[request.request_id] = (request, name)
        self._trim()
        return operation

    def _trim(self) -> None:
        surplus = len(self._all) - self._history
        for name in [n for n, one in self._all.items() if one.is_done][: max(0, surplus)]:
            del self._all[name]
        if len(self._requests) > 2 * self._history:
            self._requests = {key: value for key, value in self._requests.items() if value[1] in self._all}

    def _take_turn(self, request: Request) -> Turns | None:
        """Puts exclusive operations on a model in the order of their requests, whichever thread is faster."""
        if not request.is_exclusive:
            return None
        mine = threading.Event()
        before, self._turns[request.model] = self._turns.get(request.model), mine
        return before, mine

    def _run(self, name: str, request: Request, work: Work, turns: Turns | None) -> None:
        start = self._clock.monotonic()
        try:
            result, error = self._worked(name, request, work, turns), None
        except Exception as caught:  # the edge of this thread: the error becomes the operation's result
            result, error = Result(), caught
        with self._changed:
            done = replace(self._all[name], is_done=True, result=result, error=error, ended_at=self._clock.now())
        duration_s = self._clock.monotonic() - start
        _tell(done, duration_s)
        self._ended(done, duration_s)
        with self._changed:  # last, so that who sees it done also sees it counted
            self._all[name] = done
            self._threads.discard(threading.current_thread())
            self._changed.notify_all()

    def _worked(self, name: str, request: Request, work: Work, turns: Turns | None) -> Result:
        def note(step: str, detail: str = "") -> None:
            self._note(name, Step(step, detail, self._clock.now()))

        if turns is None:
            return work(note)
        before, mine = turns
        try:
            if before is not None and not before.is_set():
                note("waiting", f"for another operation on {request.model}")
                before.wait()
            return work(note)
        finally:
            mine.set()

    def _note(self, name: str, step: Step) -> None:
        with self._changed:
            operation = self._all[name]
            self._all[name] = replace(operation, steps=(*operation.steps, step))
            self._changed.notify_all()

    def get(self, name: str) -> Operation:
        """Returns the operation at this moment. Raises OperationNotFound."""
        with self._changed:
            return self._get(name)

    def _get(self, name: str) -> Operation:
        if name not in self._all:
            raise OperationNotFound(f"operation {name!r} is not known; finished ones are forgotten in time", operation=name)
        return self._all[name]

    def newest_first(self) -> tuple[Operation, ...]:
        """Returns all remembered operations."""
        with self._changed:
            return tuple(reversed(self._all.values()))

    def watch(self, name: str, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[Operation]:
        """
        Yields the operation now and after every change until it is done. Changes that come together are yielded as one. Ends
        early when ``is_wanted()`` is false, which is checked every half second. Raises OperationNotFound.
        """
        seen: Operation | None = None
        while True:
            with self._changed:
                while (operation := self._get(name)) is seen:
                    self._changed.wait(WATCH_S)
                    if not is_wanted():
                        return
            seen = operation
            yield operation
            if operation.is_done:
                return

    def wait(self, name: str) -> Operation:
        """Waits until the operation is done and returns it. Raises OperationNotFound."""
        operation = self.get(name)
        for operation in self.watch(name):  # noqa: B007 - the last one counts
            pass
        return operation

    def close(self, timeout_s: float) -> None:
        """Refuses new operations and waits for the running ones, for at most ``timeout_s``."""
        with self._changed:
            self._is_closed = True
            self._changed.wait_for(lambda: not self._threads, timeout_s)


def _tell(operation: Operation, duration_s: float) -> None:
    facts = {"operation": operation.name, "verb": operation.verb, "model": operation.model, "ms": round(duration_s * 1e3, 3)}
    error = operation.error
    if error is None:
        deployment, version = operation.result.deployment, operation.result.version
        facts |= {"revision": deployment.revision, "default": deployment.default} if deployment else {}
        facts |= {"version": version.number} if version else {}
        _log.info("operation_done", **facts, missing=list(operation.result.missing))
    elif isinstance(error, GatewayError | RegistryError):
        _log.warning("operation_failed", **facts, reason=error.reason, error=str(error))
    else:
        _log.error("operation_failed", **facts, reason="INTERNAL", exc_info=error)
