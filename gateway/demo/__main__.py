"""`python -m gateway.demo`: the whole tour in under three minutes. The exit code says whether everything went well."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from gateway.client import AdminClient, CallError
from gateway.demo import models
from gateway.demo.callers import Callers
from gateway.demo.process import GatewayBroken, GatewayProcess
from gateway.demo.tour import StepFailed, Tour


def main() -> int:
    """Reads the options, runs the tour, and leaves nothing behind unless ``--keep`` is given."""
    parser = argparse.ArgumentParser(prog="python -m gateway.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the gateway running, and print what to try next")
    keep = bool(parser.parse_args().keep)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it cleans up on both
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    folder = Path(tempfile.mkdtemp(prefix="interlock-demo-"))
    began, gateway, code = time.monotonic(), None, 1
    try:
        files, test = _train(console, folder)
        console.print("\n[bold]2. Start the gateway: control and two workers[/bold]  [dim]interlock serve --workers 2[/dim]")
        gateway = GatewayProcess(folder / "home", workers=2)
        console.print(f"   predictions on {gateway.addresses.data}, administration on {gateway.addresses.admin}")
        code = _tour(console, gateway, files, test)
    except (StepFailed, GatewayBroken, CallError) as error:
        console.print("[bold red]the tour broke off:[/bold red]", escape(str(error)), soft_wrap=True)
        if gateway is not None:
            console.print(f"the gateway's log ends:\n{gateway.tail()}", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("\nstopped")
    finally:
        if gateway is not None and not (keep and code == 0):
            gateway.stop()
        if keep and code == 0 and gateway is not None:
            _print_next(console, gateway)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    console.print(f"[dim]took {time.monotonic() - began:.0f} s[/dim]")
    return code


def _train(console: Console, folder: Path) -> tuple[list[Path], models.Scans]:
    """Returns the three ONNX files, and the scans that the callers will send."""
    console.print("[bold]1. Train three classifiers of handwritten digits[/bold]")
    train, test = models.scans()
    makers: tuple[Callable[[models.Scans], Any], ...] = (models.logistic_regression, models.perceptron, models.wrecked)
    files = [models.export(make(train), folder / f"{make.__name__}.onnx") for make in makers]
    console.print(f"   {len(train.digits)} real scans to learn from, {len(test.digits)} others to ask about")
    return files, test


def _tour(console: Console, gateway: GatewayProcess, files: list[Path], test: models.Scans) -> int:
    traffic = Callers(gateway.addresses.data, test)
    with AdminClient(gateway.addresses.admin, author="demo") as admin:
        tour = Tour(console, gateway, admin, traffic)
        try:
            tour.register(files)
            return 1 if tour.run() else 0
        finally:
            traffic.stop()


def _print_next(console: Console, gateway: GatewayProcess) -> None:
    at = gateway.addresses
    console.print(f"""
The gateway goes on. Try next, in this folder (.venv/bin first on the PATH):

  export INTERLOCK_ADMIN={at.admin} INTERLOCK_DATA={at.data}
  interlock status --watch
  interlock quality digits
  interlock history digits
  interlock split digits 2=90 1=10
  curl http://{at.http}/metrics

It ends with: kill {gateway.pid}   (its data: {gateway.home.parent})
""")


if __name__ == "__main__":
    sys.exit(main())
