"""
The parent's side of an isolated model: a session whose runs happen in a child process.

The first death of a child has it started again at once, the next ones after growing pauses. Runs that come meanwhile wait for
the child as long as they may.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from gateway.runtime.halt import Halt
from gateway.runtime.isolated.child_process import ChildDied, ChildProcess, ModelToRun
from gateway.runtime.isolated.orders_to_child import ChildMessage, ChildRefused, ModelLoaded, RunDone, RunOrder
from gateway.runtime.process_memory import Resident, resident
from gateway.runtime.session import Array, InputsRefused, LoadRefused, RunFailed, RunStopped, SessionCrashed

LOAD_S = 600.0  # seconds that a child has to load its model
WAIT_S = 30.0  # seconds that a run without a deadline waits for the child
HANG_S = 10.0  # seconds beyond its deadline after which a run that cannot be stopped is ended with its process
SETTLED_S = 30.0  # a life this long forgives the deaths before it
LONGEST_PAUSE_S = 10.0
_ERRORS = {error.__name__: error for error in (RunFailed, InputsRefused, RunStopped, LoadRefused)}
OnDeath = Callable[[str], None]


def pause_s(deaths_in_a_row: int) -> float:
    """Returns the seconds before the next start: none after the first death, then 0.1 doubling to 10."""
    return 0.0 if deaths_in_a_row <= 1 else float(min(LONGEST_PAUSE_S, 0.1 * 2 ** min(deaths_in_a_row - 2, 32)))


class IsolatedSession:
    """
    A `Session`. ``spawner`` has a thread of usual priority, which a child inherits. ``on_death(signal)`` is called for every
    death that a run has caused.
    """

    def __init__(self, model: ModelToRun, spawner: Executor, on_death: OnDeath = lambda signal: None) -> None:
        """Loads the model in a child. Raises LoadRefused, also if the child dies of it."""
        self._model, self._spawner, self._on_death = model, spawner, on_death
        self._turn = threading.Lock()  # one run at a time
        self._numbers = itertools.count(1)
        self._deaths = 0  # in a row
        self._is_closed = self._is_loaded = False
        self._start_at_s = self._started_s = 0.0
        self._child: ChildProcess | None = None
        try:
            self.signature = self._load(self._start(), LOAD_S).signature
        except BaseException:
            self._end()
            raise

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, Array], until: float | None = None, halt: Halt | None = None
    ) -> list[Array]:
        ends_s = time.monotonic() + WAIT_S if until is None else until
        if not self._turn.acquire(timeout=max(ends_s - time.monotonic(), 0.0)):
            raise RunStopped("the run was stopped: its deadline passed while another run of the model was in its process")
        try:
            return self._run(self._living(ends_s), outputs, inputs, until, halt)
        except ChildDied as died:
            self._died()
            self._on_death(died.signal.partition(",")[0])
            raise SessionCrashed(f"its process died of it ({died.signal}); it would again, so do not repeat it") from None
        finally:
            self._turn.release()

    def resident(self) -> Resident:
        """Returns the memory of the child."""
        child = self._child
        return resident(child.pid) if child is not None and self._is_loaded else Resident()

    def close(self) -> None:
        with self._turn:
            self._is_closed = True
            self._end()

    # ---- a run ------------------------------------------------------------------------------------------------------

    def _run(
        self, child: ChildProcess, outputs: Sequence[str], inputs: Mapping[str, Array], until: float | None, halt: Halt | None
    ) -> list[Array]:
        number = next(self._numbers)
        child.send(RunOrder(number, tuple(outputs), child.inputs.write(inputs.items()), until))
        if halt is not None:
            halt.bind(lambda: child.stop(number))
        reply = child.receive(None if until is None else until + HANG_S - time.monotonic())
        if reply is None:
            child.kill()
            raise ChildDied("SIGKILL, because it did not stop at its deadline")
        if isinstance(reply, RunDone):
            return [child.outputs.read(one).copy() for one in reply.outputs]  # the next run writes over them
        raise _error_of(reply)

    # ---- the child's life -------------------------------------------------------------------------------------------

    def _start(self) -> ChildProcess:
        self._started_s, self._is_loaded = time.monotonic(), False
        self._child = self._spawner.submit(ChildProcess, self._model).result()
        return self._child

    def _load(self, child: ChildProcess, timeout_s: float) -> ModelLoaded:
        """Waits until the child has loaded the model. Raises LoadRefused, and RunStopped when the time is over."""
        try:
            reply = child.receive(timeout_s)
        except ChildDied as died:
            raise LoadRefused(f"its process died while it loaded the model ({died.signal})") from None
        if reply is None:
            raise RunStopped("the run was stopped: its deadline passed while the model's process was started again")
        if not isinstance(reply, ModelLoaded):
            raise LoadRefused(str(_error_of(reply)))
        self._is_loaded = True
        return reply

    def _living(self, ends_s: float) -> ChildProcess:
        """Returns the child, after its start if need be. Raises RunStopped if that takes longer than the run may wait."""
        if self._is_closed:
            raise RunFailed("the model is being unloaded")
        if self._is_loaded and self._child is not None and not self._child.is_running:
            self._died()  # killed from outside while nothing ran: nobody's request is to blame
        child = self._child
        if child is None:
            time.sleep(max(min(self._start_at_s, ends_s) - time.monotonic(), 0.0))
            child = self._start()
        if not self._is_loaded:
            try:
                self._load(child, ends_s - time.monotonic())
            except LoadRefused as error:
                self._died()
                raise RunFailed(f"its process does not come up again: {error}") from None
        return child

    def _died(self) -> None:
        """Takes away a dead child; the first time the next one is started at once, and loads while nobody waits."""
        self._end()
        lived_s = time.monotonic() - self._started_s
        self._deaths = 1 if lived_s >= SETTLED_S else self._deaths + 1
        wait_s = pause_s(self._deaths)
        self._start_at_s = time.monotonic() + wait_s
        if not wait_s:
            self._start()

    def _end(self) -> None:
        child, self._child, self._is_loaded = self._child, None, False
        if child is not None:
            child.end()


def _error_of(reply: ChildMessage) -> Exception:
    if isinstance(reply, ChildRefused):
        return _ERRORS.get(reply.kind, RunFailed)(reply.text)
    return RunFailed(f"the model's process sent {type(reply).__name__} out of turn")
