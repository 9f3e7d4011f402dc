"""The servers that are measured, each in processes of its own, each able to say how many calls it really answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gateway.client import AdminClient, Client
from gateway.demo.process import GatewayProcess
from gateway.rpc.channel import Channel
from gateway.rpc.messages import inference

MODEL = "digits"


class ServerFailed(Exception):
    """A server did not start, or its own count does not bear out what h2load saw."""


class Server(Protocol):
    """One server under load."""

    name: str
    port: int

    def finish(self, expected: int) -> int:
        """Stops it. Raises ServerFailed when it answered less than ``expected`` calls; returns how many it did."""
        ...


class EchoServer:
    """A module of this package that prints its port, and on SIGTERM its count."""

    def __init__(self, name: str, module: str, *, pin: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [*pin, sys.executable, "-m", f"loadtests.bench.{module}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            self._process.kill()
            raise ServerFailed(f"{name} did not start")
        self.port = int(line)

    def finish(self, expected: int) -> int:
        """See Server."""
        self._process.terminate()
        text = self._process.communicate(timeout=20)[0]
        answered = int(text.split()[-1]) if text.split() else 0
        if answered < expected:
            raise ServerFailed(f"{self.name}: h2load saw {expected} answers, the server gave {answered}")
        return answered


class Interlock:
    """
    The whole gateway with the digits perceptron deployed and everything on. ``pin`` keeps its one worker on a core, as it
    does the other servers; ``beside`` is where control and the supervisor run.
    """

    def __init__(
        self, model_file: Path, home: Path, *, pin: Sequence[str], beside: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self.name = "Interlock"
        self._gateway = GatewayProcess(home, workers=1, prefix=beside, env=env, options=("--log-level", "warning"))
        try:
            if pin:
                worker = json.loads((home / "run" / "gateway.json").read_text())["workers"][0]["pid"]
                subprocess.run([pin[0], "-a", "-p", "-c", pin[-1], str(worker)], check=True, capture_output=True)
            with AdminClient(self._gateway.addresses.admin) as admin:
                version = admin.register(MODEL, model_file).result().version
                admin.deploy(MODEL, version.version).result()
            with Client(self._gateway.addresses.data) as client:
                client.wait_ready(model=MODEL)
        except BaseException:
            self._gateway.stop()
            raise
        self.port = int(self._gateway.addresses.data.rpartition(":")[2])

    def finish(self, expected: int) -> int:
        """See Server."""
        try:
            with Channel(self._gateway.addresses.data) as channel:
                request = inference.ModelStatisticsRequest(name=MODEL)
                answer = channel.call(channel.inference.ModelStatistics, request, timeout_s=10)
        finally:
            self._gateway.stop()
        answered = sum(one.inference_stats.success.count for one in answer.model_stats)
        failed = sum(one.inference_stats.fail.count for one in answer.model_stats)
        # What h2load abandons at the end of a measurement may fail; within it nothing may.
        if answered < expected:
            raise ServerFailed(f"Interlock: h2load saw {expected} answers, the gateway gave {answered} and failed {failed}")
        return answered
