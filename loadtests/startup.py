"""
`python -m loadtests.startup --base TREE`: CPU time of the command line's start, this tree and another in alternation.

Starts a gateway of this tree for `status`, so both trees have to speak the same admin API. Prints the median of the rounds'
ratios for `--version`, `--help` and `status`. User and system time, as the kernel counts them for the ended process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gateway.demo.process import GatewayProcess

ROOT = Path(__file__).parents[1]
PROGRAM = "import sys; from gateway.cli import main; sys.exit(main())"


def cpu_s(tree: Path, arguments: Sequence[str]) -> float:
    """Runs the command line of ``tree``. Returns the seconds of CPU that it used. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    process = subprocess.Popen(command, cwd=tree, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(tree)})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime


def ratios(base: Path, arguments: Sequence[str], rounds: int) -> list[float]:
    """Returns CPU time of this tree divided by that of ``base``, one ratio per round. The first runs fill caches."""
    for tree in (base, ROOT):
        cpu_s(tree, arguments)
    return [cpu_s(ROOT, arguments) / cpu_s(base, arguments) for _ in range(rounds)]


def main() -> int:
    """Reads the options, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.startup", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, metavar="TREE", help="a checkout of the other revision")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, GatewayProcess(Path(home), workers=1) as gateway:
        for arguments in (["--version"], ["--help"], ["status", "--admin", gateway.addresses.admin]):
            found = sorted(ratios(options.base.resolve(), arguments, options.rounds))
            middle = statistics.median(found)
            print(f"{arguments[0]:10} {middle:.3f} of the base's CPU time ({found[0]:.3f} – {found[-1]:.3f})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
