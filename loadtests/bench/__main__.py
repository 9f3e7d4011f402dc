"""
`make bench`: measures everything in turn, several times, and prints medians and ratios; writes out/bench.json.

One core serves and another makes the load, where there are two. Figures differ from machine to machine; the ratios
inside one run are what counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from gateway.demo import models
from gateway.demo.process import GatewayBroken
from loadtests.bench import h2load
from loadtests.bench.collector import Collector
from loadtests.bench.servers import MODEL, EchoServer, Interlock, Server, ServerFailed

STREAMS = (1, 8, 32, 128)
AIO, LANE, WHOLE = "bare grpc.aio echo", "bare lane echo", "Interlock"
EVENT_ENGINE_OFF = "-event_engine_listener,-event_engine_client"
# The goals at 32 streams: what the whole gateway must reach of the two bare echoes.
GOALS = {AIO: 4.0, LANE: 0.5}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often."""

    streams: tuple[int, ...]
    repetitions: int
    seconds: float


def main() -> int:
    """Reads the options and measures; 1 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (default: 3)")
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    parser.add_argument("--one-setting", action="store_true", help="leave out gRPC's event engine as shipped")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if shutil.which("h2load") is None:
        console.print(h2load.MISSING)
        return 1
    plan = Plan(tuple(options.streams), options.repetitions, options.seconds)
    settings = {"event engine off": EVENT_ENGINE_OFF, "event engine as shipped": ""}
    result: dict[str, Any] = {"machine": machine(), "plan": {"seconds": plan.seconds, "repetitions": plan.repetitions}}
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        file = models.export(models.perceptron(models.scans()[0]), Path(folder) / "digits.onnx")
        result["onnxruntime rows/s"] = plain_ort(console, file, plan)
        for name, experiments in list(settings.items())[: 1 if options.one_setting else None]:
            console.print(f"\n[bold]gRPC's {name}[/bold] (GRPC_EXPERIMENTS={experiments!r})")
            rates = measure(console, plan, experiments, file, Path(folder) / name.replace(" ", "-"))
            result[name] = {server: {str(m): rate for m, rate in row.items()} for server, row in rates.items()}
            console.print(table(rates, plan))
            _print_goals(console, rates)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    options.out.with_suffix(".md").write_text(markdown(result, "event engine off", plan))
    console.print(f"\nwritten to {options.out}, and as a table for the README to {options.out.with_suffix('.md')}")
    return 0


def measure(console: Console, plan: Plan, experiments: str, file: Path, home: Path) -> dict[str, dict[int, float]]:
    """Median requests a second by server and streams; the servers take turns, so that what drifts hits all alike."""
    env = {"GRPC_EXPERIMENTS": experiments}
    collector = Collector()
    traced = {**env, **collector.environment}
    makers: tuple[Callable[[], Server], ...] = (
        lambda: EchoServer(AIO, "echo_aio", pin=pin(0), env=env),
        lambda: EchoServer(LANE, "echo_lane", pin=pin(0), env=env),
        lambda: Interlock(file, home, pin=pin(0), beside=pin(1), env=traced),
    )
    body = file.with_suffix(".body")
    body.write_bytes(h2load.request_body(MODEL))
    with ExitStack() as stack:
        stack.callback(_check_traces, console, collector)
        servers, seen = [], {}
        for make in makers:
            server = make()
            servers.append(server)
            seen[server.name] = 0
            stack.callback(_finish, server, seen)
        rates: dict[str, dict[int, list[float]]] = {s.name: {m: [] for m in plan.streams} for s in servers}
        for repetition in range(plan.repetitions):
            for streams in plan.streams:
                for server in servers:
                    report = h2load.load(server.port, body, streams=streams, seconds=plan.seconds, pin=pin(1))
                    rates[server.name][streams].append(report.rate)
                    seen[server.name] += report.succeeded
            console.print(f"  repetition {repetition + 1} of {plan.repetitions} done")
    return {name: {m: statistics.median(values) for m, values in row.items()} for name, row in rates.items()}


def _check_traces(console: Console, collector: Collector) -> None:
    collector.stop()
    if not collector.traces:
        raise ServerFailed("Interlock sent no trace, although it was to trace 1 % of the requests")
    console.print(f"  {collector.traces:,} traces of {WHOLE} were collected")


def _finish(server: Server, seen: dict[str, int]) -> None:
    server.finish(seen[server.name])


def plain_ort(console: Console, file: Path, plan: Plan) -> dict[str, float]:
    """Rows a second of ONNX Runtime alone, by batch size, on the server's core."""
    rates = {}
    for batch in (1, 32):
        command = [*pin(0), sys.executable, "-m", "loadtests.bench.plain_ort", str(file), str(plan.seconds), str(batch)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=plan.seconds + 60)
        rates[str(batch)] = float(done.stdout)
        console.print(f"plain ONNX Runtime, {batch} row{'s' * (batch > 1)} a run: {rates[str(batch)]:,.0f} rows/s")
    return rates


def table(rates: dict[str, dict[int, float]], plan: Plan) -> Table:
    """Requests a second, and what the whole gateway reaches of each bare echo."""
    shown = Table(title="requests/s on one core (medians)")
    shown.add_column("server")
    for streams in plan.streams:
        shown.add_column(f"{streams} stream{'s' * (streams > 1)}", justify="right")
    for name, row in rates.items():
        shown.add_row(name, *(f"{row[m]:,.0f}" for m in plan.streams))
    shown.add_section()
    for bare in (AIO, LANE):
        shown.add_row(f"{WHOLE} / {bare}", *(f"{rates[WHOLE][m] / rates[bare][m]:.2f}" for m in plan.streams))
    return shown


def markdown(result: dict[str, Any], setting: str, plan: Plan) -> str:
    """The table as the README shows it, with what it was measured on."""
    rates, columns = result[setting], [str(m) for m in plan.streams]
    rows = [f"| requests/s on one core, by streams | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    rows += [f"| {name} | {' | '.join(f'{row[m]:,.0f}' for m in columns)} |" for name, row in rates.items()]
    for bare in (AIO, LANE):
        ratios = [f"{rates[WHOLE][m] / rates[bare][m]:.2f}" for m in columns]
        rows.append(f"| {WHOLE} / {bare} | {' | '.join(ratios)} |")
    on, alone = result["machine"], result["onnxruntime rows/s"]
    rows += [
        "",
        f"Measured on {on['machine']}, CPython {on['python']}, grpcio {on['grpcio']}, onnxruntime {on['onnxruntime']}; "
        f"{on['pinned']}. "
        f"ONNX Runtime alone, without any server: {alone['1']:,.0f} rows/s one by one, {alone['32']:,.0f} in batches of 32.",
    ]
    return "\n".join(rows) + "\n"


def _print_goals(console: Console, rates: dict[str, dict[int, float]]) -> None:
    for bare, goal in GOALS.items():
        if 32 in rates[bare]:
            ratio = rates[WHOLE][32] / rates[bare][32]
            word = "[green]reached[/green]" if ratio >= goal else "[red]not reached[/red]"
            console.print(f"32 streams: {ratio:.2f} × {bare}; the goal is {goal:g}: {word}")


def pin(core: int) -> Sequence[str]:
    """The prefix that keeps a command on one core; none where the machine has too few or no taskset."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2 or shutil.which("taskset") is None:
        return ()
    return ("taskset", "-c", str(cores[core]))


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "grpcio": version("grpcio"),
        "onnxruntime": version("onnxruntime"),
        "pinned": "server (of the gateway its worker) and load on a core each" if pin(0) else "not pinned",
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (h2load.H2loadFailed, ServerFailed, GatewayBroken) as error:
        sys.exit(f"the benchmark broke off: {error}")
