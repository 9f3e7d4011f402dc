from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-runtime.lock", "requirements-build.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", line)[0] for line in lines if line and not line.startswith((" ", "#")))


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower().replace("_", "-") for requirement in requirements}


def test_every_dependency_is_locked() -> None:
    assert _names(PROJECT["dependencies"]) <= set(_pins("requirements-runtime.lock"))
    assert _names(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]) <= set(_pins("requirements.lock"))


def test_the_image_gets_the_versions_that_are_tested() -> None:
    everything = _pins("requirements.lock")
    runtime = _pins("requirements-runtime.lock") | _pins("requirements-build.lock")
    assert {name: pin for name, pin in runtime.items() if everything.get(name) != pin} == {}


def test_every_locked_package_has_a_hash() -> None:
    for name in LOCKS:
        entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
        assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_build_tool_is_locked() -> None:
    assert set(_pins("requirements-build.lock")) == {"setuptools"} <= set(_pins("requirements.lock"))


def test_locks_name_no_host() -> None:
    for name in LOCKS:
        assert "://" not in (ROOT / name).read_text()
