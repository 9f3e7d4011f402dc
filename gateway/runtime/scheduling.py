"""
Which of a worker's threads the kernel lets interrupt which.

gRPC's core hands writes to threads of its own. Where cores are few, such a thread wakes up, takes the core from the lane's
thread after every answer, and sends that one answer. Under SCHED_BATCH (sched(7)) a thread that wakes up does not take
the core from a running one: the lane's thread answers its whole batch first, and one write sends all of it. Measured on
one core: 7 to 25 % more requests a second; shares of the processor do not change.

But the thread that reads the network must take the core from a long run, which else keeps it until its time slice ends: a
model of 3 ms then holds up for 1.4 ms in the median who is to be refused, 0.4 ms otherwise. It does so under the usual
policy, and does not take it from the lane's while its weight is half as large: the kernel (EEVDF) prefers the thread whose
share is due first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

NETWORK_NICENESS = 3  # half the lane's weight, twice a slow model's
SLOW_NICENESS, SHADOW_NICENESS, LEAST_NICENESS = 6, 15, 19


def in_background() -> None:
    """Puts the calling thread, and those that it starts from now on, behind the lane's thread. Does nothing off Linux."""
    _set_policy("SCHED_BATCH")


def in_foreground() -> None:
    """Lets the calling thread take the core as soon as it has something to do: the lane's thread."""
    _set_policy("SCHED_OTHER")


def reading_the_network() -> None:
    """Lets the calling thread take the core from long runs as soon as something arrives, but not from the lane's thread."""
    in_foreground()
    _be_nicer(NETWORK_NICENESS)


def starting_threads(place: Callable[[], None], start: Callable[[], None]) -> None:
    """
    Calls ``start()`` in a thread that has first called ``place``, so that the threads it starts inherit that. Raises as it
    does.
    """
    with ThreadPoolExecutor(1, initializer=place) as starter:
        starter.submit(start).result()


def behind_the_short() -> None:
    """
    The calling thread has a quarter of the lane's weight, so that long runs take what short ones leave, yet never nothing.
    At equal weights a run of 30 ms has half of a core that it shares with the lane, and a lane that is busy falls behind.
    """
    in_background()
    _be_nicer(SLOW_NICENESS)


def least_important() -> None:
    """Gives the calling thread only what the others leave: for the shadow's thread and those that load."""
    _be_nicer(SHADOW_NICENESS)


def _be_nicer(steps: int) -> None:
    """
    Lowers the thread's priority, but never raises it: the process may have been started with a low one, and raising it again
    is not allowed.
    """
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + steps, LEAST_NICENESS))


def _set_policy(name: str) -> None:
    policy = getattr(os, name, None)
    if policy is None:
        return
    try:
        os.sched_setscheduler(0, policy, os.sched_param(0))  # 0: the calling thread
    except OSError:
        pass  # forbidden by a sandbox: it only costs speed
