"""
`make bench-peers`: MLServer, KServe's Python server and PyTriton beside Interlock, on the same model and requests.

Installs each peer in an environment of its own (build/peers, kept), serves the digits perceptron in all of them, checks
their answers under load, and measures all in turn; prints medians and ratios, writes JSON, Markdown and a plot to out/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from gateway.demo import models
from loadtests.bench import bodies, h2load
from loadtests.bench.collector import Collector
from loadtests.bench.machine import SERVER, WORKER_ENVIRONMENT, machine, pin, stay_beside
from loadtests.bench.scenarios.path import LANE
from loadtests.bench.servers import MODEL, EchoServer, Interlock, ServerFailed
from loadtests.bench.stand import BROKEN
from loadtests.peers import environments, native, report
from loadtests.peers.catalogue import PEERS, Peer
from loadtests.peers.measure import Contender, Contest, Plan, Samples
from loadtests.peers.peer import PeerServer
from loadtests.peers.probe import Expected
from loadtests.peers.processes import Watched
from loadtests.peers.publish import NotPublished, check_marks, publish

STREAMS = (1, 8, 32, 128)
LANE_GOAL = 0.7
MOST_LOAD = 0.3  # of the cores


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS), help="these peers alone")
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement, in turns of a second (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("out/bench-peers.json"), help="plot and Markdown stand beside it")
    parser.add_argument("--event-engine-off", action="store_true", help="give the peers Interlock's gRPC setting too")
    parser.add_argument("--publish", action="store_true", help="put plot and table into docs/ and README.md")
    return parser.parse_args(arguments)


def main() -> int:
    """Reads the options, installs and measures; 1 when something could not be."""
    given = options()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if shutil.which("h2load") is None:
        console.print(h2load.MISSING)
        return 1
    if given.publish:
        check_marks()
    signal.signal(signal.SIGTERM, _interrupted)
    stay_beside()
    if is_busy(os.getloadavg()[0]):
        console.print("[yellow]this machine is busy (its load average says so): figures measured now are worth little[/yellow]")
    peers = [PEERS[key] for key in given.only]
    pythons = {peer.key: environments.ensure(peer.key, console.print) for peer in peers}
    plotter = environments.ensure("plot", console.print)
    env = {peer.key: native.library_path(pythons[peer.key]) if peer.key == "pytriton" else {} for peer in peers}
    if given.event_engine_off:
        env = {key: {**values, "GRPC_EXPERIMENTS": WORKER_ENVIRONMENT["GRPC_EXPERIMENTS"]} for key, values in env.items()}
    plan = Plan(tuple(given.streams), given.repetitions, given.seconds)
    samples, families, right = contest(console, plan, peers, pythons, env)
    versions = {peer.name: environments.installed_version(pythons[peer.key], peer.package) for peer in peers}
    result = results(plan, peers, samples, families, versions)
    result["answers checked under load"] = right
    written = publish(result, given.json, plotter, is_for_readers=given.publish)
    show(console, samples, families, peers)
    console.print(f"\nwritten: {', '.join(map(str, written))}")
    return 0


def contest(
    console: Console, plan: Plan, peers: list[Peer], pythons: dict[str, Path], env: dict[str, dict[str, str]]
) -> tuple[Samples, dict[str, str], dict[str, int]]:
    """Starts everything, checks, measures, stops everything. The samples, each server's family, the answers checked."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-peers-")))
        file = models.export(models.perceptron(models.scans()[0]), home / "digits.onnx")
        body = home / "digits.body"
        body.write_bytes(bodies.digits(MODEL))
        run = Contest(stack, body, Expected.of(file))
        enter_ours(run, file, home, stack)
        for peer in peers:
            for setting in peer.settings:
                console.print(f"starting {peer.name}, {setting.name}")
                python, extra = pythons[peer.key], env[peer.key]
                server = PeerServer(peer, setting, file, home, python=python, expected=run.expected, pin=pin(SERVER), env=extra)
                run.enter(Contender(peer.name, server, Watched((server.pid,))))
        right = run.check()
        console.print(f"checked under load: {', '.join(f'{name}: {count} right answers' for name, count in right.items())}")
        samples = run.measure(plan, console.print)
        return samples, {contender.server.name: contender.family for contender in run.contenders}, right


def enter_ours(run: Contest, file: Path, home: Path, stack: ExitStack) -> None:
    """Interlock with everything on, as in `make bench`, and the bare lane echo under the same gRPC settings."""
    collector = Collector()
    stack.push(lambda kind, value, trace: _end_traces(collector, is_done=kind is None))
    gateway = Interlock(home / "home", env=collector.environment)
    run.enter(Contender(gateway.name, gateway, Watched(tuple(gateway.workers), (gateway.supervisor,))))
    gateway.deploy(MODEL, file)
    echo = EchoServer(LANE, "echo_lane")
    run.enter(Contender(LANE, echo, Watched((echo.pid,)), is_model=False))


def _end_traces(collector: Collector, *, is_done: bool) -> None:
    collector.stop()
    if is_done and not collector.traces:
        raise ServerFailed("Interlock sent no trace, although it was to trace 1 % of the requests")


def results(
    plan: Plan, peers: list[Peer], samples: Samples, families: dict[str, str], versions: dict[str, str]
) -> dict[str, Any]:
    """Everything that was measured, for JSON."""
    table = report.rows(samples, families)
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {
        "machine": machine(),
        "versions": versions,
        "plan": asdict(plan),
        "caption": f"one core serves, logarithmic; {named}; medians of {plan.repetitions}",
        "table": {name: {str(m): asdict(cell) for m, cell in row.items()} for name, row in table.items()},
        "ratios": {name: {str(m): value for m, value in row.items()} for name, row in report.ratios(table).items()},
        "goals": [asdict(goal) for goal in report.goals(table, _wanted(peers))],
        "samples": {
            name: {str(m): [asdict(sample) for sample in values] for m, values in row.items()} for name, row in samples.items()
        },
        "markdown": report.markdown(table, versions, machine(), "docs/bench-peers.png"),
    }


def show(console: Console, samples: Samples, families: dict[str, str], peers: list[Peer]) -> None:
    """Table, best settings, what control used beside the worker, and the goals."""
    table = report.rows(samples, families)
    console.print(report.screen(table))
    for line in report.best_settings(table):
        console.print(f"best setting of {line}")
    beside = ", ".join(f"{report.columns(m)}: {cell.beside_us:.1f} µs" for m, cell in table[report.WHOLE].items())
    console.print(f"beside Interlock's worker, on the other core (control and supervisor), CPU per request: {beside}")
    for goal in report.goals(table, _wanted(peers)):
        console.print(f"{goal.text}: {'[green]reached[/green]' if goal.is_reached else '[red]not reached[/red]'}")


def is_busy(load_average: float) -> bool:
    """Whether other work would take the servers' core away."""
    return load_average > MOST_LOAD * (os.cpu_count() or 1)


def _wanted(peers: list[Peer]) -> dict[str, float]:
    return {LANE: LANE_GOAL} | {peer.name: peer.goal for peer in peers}


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; every server was ended")
    except (*BROKEN, environments.InstallFailed, NotPublished) as error:
        sys.exit(f"the benchmark broke off: {error}")
