"""The pod specification fits the image and the settings of the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile import read

from gateway.process.supervisor import MARGIN_S
from gateway.settings.environment import PREFIX, read_settings
from gateway.settings.values import Settings

ROOT = Path(__file__).parents[2]
LAST = read(ROOT / "Dockerfile")[-1]
DOCUMENTS = {one["kind"]: one for one in yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "interlock.yaml").read_text())}
POD: dict[str, Any] = DOCUMENTS["StatefulSet"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The gateway's settings in the pod."""
    for variable in CONTAINER["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    return read_settings()


def test_its_variables_are_settings(settings: Settings) -> None:
    assert [one["name"] for one in CONTAINER["env"] if not one["name"].startswith(PREFIX)] == []
    assert settings != Settings()


def test_it_is_killed_only_after_everything_had_its_time_to_end(settings: Settings) -> None:
    longest_s = settings.data_port.drain_delay_s + 2 * (settings.grace_s + MARGIN_S)
    assert POD["terminationGracePeriodSeconds"] > longest_s


def test_its_ports_are_those_of_the_gateway(settings: Settings) -> None:
    ports = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}
    assert ports == {"data": settings.data_port.data_address.port, "http": settings.http_address.port}
    assert {one["targetPort"] for one in DOCUMENTS["Service"]["spec"]["ports"]} == set(ports)


def test_it_writes_where_the_image_does_and_nowhere_else() -> None:
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    mounted = {one["mountPath"] for one in CONTAINER["volumeMounts"]}
    assert mounted == {*LAST.all("VOLUME"), "/tmp"}


def test_the_images_home_may_be_written_by_any_user_in_group_0() -> None:
    (made,) = [step for step in LAST.all("RUN") if "useradd" in step]
    assert "--gid 0" in made
    assert f"chmod 0770 {LAST.all('VOLUME')[0]}" in made
    assert POD["securityContext"]["runAsGroup"] == 0
