"""A signal ends a process whichever of its threads the kernel hands it to."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import signal, threading
from gateway.process.signals import Stop, join

stop = Stop().on_signals()
sleeper = threading.Thread(target=threading.Event().wait, daemon=True)
sleeper.start()
{waiting}
# To a thread that is not the main one, which is asleep by then: its sleep is not interrupted.
threading.Timer(0.2, signal.pthread_kill, (sleeper.ident, signal.SIGTERM)).start()
{wait}
print("stopped")
"""


@pytest.mark.parametrize(
    ("waiting", "wait"),
    [
        ("", "assert stop.wait()"),
        ("", "assert stop.wait(60)"),
        ("waiter = threading.Thread(target=stop.wait); waiter.start()", "join(waiter)"),
    ],
)
def test_a_signal_that_another_thread_took_is_seen(waiting: str, wait: str) -> None:
    program = PROGRAM.format(waiting=waiting, wait=wait)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def test_waiting_ends_in_time_without_a_signal() -> None:
    program = "from gateway.process.signals import Stop; print(Stop().wait(0), Stop().wait(0.7))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("False False\n", "")
