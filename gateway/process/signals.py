"""
Stopping a process of the gateway, by a signal or from a thread, without locks that a signal handler could meet.

The kernel may deliver a signal to any thread, while Python runs its handler in the main thread only, which sleeps on
meanwhile. So the main thread never sleeps long.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from types import FrameType

LOOK_S = 0.5  # seconds after which the handler of a signal runs at the latest, if another thread got it


class Stop:
    """A stop that is asked for once and for good, by a signal handler or any thread. The main thread waits for it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()  # an Event's lock could be held by the very code that a handler interrupts

    def set(self) -> None:
        """Asks to stop."""
        os.write(self._write, b".")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for `set`. Returns False if it did not come in time. None waits for ever."""
        until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, until - time.monotonic())
            if select.select([self._read], [], [], min(left_s, LOOK_S))[0]:
                return True
            if left_s <= LOOK_S:
                return False

    def on_signals(self) -> Stop:
        """Makes SIGTERM and SIGINT ask to stop; a second one ends the process at once. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        return self

    def on_hang_up(self) -> Stop:
        """Makes SIGHUP ask to stop if the terminal is gone, and otherwise do nothing. For the main thread."""
        terminal = Terminal()

        def hung_up(number: int, frame: FrameType | None) -> None:
            if terminal.is_gone():
                self._signalled(number, frame)

        signal.signal(signal.SIGHUP, hung_up)
        return self

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self.wait(0):
            os._exit(128 + number)
        self.set()


def join(thread: threading.Thread) -> None:
    """Waits in the main thread for the end of another. Signals are handled meanwhile."""
    while thread.is_alive():
        thread.join(LOOK_S)


class Terminal:
    """
    The terminal at which this process was started, if there was one. SIGHUP from a closed terminal means that nobody is
    there any more and the gateway should stop; otherwise it is an operator's request.
    """

    def __init__(self) -> None:
        self._was_there = _is_at_terminal()

    def is_gone(self) -> bool:
        """Whether there was a terminal and it was closed."""
        return self._was_there and not _is_at_terminal()


def _is_at_terminal() -> bool:
    return sys.__stderr__ is not None and os.isatty(2)
