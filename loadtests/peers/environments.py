"""Virtual environments with pinned packages, made once and kept between runs; made anew where pins or Python changed."""

from __future__ import annotations

import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "build" / "peers"
INSTALL_TIMEOUT_S = 1800
LAST_LINES = 15


class InstallFailed(Exception):
    """An environment could not be made; says which command failed, and its last lines."""


def ensure(name: str, say: Callable[[str], None], *, folder: Path = FOLDER, source: Path = HERE) -> Path:
    """The Python of ``folder/name`` with what ``source/name/requirements.txt`` pins. Raises InstallFailed."""
    requirements, home = source / name / "requirements.txt", folder / name
    python, stamp = home / "bin" / "python", home / ".pins"
    wanted = f"{platform.python_version()} {hashlib.sha256(requirements.read_bytes()).hexdigest()}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    say(f"installing {name} into {home} (first time: a minute)")
    shutil.rmtree(home, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(home)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--require-hashes", "-r", str(requirements)])
    stamp.write_text(wanted)  # last: a broken-off installation is none
    return python


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """The command's output. Raises InstallFailed when it fails or is not there."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=INSTALL_TIMEOUT_S, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallFailed(f"{shlex.join(command)}\ncould not be run: {error}") from error
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
        raise InstallFailed(f"{shlex.join(command)}\nended with code {done.returncode}; its last lines:\n{last}")
    return done.stdout


def installed_version(python: Path, package: str) -> str:
    """The version of a package in that environment. Raises InstallFailed."""
    return run([str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]).strip()
