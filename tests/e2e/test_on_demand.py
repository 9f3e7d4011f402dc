"""Versions that callers name and nobody has deployed: loaded for them, at most so many, beside what is deployed."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from prefilled import add, fill
from running import Running, Start, kill

from gateway.client import AdminClient, Client, NotFound, RetryPolicy, RuleForbids, Unavailable
from gateway.clock import SystemClock
from registry.registry import open_registry

ROW = {"x": np.array([[1.0, 2.0]], np.float32)}
CAP, VERSIONS = 3, 10
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """m-0000 (10 versions, the first deployed) and m-0001 (2 versions, not deployed, v2 is ``best``)."""
    home = tmp_path_factory.mktemp("lazy") / "home"
    fill(home, 1, versions=VERSIONS, deploy=1)
    registry = open_registry(home, SystemClock())
    add(registry, home, "m-0001", 1.0)
    add(registry, home, "m-0001", 2.0, alias="best")
    add(registry, home, "damaged", -5.0)
    stored = registry.artifact_path(registry.version("damaged", 1))
    registry.close()
    stored.chmod(0o644)
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    running = Running(home, "--on-demand", str(CAP), workers=2)
    yield running
    running.end()


@pytest.fixture
def client(lazy: Running) -> Iterator[Client]:
    with Client(lazy.data, channels=4, retry=ONCE) as made:
        yield made


@pytest.fixture
def admin(lazy: Running) -> Iterator[AdminClient]:
    with AdminClient(lazy.admin) as made:
        yield made


def _factor(client: Client, model: str, version: str = "", timeout_s: float = 20.0) -> tuple[str, float]:
    answer = client.infer(model, ROW, version=version, timeout_s=timeout_s)
    return answer.version, float(answer["y"][0, 0])


def test_rotating_over_more_versions_than_may_be_held_answers_each_by_its_own(
    lazy: Running, client: Client, admin: AdminClient, wait_for: Callable[..., object]
) -> None:
    done, held = Event(), []

    def deployed_traffic() -> int:
        answered = 0
        with Client(lazy.data, channels=2, retry=ONCE) as own:
            while not done.is_set():
                assert _factor(own, "m-0000") == ("1", 1.0)
                answered += 1
        return answered

    def rotate(offset: int) -> None:
        for turn in range(VERSIONS):
            version = str(1 + (offset + turn) % VERSIONS)
            assert _factor(client, "m-0000", version) == (version, float(version))

    def watch() -> None:
        while not done.is_set():
            roles = [version.roles for model in admin.status().models for version in model.versions]
            held.append(sum("on-demand" in one for one in roles))
            done.wait(0.02)

    with ThreadPoolExecutor(8) as pool:
        background = [pool.submit(deployed_traffic), pool.submit(watch)]
        rotations = [pool.submit(rotate, offset) for offset in (0, 3, 5, 8)]
        for rotation in rotations:
            rotation.result(60)
        done.set()
        assert background[0].result(20) > 0
        background[1].result(20)
    assert max(held) == CAP
    values = _metrics(lazy)
    assert float(values["interlock_on_demand_evictions_total"]) >= VERSIONS - CAP - 1
    assert float(values["interlock_on_demand_held"]) <= CAP
    wait_for(lambda: float(_metrics(lazy)['interlock_on_demand_parked{worker="0"}']) == 0)  # as of a worker's last report


def _metrics(lazy: Running) -> dict[str, str]:
    text = urllib.request.urlopen(f"http://{lazy.http}/metrics", timeout=10).read().decode()
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("interlock_on_demand"))


def test_an_alias_of_a_model_that_is_not_deployed_will_do(client: Client) -> None:
    assert _factor(client, "m-0001", "best") == ("2", 2.0)
    assert _factor(client, "m-0001", "1") == ("1", 1.0)


def test_a_model_that_is_not_deployed_has_no_default(client: Client) -> None:
    assert _factor(client, "m-0001", "1") == ("1", 1.0)
    with pytest.raises(NotFound, match="not deployed"):
        _factor(client, "m-0001")


@pytest.mark.parametrize(
    ("model", "version"), [("m-0000", "99"), ("m-0000", "stranger"), ("m-0000", "latest"), ("m-0000", "²"), ("nobody", "1")]
)
def test_what_is_not_registered_is_not_found_at_once(client: Client, model: str, version: str) -> None:
    started = time.monotonic()
    with pytest.raises(NotFound):
        _factor(client, model, version)
    assert time.monotonic() - started < 5.0


def test_a_version_is_loaded_under_any_spelling_of_its_number(client: Client) -> None:
    assert _factor(client, "m-0000", "002") == ("2", 2.0)


def test_a_version_that_cannot_be_loaded_says_why(client: Client) -> None:
    for _ in range(2):
        with pytest.raises(RuleForbids, match=r"damaged v1 cannot be loaded: .*does not match"):
            _factor(client, "damaged", "1")


def test_requests_for_one_version_that_come_together_are_all_answered(client: Client) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: _factor(client, "m-0000", "7"), range(64)))
    assert set(answers) == {("7", 7.0)}


def test_requests_that_wait_when_control_dies_are_answered_with_unavailable(start: Start, tmp_path: Path) -> None:
    fill(tmp_path / "home", 1, versions=2, deploy=1)
    gateway = start("--on-demand", "1", workers=1)
    with Client(gateway.data, retry=ONCE) as client:
        assert _factor(client, "m-0000") == ("1", 1.0)
        control = gateway.note()["control_pid"]
        os.kill(control, signal.SIGSTOP)  # so that the request is known to wait
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(_factor, client, "m-0000", "2", 30.0)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
            kill(control)
            with pytest.raises(Unavailable, match="control became unreachable"):
                waiting.result(20)
        assert _factor(client, "m-0000") == ("1", 1.0)
        _eventually(lambda: _factor(client, "m-0000", "2") == ("2", 2.0))


def _eventually(condition: Callable[[], bool]) -> None:
    """Tries again while the gateway is unavailable."""
    until = time.monotonic() + 20
    while True:
        try:
            assert condition()
            return
        except Unavailable:
            if time.monotonic() > until:
                raise
            Event().wait(0.1)


@pytest.mark.slow
def test_a_thousand_registered_and_two_hundred_deployed_models_start_and_answer(start: Start, tmp_path: Path) -> None:
    fill(tmp_path / "home", 1000, deploy=200)
    gateway = start("--on-demand", "8", workers=2)  # within its START_S
    with Client(gateway.data, channels=4, retry=ONCE) as client, AdminClient(gateway.admin) as admin:
        for index in islice(range(200), 0, 200, 7):
            assert _factor(client, f"m-{index:04d}") == ("1", 1000.0 * index + 1)
        assert _factor(client, "m-0999", "1") == ("1", 999_001.0)
        status = admin.status()
        assert sum(version.state == "READY" for model in status.models for version in model.versions) == 201
