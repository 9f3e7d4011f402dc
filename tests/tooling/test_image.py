from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from dockerfile import bare_environment, carry_out, read

ROOT = Path(__file__).parents[2]
STAGES = read(ROOT / "Dockerfile")
BUILD, LAST = STAGES


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the last stage takes over, made by the build stage's own steps."""
    root = tmp_path_factory.mktemp("image")
    carry_out(BUILD, ROOT, root, bare_environment())
    return root / "opt" / "interlock"


def _run(installed: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(installed / "bin" / command[0]), *command[1:]],
        cwd=installed,
        env=bare_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_installed_command_runs(installed: Path) -> None:
    done = _run(installed, "interlock", "--help")
    assert done.returncode == 0, done.stderr
    assert "rollback" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_the_image_serves_with_comes_from_the_image(installed: Path) -> None:
    names = ", ".join(
        f"gateway.{name}" for name in ("app", "process.supervisor", "worker.worker", "control.control", "api.admin_server")
    )
    code = f"import {names}, registry.registry; print(gateway.__file__, registry.__file__)"
    done = _run(installed, "python", "-W", "error::ImportWarning", "-c", code)
    assert done.returncode == 0, done.stderr
    assert all(path.startswith(str(installed)) for path in done.stdout.split())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_everything_that_is_no_python_file_is_installed_too(installed: Path) -> None:
    kinds = ("*.ini", "*.mako", "py.typed", "*.sql")
    packages = next((installed / "lib").iterdir()) / "site-packages"
    data = [
        path.relative_to(ROOT) for package in ("gateway", "registry") for kind in kinds for path in (ROOT / package).rglob(kind)
    ]
    assert [str(path) for path in data if not (packages / path).is_file()] == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_development_tool_is_installed(installed: Path) -> None:
    packages = _run(installed, "python", "-m", "pip", "list", "--format=freeze").stdout.lower()
    assert "grpcio==" in packages
    assert not {"pytest", "locust", "scikit-learn", "ruff"} & {line.split("==")[0] for line in packages.split()}


def test_the_image_runs_as_a_user_without_rights() -> None:
    assert LAST.all("USER") == ["10001"]
    assert LAST.steps.index(("USER", "10001")) < LAST.steps.index(("CMD", '["serve"]'))


def test_the_last_stage_installs_no_package_and_no_compiler() -> None:
    assert LAST.base == "python:3.11-slim"
    assert not [step for step in LAST.all("RUN") if "apt" in step or "pip" in step]


def test_only_the_home_is_written_so_that_the_root_can_be_read_only() -> None:
    assert LAST.all("VOLUME") == ["/var/lib/interlock"]
    assert "INTERLOCK_HOME=/var/lib/interlock" in LAST.all("ENV")[0]


def test_the_health_check_needs_nothing_but_the_standard_library() -> None:
    (check,) = LAST.all("HEALTHCHECK")
    assert "urllib.request.urlopen('http://127.0.0.1:8002/health/live'" in check


def test_what_is_copied_is_let_through_to_the_engine() -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for rest in BUILD.all("COPY") for source in rest.split()[:-1]}
    assert copied == allowed
