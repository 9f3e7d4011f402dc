"""
`python -m loadtests.run SCENARIO|all`: runs load scenarios against a gateway of their own and says whether their limits held.

Prints a table, writes out/loadtest-<scenario>.json, and ends with code 1 when a limit did not hold.
"""

from __future__ import annotations

import argparse  # isort: skip
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gevent
import numpy as np
import onnxruntime
from locust.env import Environment
from rich.console import Console
from rich.table import Table

from gateway.client import AdminClient, CallError, Client
from gateway.demo import models
from gateway.demo.process import GatewayBroken, GatewayProcess
from loadtests import crasher
from loadtests.limits import Outcome, Scenario, problems, scenarios
from loadtests.user import MODEL, OUTPUT, Book, user_class

OUT = Path("out")
WORKERS = 2


def main() -> int:
    """Reads the options and runs the scenarios that they name."""
    known = scenarios()
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=__doc__)
    parser.add_argument("scenario", choices=[*known, "all"])
    parser.add_argument("--seconds", type=float, help="shorter or longer than the scenario says")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the JSON reports (default: out)")
    options = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    chosen = list(known) if options.scenario == "all" else [options.scenario]
    table, failed = _table(), 0
    with tempfile.TemporaryDirectory(prefix="interlock-loadtest-") as folder:
        files, book = prepare(Path(folder))
        for name in chosen:
            scenario = known[name]
            duration_s = options.seconds or scenario.duration_s
            console.print(f"[bold]{name}[/bold]: {scenario.about}; {scenario.users} users, {duration_s:g} s")
            report = run(scenario, duration_s, files, book(), Path(folder) / name)
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"loadtest-{name}.json").write_text(json.dumps(report, indent=2) + "\n")
            _add_row(table, report)
            for text in report["problems"]:
                console.print(f"  [red]limit not kept:[/red] {text}")
            failed += bool(report["problems"])
    console.print(table)
    console.print(f"{failed} of {len(chosen)} scenarios failed", style="bold red" if failed else "bold green")
    return 1 if failed else 0


def prepare(folder: Path) -> tuple[list[Path], Callable[[], Book]]:
    """Makes the model files (versions 1 and 2). Returns a function that makes fresh books with the right answers."""
    train, test = models.scans()
    makers = (models.logistic_regression, models.perceptron)
    files = [models.export(make(train), folder / f"{make.__name__}.onnx") for make in makers]
    right = {
        str(number): onnxruntime.InferenceSession(file).run([OUTPUT], {models.INPUT: test.images})[0]
        for number, file in enumerate(files, start=1)
    }
    return files, lambda: Book("", test.images, right)


def run(scenario: Scenario, duration_s: float, files: list[Path], book: Book, home: Path) -> dict[str, Any]:
    """Runs one scenario on a gateway of its own. Returns the report."""
    with GatewayProcess(home, workers=WORKERS) as gateway, AdminClient(gateway.addresses.admin, author="loadtest") as admin:
        book.address = gateway.addresses.data
        for file in files:
            admin.register(MODEL, file).result()
        for words in scenario.before:
            _apply(admin, words)
        with Client(book.address) as client:
            client.wait_ready(model=MODEL)
        outcome = Outcome()
        stats = _load(scenario, duration_s, book, lambda: _disturb(scenario, duration_s, admin, book, outcome))
        outcome.answers, outcome.failures = dict(book.answers), dict(book.failures)
        outcome.wrong_answers, outcome.stale_answers = book.wrong, book.stale
        found = problems(scenario.limits, outcome)
        if not gateway.is_running():
            found.append("the gateway ended")
        if found:
            print(gateway.tail(), file=sys.stderr)
    return {
        "scenario": scenario.name,
        "users": scenario.users,
        "duration_s": duration_s,
        **stats,
        **asdict(outcome),
        "messages": dict(book.messages.most_common(10)),
        "problems": found,
    }


def _apply(admin: AdminClient, words: str) -> None:
    verb, *rest = words.split()
    if verb == "deploy":
        admin.deploy(MODEL, rest[0]).result()
    elif verb == "split":
        admin.split(MODEL, {version: float(percent) for version, _, percent in (part.partition("=") for part in rest)}).result()
    else:
        raise ValueError(f"scenarios.toml: unknown step {words!r}")


def _load(scenario: Scenario, duration_s: float, book: Book, disturb: Callable[[], None]) -> dict[str, float]:
    """Runs users for the scenario's time, with ``disturb`` beside them. Returns locust's figures."""
    environment = Environment(user_classes=[user_class(book, rate_per_user=scenario.rate / scenario.users)])
    runner = environment.create_local_runner()
    runner.start(scenario.users, spawn_rate=scenario.users)
    beside = gevent.spawn(disturb)
    gevent.sleep(duration_s)
    beside.get(timeout=60)  # raises what broke it
    runner.quit()
    total = environment.stats.total
    return {
        "requests": total.num_requests,
        "requests_per_s": round(total.num_requests / duration_s, 1),
        "p50_ms": total.get_response_time_percentile(0.5) or 0,
        "p99_ms": total.get_response_time_percentile(0.99) or 0,
    }


def _disturb(scenario: Scenario, duration_s: float, admin: AdminClient, book: Book, outcome: Outcome) -> None:
    """Makes the scenario's changes while the load goes on; ends before the load does."""
    match scenario.during.get("do"):
        case None:
            return
        case "promote_and_roll_back":
            end = time.monotonic() + duration_s - 1
            while time.monotonic() < end:
                gevent.sleep(scenario.during["every_s"])
                _change(lambda: admin.promote(MODEL, 2), "2", book, outcome.change_ms)
                gevent.sleep(scenario.during["every_s"])
                _change(lambda: admin.rollback(MODEL), "1", book, outcome.rollback_ms)
                outcome.changes += 2
        case "kill_worker":
            gevent.sleep(min(scenario.during["at_s"], duration_s / 3))
            _kill_worker(admin, outcome, book)
        case "crash":
            _crash(scenario, admin, book, outcome)
        case other:
            raise ValueError(f"scenarios.toml: unknown action {other!r}")


def _change(change: Callable[[], Any], version: str, book: Book, took_ms: list[float]) -> None:
    book.expected = None
    began = time.monotonic()
    change().result()
    took_ms.append((time.monotonic() - began) * 1000)
    book.expected = (time.monotonic(), version)


def _kill_worker(admin: AdminClient, outcome: Outcome, book: Book) -> None:
    victim = admin.status().workers[0]
    os.kill(victim.pid, signal.SIGKILL)
    killed = time.monotonic()
    while time.monotonic() < killed + 30:
        gevent.sleep(0.02)
        workers = admin.status().workers
        if len(workers) == WORKERS and all(w.state == "serving" and w.pid != victim.pid for w in workers):
            break
    outcome.back_s = time.monotonic() - killed
    gevent.sleep(1.0)  # failures that come late belong to the kill too
    outcome.last_failure_s = max(0.0, book.last_failure - killed)


def _crash(scenario: Scenario, admin: AdminClient, book: Book, outcome: Outcome) -> None:
    """Has one caller repeat a request that ends the process that runs it."""
    with tempfile.TemporaryDirectory() as folder:
        admin.register(crasher.MODEL, crasher.make(Path(folder) / "ratio.onnx")).result()
    admin.deploy(crasher.MODEL, 1).result()
    codes: Counter[str] = Counter()
    for _ in range(scenario.during["times"]):
        crasher.crash(book.address, codes)
        gevent.sleep(scenario.during["every_s"])
    outcome.crashes, outcome.longest_wait_s = dict(codes), book.longest_s


def _table() -> Table:
    table = Table(title="Load tests")
    for column in ("scenario", "requests", "per s", "failed", "p50 ms", "p99 ms", "changes", "rollback ms", "back s", "limits"):
        table.add_column(column, justify="left" if column in ("scenario", "limits") else "right")
    return table


def _add_row(table: Table, report: dict[str, Any]) -> None:
    rollback = f"{np.median(report['rollback_ms']):.1f}" if report["rollback_ms"] else "–"
    table.add_row(
        report["scenario"],
        str(report["requests"]),
        f"{report['requests_per_s']:g}",
        str(sum(report["failures"].values())),
        f"{report['p50_ms']:g}",
        f"{report['p99_ms']:g}",
        str(report["changes"] or "–"),
        rollback,
        f"{report['back_s']:.2f}" if report["back_s"] else "–",
        "kept" if not report["problems"] else "NOT KEPT",
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (GatewayBroken, CallError) as error:
        sys.exit(f"the load test broke off: {error}")
