"""Writes the results: JSON, Markdown and the plot, and where asked for into the README and docs/ too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from loadtests.peers.environments import HERE, run

ROOT = HERE.parents[1]
BEGIN, END = "<!-- bench-peers: written by `make bench-peers PEERS=--publish` -->", "<!-- /bench-peers -->"


class NotPublished(Exception):
    """The README has no place for the section."""


def publish(result: dict[str, Any], target: Path, plotter: Path, *, is_for_readers: bool, root: Path = ROOT) -> list[Path]:
    """The files that were written. Raises InstallFailed when the plot could not be drawn, with matplotlib's last lines."""
    target.parent.mkdir(parents=True, exist_ok=True)
    text, picture = target.with_suffix(".md"), target.with_suffix(".png")
    target.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    text.write_text(result["markdown"])
    run([str(plotter), str(HERE / "plot" / "plot.py"), str(target), str(picture)])
    written = [target, text, picture]
    if is_for_readers:
        readme = root / "README.md"
        readme.write_text(filled(readme.read_text(), result["markdown"]))
        shutil.copyfile(picture, root / "docs" / "bench-peers.png")
        written += [readme, root / "docs" / "bench-peers.png"]
    return written


def check_marks(root: Path = ROOT) -> None:
    """Raises NotPublished before minutes are spent on measuring."""
    filled((root / "README.md").read_text(), "")


def filled(page: str, section: str) -> str:
    """The page with what stands between the two marks replaced. Raises NotPublished where a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise NotPublished(f"README.md lacks the marks {BEGIN} and {END}")
    return f"{before}{begin}\n{section}{end}{after}"
