"""
Launches a gateway from its settings: takes the home and the ports, then runs the supervisor, or with ``workers`` 0 all in
this process.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from gateway.process.handle import environment
from gateway.process.home import lock, prepare
from gateway.process.sockets import reserve
from gateway.settings.address import Address
from gateway.settings.paths import Home
from gateway.settings.values import Settings

Announce = Callable[[Settings, Path, int], None]
Report = Callable[[str], None]
RunInProcess = Callable[[Settings, Home, Callable[[], None], Report], int]


def run_gateway(settings: Settings, *, announce: Announce, report: Report, run_in_process: RunInProcess) -> int:
    """
    Runs a gateway until a signal stops it. Returns the exit code. Calls ``announce(settings with real ports, home, pid)``
    once, when it serves, and ``report(text)`` with progress for people. ``run_in_process(settings, home, on_ready, report)``
    runs all parts in this process (`gateway.app.run_in_process`). Raises CannotStart.
    """
    with ExitStack() as held:
        _allow_open_files()
        home = prepare(settings.home)
        # A killed gateway leaves children that drain first. Its home is not free until they end.
        handle = lock(home, timeout_s=settings.data_port.drain_delay_s + settings.grace_s + 5, report=report)
        held.callback(os.close, handle)
        ready = _with_ports(settings, home, held)

        def on_ready() -> None:
            announce(ready, home.folder, os.getpid())

        if settings.workers == 0:
            os.environ.update(environment("worker"))  # before gRPC is imported
            return run_in_process(ready, home, on_ready, report)
        return _supervised(ready, home, handle, on_ready, report)


def _allow_open_files() -> None:
    """Raises the soft limit of open files to the hard one, for this process and its children: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # the system does not permit it: the soft limit stays


def _with_ports(settings: Settings, home: Home, held: ExitStack) -> Settings:
    def take(option: str, wanted: Address) -> Address:
        address, keeper = reserve(option, wanted)
        held.enter_context(closing(keeper))
        return address

    addresses = {name: take(name, address) for name, address in settings.addresses.items()}
    return settings.replaced(home=home.folder, **addresses)


def _supervised(settings: Settings, home: Home, handle: int, on_ready: Callable[[], None], report: Report) -> int:
    from gateway.process.supervisor import Plan, Supervisor
    from gateway.telemetry.logs import configure_logs

    configure_logs(settings.log_level, role="supervisor")
    return Supervisor(Plan(settings, home, handle), on_ready=on_ready, report=report).run()
