"""The request path: Interlock beside bare gRPC echoes on one core, and plain ONNX Runtime, with h2load."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from loadtests.bench import bodies, h2load
from loadtests.bench.machine import SERVER, machine, pin
from loadtests.bench.scenario import Goal, Grid, Result
from loadtests.bench.servers import MODEL, EchoServer, Interlock, Server, ServerFailed
from loadtests.bench.stand import Stand

AIO, LANE, WHOLE = "bare grpc.aio echo", "bare lane echo", "Interlock"
SHORT = {AIO: "aio", LANE: "lane", WHOLE: "interlock"}
Rates = dict[str, dict[int, float]]


@dataclass(frozen=True, slots=True)
class RequestPath:
    """``is_as_shipped`` measures with gRPC's event engine as grpcio ships it, for a look at every upgrade of grpcio."""

    streams: Sequence[int] = (1, 8, 32, 128)
    is_as_shipped: bool = False
    name: str = "path"
    about: str = "the whole gateway beside bare echoes, digits, requests a second on one core"
    goals: Sequence[Goal] = (
        Goal("lane_ratio_32", "of the bare lane echo at 32 streams", at_least=0.7),
        Goal("lane_ratio_128", "of the bare lane echo at 128 streams", at_least=0.7),
        Goal("aio_ratio_32", "of the bare grpc.aio echo at 32 streams", at_least=4.0),
    )

    def measure(self, stand: Stand) -> Result:
        """See Scenario."""
        alone = {batch: plain_ort(stand, batch) for batch in (1, 32)}
        rates = self._rates(stand)
        figures = {f"{SHORT[name]}_per_s_{m}": rate for name, row in rates.items() for m, rate in row.items()}
        for bare in (AIO, LANE):
            figures |= {f"{SHORT[bare]}_ratio_{m}": rates[WHOLE][m] / rates[bare][m] for m in self.streams}
        figures |= {f"onnxruntime_rows_per_s_{batch}": rate for batch, rate in alone.items()}
        on = machine()
        note = (
            f"Measured on {on['machine']}, CPython {on['python']}, grpcio {on['grpcio']}, onnxruntime {on['onnxruntime']}; "
            f"{on['pinned']}. "
            f"ONNX Runtime alone, without any server: {alone[1]:,.0f} rows/s one by one, {alone[32]:,.0f} in batches of 32."
        )
        return Result(figures, [self._grid(rates)], [note])

    def _rates(self, stand: Stand) -> Rates:
        """Median requests a second by server and streams; the servers take turns, so that what drifts hits all alike."""
        env = {"GRPC_EXPERIMENTS": ""} if self.is_as_shipped else {}
        makers: tuple[Callable[[], Server], ...] = (
            lambda: EchoServer(AIO, "echo_aio", env=env),
            lambda: EchoServer(LANE, "echo_lane", env=env),
            lambda: _with_digits(stand.gateway(env=env), stand),
        )
        body, traces = stand.body(bodies.digits(MODEL)), stand.collector.traces
        with ExitStack() as stack:
            stack.callback(_check_traces, stand, traces)
            servers, seen = [], {}
            for make in makers:
                server = make()
                servers.append(server)
                seen[server.name] = 0
                stack.callback(_finish, server, seen)
            rates: dict[str, dict[int, list[float]]] = {s.name: {m: [] for m in self.streams} for s in servers}
            for repetition in range(stand.repetitions):
                for streams in self.streams:
                    for server in servers:
                        report = h2load.load(server.port, body, streams=streams, seconds=stand.seconds(3))
                        rates[server.name][streams].append(report.rate)
                        seen[server.name] += report.succeeded
                stand.say(f"repetition {repetition + 1} of {stand.repetitions} done")
        return {name: {m: statistics.median(values) for m, values in row.items()} for name, row in rates.items()}

    def _grid(self, rates: Rates) -> Grid:
        """Requests a second, and what the whole gateway reaches of each bare echo: the README's table."""
        rows = [[name, *(f"{row[m]:,.0f}" for m in self.streams)] for name, row in rates.items()]
        rows += [
            [f"{WHOLE} / {bare}", *(f"{rates[WHOLE][m] / rates[bare][m]:.2f}" for m in self.streams)] for bare in (AIO, LANE)
        ]
        setting = " (event engine as shipped)" if self.is_as_shipped else ""
        return Grid("", [f"requests/s on one core, by streams{setting}", *map(str, self.streams)], rows)


def _with_digits(gateway: Interlock, stand: Stand) -> Interlock:
    try:
        gateway.deploy(MODEL, stand.digits())
    except BaseException:
        gateway.stop()
        raise
    return gateway


def _check_traces(stand: Stand, before: int) -> None:
    """The gateway's processes have ended: what they sampled has been sent."""
    sent = stand.collector.traces - before
    if not sent:
        raise ServerFailed("Interlock sent no trace, although it was to trace 1 % of the requests")
    stand.say(f"{sent:,} traces of {WHOLE} were collected")


def _finish(server: Server, seen: dict[str, int]) -> None:
    server.finish(seen[server.name])


def plain_ort(stand: Stand, batch: int) -> float:
    """Rows a second of ONNX Runtime alone on the server's core."""
    seconds = stand.seconds(3)
    command = [sys.executable, "-m", "loadtests.bench.plain_ort", str(stand.digits()), str(seconds), str(batch)]
    done = subprocess.run([*pin(SERVER), *command], capture_output=True, text=True, check=True, timeout=seconds + 60)
    return float(done.stdout)
