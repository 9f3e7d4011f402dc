"""
The tour, step by step, and the verdict at its end.

Every step does something to a running gateway through the public client, while callers go on, and checks what must hold: no
request fails, no answer comes from a version that was already replaced, a unit always gets the same version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from gateway.client import AdminClient, Lineage, Updates
from gateway.demo.callers import MODEL, Callers, Seen
from gateway.demo.process import GatewayBroken, GatewayProcess
from gateway.demo.result_table import Measured, final_table, measured
from gateway.protocol.messages import admin as messages

NAMES = {"1": "logistic regression", "2": "perceptron", "3": "wrecked perceptron"}
T = TypeVar("T")
RECENT_S = 3.0  # the window in which the tour looks at live quality


class StepFailed(Exception):
    """A promise of the tour was broken. The text says which."""


class Tour:
    """The steps on one running gateway, in their order. Each prints what it did."""

    def __init__(self, console: Console, gateway: GatewayProcess, admin: AdminClient, traffic: Callers) -> None:
        self._console = console
        self._gateway = gateway
        self._admin = admin
        self._traffic = traffic
        self._step = 2  # training and starting came first

    def run(self) -> int:
        """All of it; how many things went wrong. Raises StepFailed, GatewayBroken or CallError where it cannot go on."""
        self.serve_first()
        self.split()
        self.shadow()
        self.promote_second()
        self.promote_third_by_mistake()
        self.roll_back()
        return self.verdict()

    def register(self, files: Iterable[Path]) -> None:
        """Registers all three versions, which do not serve yet."""
        self._title("Register three versions", "interlock register digits FILE")
        for (version, name), file in zip(NAMES.items(), files, strict=True):
            lineage = Lineage(datasets=("scikit-learn digits",))
            done = self._admin.register(MODEL, file, tags={"kind": name.replace(" ", "-")}, lineage=lineage).result()
            if str(done.version.version) != version:
                raise StepFailed(f"expected version {version}, got {done.version.version}")
            rows = "rows are independent: batched" if done.version.batchable else f"unbatched: {done.version.batching_reason}"
            self._say(f"v{version} {name}: {done.version.size_bytes:,} bytes, {rows}")

    def serve_first(self) -> None:
        """Deploys v1 for everybody, and starts the callers."""
        self._title("Serve v1", "interlock deploy digits 1")
        self._change(self._admin.deploy(MODEL, 1, reason="first version"))
        self._traffic.start()
        self._traffic.expect({"1"})
        self._watch(4)

    def split(self) -> None:
        """Splits 70/30, sticky by unit."""
        self._title("A/B test: 30 % of the users meet v2", "interlock split digits 1=70 2=30")
        self._traffic.expect(())
        self._change(self._admin.split(MODEL, {"1": 70, "2": 30}, reason="is the perceptron better?"))
        self._traffic.expect({"1", "2"})
        before = self._traffic.answers()
        self._watch(7)
        since = self._traffic.answers() - before
        units, wavering = self._traffic.units()
        self._say(f"v2 answered {since['2'] / max(1, since.total()):.0%}; of {units} users, {wavering} got both versions")
        if wavering:
            raise StepFailed(f"{wavering} users got both versions: the split is not sticky")
        self._show_quality(0.0)

    def shadow(self) -> None:
        """Sends v3 copies of requests."""
        self._title("v3 as a shadow: copies of all requests, answers compared and thrown away", "interlock shadow digits 3")
        self._change(self._admin.shadow(MODEL, 3, percent=100.0))
        self._watch(5)
        row = self._wait("answers of the shadow to be compared", self._shadow_row)
        share = row.shadow_disagreed / row.shadow_compared
        self._say(f"compared {row.shadow_compared}, of which it disagreed in {share:.0%}; dropped {row.shadow_dropped}")

    def promote_second(self) -> None:
        """Promotes v2 under load."""
        self._title("Promote v2 under load", "interlock promote digits 2")
        self._traffic.expect(())
        self._change(self._admin.promote(MODEL, 2, reason="better in the A/B test"))
        self._traffic.expect({"2"})
        self._watch(4)

    def promote_third_by_mistake(self) -> None:
        """Promotes v3, until ground truth shows its quality."""
        self._title("Promote v3, by mistake", "interlock promote digits 3")
        self._traffic.expect(())
        self._change(self._admin.promote(MODEL, 3, reason="a mistake"))
        self._traffic.expect({"3"})
        self._say("the ground truth arrives half a second after each prediction; live accuracy of what was served lately:")
        self._wait("the accuracy to fall", self._has_fallen, timeout_s=40, every_s=1)

    def roll_back(self) -> None:
        """Rolls back. The predecessor is still warm: one commit."""
        self._title("Roll back", "interlock rollback digits")
        self._traffic.expect(())
        self._change(self._admin.rollback(MODEL, reason="live accuracy collapsed"))
        self._traffic.expect({"2"})
        self._watch(RECENT_S + 1)
        self._show_quality(RECENT_S)

    def verdict(self) -> int:
        """Prints the table. Returns the number of problems."""
        self._traffic.stop()
        seen, sent = self._traffic.seen, self._traffic.seen.truths
        self._wait(f"all {sent} labels to be joined", lambda: self._joined() >= sent)
        quality, status = self._admin.quality(MODEL), self._admin.status(MODEL)
        self._console.print()
        self._console.print(final_table(NAMES, seen, quality, status))
        wrong = [*seen.failures, *problems(seen, measured(quality))]
        for text in dict.fromkeys(wrong):
            self._console.print(f"[red]wrong:[/red] {text}", highlight=False)
        if not wrong:
            self._say(f"{sent} labels were sent back and joined; the callers counted the same accuracy themselves")
        self._console.print(f"{len(seen.failures)} requests failed", style="bold red" if wrong else "bold green")
        return len(wrong)

    # ---- the parts of steps

    def _title(self, text: str, command: str) -> None:
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {text}[/bold]  [dim]{command}[/dim]", highlight=False)

    def _say(self, text: str) -> None:
        self._console.print(f"   {text}", highlight=False)

    def _change(self, updates: Updates) -> None:
        began = time.perf_counter()
        operation = updates.result()
        took_ms = (time.perf_counter() - began) * 1000
        self._say(f"revision {operation.deployment.revision} in force in every worker after {took_ms:.0f} ms")
        if operation.missing:
            raise StepFailed(f"{operation.verb}: {'; '.join(operation.missing)}")

    def _watch(self, duration_s: float) -> None:
        """Waits, and prints every second what callers got since the last."""
        end, last = time.monotonic() + duration_s, self._traffic.answers()
        while time.monotonic() < end:
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
            now = self._traffic.answers()
            got = ", ".join(f"v{version} {count}" for version, count in sorted((now - last).items())) or "nothing"
            self._say(f"answered: {got}; failed so far: {len(self._traffic.seen.failures)}")
            last = now
            if not self._gateway.is_running():
                raise GatewayBroken(f"the gateway ended:\n{self._gateway.tail()}")

    def _wait(self, what: str, condition: Callable[[], T | None], *, timeout_s: float = 15.0, every_s: float = 0.1) -> T:
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise StepFailed(f"waited {timeout_s:g} s for {what}")
            time.sleep(every_s)
        return found

    def _joined(self) -> int:
        return sum(live.labelled for live in measured(self._admin.quality(MODEL)).values())

    def _shadow_row(self) -> messages.VersionStatus | None:
        rows = [row for model in self._admin.status(MODEL).models for row in model.versions]
        return next((row for row in rows if row.version == 3 and row.shadow_compared), None)

    def _show_quality(self, window_s: float) -> None:
        for version, live in sorted(measured(self._admin.quality(MODEL, window_s)).items()):
            self._say(f"v{version}: live accuracy {live.accuracy:.1%} of {live.labelled} labelled")

    def _has_fallen(self) -> bool:
        self._show_quality(RECENT_S)
        live = measured(self._admin.quality(MODEL, RECENT_S))
        return set(live) == {"3"} and live["3"].labelled >= 200 and live["3"].accuracy < 0.5


def problems(seen: Seen, live: Mapping[str, Measured]) -> list[str]:
    """Returns the differences between what the gateway says and what the callers saw; empty if there are none."""
    found = []
    if seen.stale:
        found.append(f"{seen.stale} answers came from a version that had been replaced before they were asked for")
    for version, answers in seen.answers.items():
        counted = live.get(version, Measured(0, 0.0, 0.0))
        if counted.labelled != answers or round(counted.accuracy * counted.labelled) != seen.right[version]:
            found.append(
                f"v{version}: the gateway counts {counted.accuracy:.2%} of {counted.labelled} right, "
                f"the callers {seen.right[version]} of {answers}"
            )
    return found
