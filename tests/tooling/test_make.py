from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(folder), *words], capture_output=True, text=True, timeout=60)


def test_an_old_python_is_named_with_a_way_out(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\ncase "$1" in -c) exit 1;; *) echo "Python 3.9.2";; esac\n')
    old.chmod(0o755)
    done = _make(tmp_path, f"PYTHON={old}", "setup")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_help_tells_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    told = re.findall(r"^  make ([\w-]+)", _make(ROOT, "help").stdout, re.MULTILINE)
    assert told == phony[1].split()


def test_the_system_package_is_named_where_it_cannot_be_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "install-system-packages")], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "nghttp2" in done.stderr


def test_ci_runs_the_checks_and_then_the_tests() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert text.rstrip().endswith("make check\nmake test")
    assert "set -e" in text
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
