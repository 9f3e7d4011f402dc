"""
`make bench-compare BASE=rev`: two revisions in alternation, so that what drifts on the machine hits both alike.

Both run this tree's scenarios and load client. The gateway (and the bare echoes, which use its lane) is the revision's: every
run is a process of its own that imports `gateway` from there. With ``--own-scenarios`` each revision runs the scenarios of
its own tree: for a base whose modules have other names. The base gets an environment of its own only where its lock differs.
Reports medians, and the median and range of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from loadtests.bench.report import grid_markdown
from loadtests.bench.scenario import Grid

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "compare"
LOCK = "requirements.lock"


class CannotCompare(Exception):
    """The revision cannot be made, or one of its runs broke off."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: medians of both revisions; the median, lowest and highest ratio of a round."""

    figure: str
    base: float
    current: float
    ratio: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Revision:
    """A tree that can be run: ``name`` for people, its folder, the Python that has its packages."""

    name: str
    tree: Path
    python: str


def rows(base: Sequence[Mapping[str, float]], current: Sequence[Mapping[str, float]]) -> list[Row]:
    """
    Returns the figures that every round of both has, in order. Those that are 0 in a base round have no ratio and are left
    out.
    """
    names = [name for name in current[0] if all(name in one for one in (*base, *current))]
    return [
        _row(name, [one[name] for one in base], [one[name] for one in current]) for name in names if all(b[name] for b in base)
    ]


def _row(name: str, base: Sequence[float], current: Sequence[float]) -> Row:
    each = [c / b for b, c in zip(base, current, strict=True)]
    middle = statistics.median(base), statistics.median(current)
    return Row(name, *middle, statistics.median(each), min(each), max(each))


def checked_out(rev: str) -> Revision:
    """
    Makes a worktree of the revision under build/, with an environment of its own if its lock differs. Raises CannotCompare.
    """
    sha = _git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}", problem=f"BASE={rev}: git knows no such revision")
    tree = BUILD / sha[:12]
    if not tree.exists():
        _git("worktree", "prune", problem="git worktree prune")
        _git("worktree", "add", "--detach", str(tree), sha, problem=f"no worktree of {rev} could be made")
    return Revision(f"{rev} ({sha[:9]})", tree, _python(tree))


def _git(*words: str, problem: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if done.returncode:
        raise CannotCompare(f"{problem} {done.stderr.strip()}".strip())
    return done.stdout.strip()


def _python(tree: Path) -> str:
    """Returns this Python if the locks agree, else one in an environment made from the tree's lock."""
    lock = (tree / LOCK).read_bytes()
    if lock == (ROOT / LOCK).read_bytes():
        return sys.executable
    folder = BUILD / f"venv-{hashlib.sha256(lock).hexdigest()[:12]}"
    python, is_ready = folder / "bin" / "python", folder / ".ready"
    if not is_ready.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes", "-r", LOCK]
        done = subprocess.run(install, cwd=tree, capture_output=True, text=True)
        if done.returncode:
            raise CannotCompare(f"the packages of {tree.name} cannot be installed: {done.stderr.strip()[-2000:]}")
        is_ready.touch()
    return str(python)


def measure(revision: Revision, options: Sequence[str], out: Path, *, own_scenarios: bool = False) -> dict[str, float]:
    """Runs the scenarios once. Returns their figures, each named scenario.figure. Raises CannotCompare when the run fails."""
    harness = BUILD / "harness"  # `loadtests` from here and `gateway` from the revision: neither tree may be on the path whole
    harness.mkdir(parents=True, exist_ok=True)
    if not (harness / "loadtests").exists():
        (harness / "loadtests").symlink_to(ROOT / "loadtests")
    path = str(revision.tree) if own_scenarios else os.pathsep.join((str(harness), str(revision.tree)))
    command = [revision.python, "-m", "loadtests.bench", "--repetitions=1", "--report-only", f"--out={out}", *options]
    env = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}  # safe: the working folder is not on the path
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise CannotCompare(f"{revision.name}: the benchmark broke off: {(done.stdout + done.stderr).strip()[-3000:]}")
    entries = json.loads(out.read_text())["scenarios"]
    return {f"{name}.{figure}": value for name, entry in entries.items() for figure, value in entry["figures"].items()}


def grid(found: Sequence[Row], base: str) -> Grid:
    """Returns the rows as a table."""
    columns = ["", base, "this tree", "ratio", "rounds' ratios"]
    cells = [
        [row.figure, f"{row.base:,.4g}", f"{row.current:,.4g}", f"{row.ratio:.3f}", f"{row.lowest:.3f} – {row.highest:.3f}"]
        for row in found
    ]
    return Grid("", columns, cells)


def _clear() -> None:
    """Removes the worktrees. Environments stay for the next time."""
    for tree in BUILD.glob("[0-9a-f]" * 12):
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(tree)], capture_output=True)


def main() -> int:
    """Reads the options and compares."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.compare", description=__doc__)
    parser.add_argument("base", metavar="REV", help="what this tree is compared with")
    parser.add_argument("--scenario", nargs="+", default=["path"], metavar="NAME", help="(default: path)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--own-scenarios", action="store_true", help="each revision runs the scenarios of its own tree")
    parser.add_argument("--out", type=Path, default=Path("out/bench-compare.json"))
    options, rest = parser.parse_known_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        base = checked_out(options.base)
        revisions = (base, Revision("this tree", ROOT, sys.executable))
        figures: dict[str, list[dict[str, float]]] = {revision.name: [] for revision in revisions}
        for number in range(options.rounds):
            for revision in revisions:
                words = ["--scenario", *options.scenario, *rest]
                run = options.out.with_suffix(".run.json").absolute()
                figures[revision.name].append(measure(revision, words, run, own_scenarios=options.own_scenarios))
                console.print(f"round {number + 1} of {options.rounds}: {revision.name} done")
    except CannotCompare as error:
        console.print(f"[red]cannot compare:[/red] {error}")
        return 1
    finally:
        _clear()
    found = rows(figures[base.name], figures["this tree"])
    options.out.write_text(json.dumps({"base": base.name, "figures": [asdict(row) for row in found]}, indent=2) + "\n")
    lines = grid_markdown(grid(found, base.name))
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    console.print("\n".join(lines), markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
