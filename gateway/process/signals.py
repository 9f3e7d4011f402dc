"""
How a process of the gateway is asked to end: by a signal or by a thread, without locks a signal handler could meet.

The kernel may hand a signal to any thread, while Python runs its handler in the main thread only, which sleeps on meanwhile.
So the main thread never waits for long without a look.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from types import FrameType

LOOK_S = 0.5  # after so long at the most the handler of a signal runs that another thread took


class Stop:
    """Set once and for good, from a signal handler or any thread; waited for by the main thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()  # an Event's lock could be held by the very code that a handler interrupts

    def set(self) -> None:
        """Asks to end."""
        os.write(self._write, b".")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for `set`; False when it did not come in time. None waits for ever."""
        until = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, until - time.monotonic())
            if select.select([self._read], [], [], min(left_s, LOOK_S))[0]:
                return True
            if left_s <= LOOK_S:
                return False

    def on_signals(self) -> Stop:
        """Makes SIGTERM and SIGINT set it; a second one ends the process at once. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        return self

    def on_hang_up(self) -> Stop:
        """Makes SIGHUP set it when the terminal is gone, and do nothing else. For the main thread."""
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
    """Waits in the main thread for the end of another; signals are handled meanwhile."""
    while thread.is_alive():
        thread.join(LOOK_S)


class Terminal:
    """
    The terminal that this process was started at, if it was. SIGHUP from a closed terminal means that nobody is there any
    more and the gateway should end; from elsewhere it is an operator's request.
    """

    def __init__(self) -> None:
        self._was_there = _is_at_terminal()

    def is_gone(self) -> bool:
        """Whether there was one, and it was closed."""
        return self._was_there and not _is_at_terminal()


def _is_at_terminal() -> bool:
    return sys.__stderr__ is not None and os.isatty(2)
