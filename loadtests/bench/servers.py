"""The servers that are measured, each in processes of its own. Each tells how many calls it really answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from gateway.client import AdminClient, Client
from gateway.client.grpc_channel import Channel
from gateway.demo.process import GatewayProcess
from gateway.protocol.messages import inference
from loadtests.bench.machine import LOAD, SERVER, WORKER_ENVIRONMENT, pin, stand_back

MODEL = "digits"


class ServerFailed(Exception):
    """A server did not start, or its own count contradicts what the load client saw."""


class Server(Protocol):
    """One server under load."""

    name: str
    port: int

    def finish(self, expected: int) -> int:
        """Stops it. Raises ServerFailed when it answered less than ``expected`` calls; returns how many it did."""
        ...


class EchoServer:
    """
    A module of this package that prints its port, and on SIGTERM its count. It runs on the server's core with the environment
    of a gateway's worker; ``env`` goes over that.
    """

    def __init__(self, name: str, module: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [*pin(SERVER), sys.executable, "-m", f"loadtests.bench.{module}", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **WORKER_ENVIRONMENT, **(env or {})},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            self._process.kill()
            raise ServerFailed(f"{name} did not start")
        self.port, self.pid = int(line), self._process.pid

    def finish(self, expected: int) -> int:
        """See Server."""
        self._process.terminate()
        text = self._process.communicate(timeout=20)[0]
        answered = int(text.split()[-1]) if text.split() else 0
        if answered < expected:
            raise ServerFailed(f"{self.name}: the load saw {expected} answers, the server gave {answered}")
        return answered


class Interlock:
    """
    The whole gateway with everything on. Its workers run on the server's core; control and the supervisor beside the load,
    control at a low priority. A context manager. ``env`` goes to all of its processes.
    """

    name = "Interlock"

    def __init__(
        self, home: Path, *, workers: int = 1, env: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> None:
        log = ("--log-level", "warning")
        self._gateway = GatewayProcess(home, workers=workers, prefix=pin(LOAD), env=env, options=(*log, *options))
        self.port = int(self._gateway.addresses.data.rpartition(":")[2])
        self.http = self._gateway.addresses.http
        try:
            self._note = json.loads((home / "run" / "gateway.json").read_text())
            for worker in self.workers:
                if pin(SERVER):
                    move = [pin(SERVER)[0], "-a", "-p", "-c", pin(SERVER)[-1], str(worker)]
                    subprocess.run(move, check=True, capture_output=True)
            stand_back(self.control)
            self.admin = AdminClient(self._gateway.addresses.admin, author="bench")
        except BaseException:
            self._gateway.stop()
            raise

    @property
    def workers(self) -> list[int]:
        """The workers' process ids, as they were at the start."""
        return [worker["pid"] for worker in self._note["workers"]]

    @property
    def worker(self) -> int:
        """The first worker's process id."""
        return self.workers[0]

    @property
    def supervisor(self) -> int:
        """The supervisor's process id: all others are below it."""
        return self._gateway.pid

    @property
    def control(self) -> int:
        """The control process's id."""
        return int(self._note["control_pid"])

    def deploy(self, model: str, *files: Path) -> None:
        """Registers the files as versions 1, 2, …, serves version 1 and waits until it is ready."""
        for file in files:
            self.admin.register(model, file).result()
        self.admin.deploy(model, 1).result()
        with Client(self._gateway.addresses.data) as client:
            client.wait_ready(model=model)

    def statistics(self, model: str) -> Any:
        """The sums over all versions of a model, as one ModelStatistics."""
        with Channel(self._gateway.addresses.data) as channel:
            request = inference.ModelStatisticsRequest(name=model)
            answer = channel.call(channel.inference.ModelStatistics, request, timeout_s=10)
        total = inference.ModelStatistics(name=model)
        for one in answer.model_stats:
            total.inference_count += one.inference_count
            total.execution_count += one.execution_count
            total.inference_stats.success.count += one.inference_stats.success.count
            total.inference_stats.fail.count += one.inference_stats.fail.count
        return total

    def settled(self, model: str, *, every_s: float = 0.6) -> Any:
        """`statistics` once they stand still: workers report their counts a little later."""
        last, now = None, self.statistics(model)
        while now != last:
            time.sleep(every_s)
            last, now = now, self.statistics(model)
        return now

    def is_running(self) -> bool:
        """Whether the gateway lives."""
        return self._gateway.is_running()

    def finish(self, expected: int) -> int:
        """See Server. Of the digits model."""
        with self:
            stats = self.statistics(MODEL).inference_stats
        # What h2load abandons at the end of a measurement may fail; within it nothing may.
        if stats.success.count < expected:
            failed = stats.fail.count
            raise ServerFailed(f"the load saw {expected} answers, the gateway gave {stats.success.count} and failed {failed}")
        return int(stats.success.count)

    def stop(self) -> None:
        """Ends the gateway."""
        self.admin.close()
        self._gateway.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
