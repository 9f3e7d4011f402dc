"""
`make bench`: runs the scenarios, judges their figures against their goals, and writes out/bench.json and out/bench.md.

One core serves and another makes the load, where there are two. Figures differ from machine to machine; the ratios
inside one run are what counts. Ends with code 1 when a goal was missed or a scenario broke off.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from loadtests.bench import report
from loadtests.bench.collector import Collector
from loadtests.bench.load import MOST_LATE_MS
from loadtests.bench.machine import machine, stay_beside
from loadtests.bench.report import Outcome
from loadtests.bench.scenario import MISSED, Result, Scenario, judge
from loadtests.bench.scenarios import scenarios
from loadtests.bench.scenarios.path import RequestPath
from loadtests.bench.soak import Soak
from loadtests.bench.stand import BROKEN, Stand


def main() -> int:
    """Reads the options and runs the scenarios that they name."""
    options = _options()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    known = scenarios()
    if options.streams or options.as_shipped:
        known["path"] = RequestPath(tuple(options.streams or RequestPath().streams), options.as_shipped)
    known["soak"] = Soak(swaps=options.swaps)
    chosen = [known[name] for name in (options.scenario or scenarios())]
    stay_beside()
    collector = Collector()
    outcomes = []
    try:
        for scenario in chosen:
            console.print(f"\n[bold]{scenario.name}[/bold]: {scenario.about}")
            with tempfile.TemporaryDirectory(prefix=f"interlock-{scenario.name}-") as folder:
                say = functools.partial(console.print, " ")
                stand = Stand(Path(folder), collector, options.pace, options.repetitions, options.most_late_ms, say)
                outcomes.append(run(scenario, stand))
            report.show(console, outcomes[-1])
            write(outcomes, options.out, {"pace": options.pace, "repetitions": options.repetitions})
    finally:
        collector.stop()
    console.print(f"\nwritten to {options.out} and {options.out.with_suffix('.md')}")
    is_missed = any(verdict.word == MISSED for outcome in outcomes for verdict in outcome.verdicts)
    return int(any(outcome.broke for outcome in outcomes) or (is_missed and not options.report_only))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--scenario", nargs="+", choices=[*scenarios(), "soak"], metavar="NAME", help="(default: all but soak)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--pace", type=float, default=1.0, help="stretches (> 1) or shrinks every measurement")
    parser.add_argument("--streams", type=int, nargs="+", help="of the path scenario")
    parser.add_argument("--swaps", type=int, default=Soak().swaps, help="of the soak (default: 1000)")
    parser.add_argument("--as-shipped", action="store_true", help="the path scenario with gRPC's event engine as shipped")
    parser.add_argument(
        "--most-late-ms", type=float, default=MOST_LATE_MS, help="of the load client's own lateness at p99 (default: 2)"
    )
    parser.add_argument("--report-only", action="store_true", help="a missed goal is no failure")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    return parser.parse_args()


def run(scenario: Scenario, stand: Stand) -> Outcome:
    """Runs one scenario. The outcome says what broke it off, if anything did."""
    began = time.monotonic()
    try:
        result, broke = scenario.measure(stand), ""
    except BROKEN as error:
        result, broke = Result({}), f"{type(error).__name__}: {error}"
    return Outcome(scenario, result, judge(scenario.goals, result.figures), time.monotonic() - began, broke)


def write(outcomes: Sequence[Outcome], out: Path, plan: dict[str, float]) -> None:
    """Writes the report so far, as JSON and as Markdown beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    every = {outcome.scenario.name: report.as_json(outcome) for outcome in outcomes}
    out.write_text(json.dumps({"machine": machine(), "plan": plan, "scenarios": every}, indent=2) + "\n")
    out.with_suffix(".md").write_text(report.markdown(outcomes))


if __name__ == "__main__":
    sys.exit(main())
