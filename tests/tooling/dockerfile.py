"""Reads a Dockerfile, and carries out a stage's COPY and RUN steps in a folder instead of a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """One stage: its base, and its instructions as (word, rest) in their order."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """The rests of every instruction of that word."""
        return [rest for name, rest in self.steps if name == word]


def read(path: Path) -> list[Stage]:
    """The stages of the file."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append(Stage(rest))
        else:
            stages[-1].steps.append((word, rest.strip()))
    return stages


def carry_out(stage: Stage, context: Path, root: Path, env: dict[str, str]) -> None:
    """
    The stage's steps with ``root`` as the container's root. Absolute paths under /src and /opt become paths below it;
    `python` is the interpreter that runs this.
    """
    folder = root
    for word, rest in stage.steps:
        if word == "WORKDIR":
            folder = root / rest.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(context / source, folder / target if source != target.strip("./") else folder / source)
        elif word == "RUN":
            command = rest.replace("/opt/", f"{root}/opt/").replace(" /src", f" {root}/src")
            if command.startswith("python "):
                command = f"{sys.executable} {command.removeprefix('python ')}"
            done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True)
            assert done.returncode == 0, f"RUN {rest}\n{done.stdout}\n{done.stderr}"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target = target / source.name if target.is_dir() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def bare_environment() -> dict[str, str]:
    """The variables of a machine where nothing of the project is set up."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "INTERLOCK"))}
