"""A real control on a fresh home, with workers that speak the real link protocol and load what is no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from control_fakes import FakeLog
from world import World, facts_of

from gateway.clock import SystemClock
from gateway.control.control import Control
from gateway.control.limits import ControlLimits
from gateway.settings.address import Address
from gateway.settings.paths import Home
from gateway.settings.values import Settings
from gateway.telemetry.aggregate import Aggregate
from registry.registry import Registry, open_registry

LIMITS = [item.name for item in fields(ControlLimits)]


@pytest.fixture
def start_control(tmp_path: Path) -> Iterator[Callable[..., Control]]:
    """``start_control(**config)``: a control on the test's home, stopped at the end."""
    started: list[Control] = []
    registries: list[Registry] = []

    def start(*, clock: object = None, log: FakeLog | None = None, **config: object) -> Control:
        clock = clock or SystemClock()
        registries.append(open_registry(tmp_path, clock))
        more = {name: config.pop(name) for name in ("is_restarted", "version") if name in config}
        limits = {name: config.pop(name) for name in LIMITS if name in config}
        given = {"workers": 1, "load_timeout_s": 20.0, "data_address": Address("127.0.0.1", 0)} | config
        control = Control(
            Settings.of(home=tmp_path, **given),
            Home(tmp_path),
            limits=ControlLimits(**{"attach_timeout_s": 0.2, "acknowledge_timeout_s": 10.0} | limits),
            **more,
            registry=registries[-1],
            prediction_log=log or FakeLog(),
            counts=Aggregate(),
            clock=clock,
            trial=facts_of,
        )
        started.append(control)
        control.start()
        return control

    yield start
    for control in started:
        control.stop()
    for registry in registries:
        registry.close()


@pytest.fixture
def config() -> dict[str, object]:
    """Settings of the world's control; tests override it by parametrization."""
    return {}


@pytest.fixture
def make_world(start_control: Callable[..., Control]) -> Iterator[Callable[..., World]]:
    """``make_world(**config)``: a control with no worker attached yet."""
    made: list[World] = []

    def make(**config: object) -> World:
        made.append(World(start_control(**config)))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World], config: dict[str, object]) -> World:
    """A control with no worker attached yet."""
    return make_world(**config)
