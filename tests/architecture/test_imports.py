"""Imports point one way, each technology has one home, and what decides does nothing."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from sources import GENERATED, internal, is_within, modules

# What each room may import beside itself and the kernel. `registry` stands for its values; READERS may see more of it.
KERNEL = ("gateway", "gateway.errors", "gateway.clock")
CONTROL_SIDE = ("gateway.control",)
WORKER_SIDE = ("gateway.serving", "gateway.versions")
SHARED = ("gateway.contract", "gateway.quality", "gateway.runtime", "gateway.telemetry", "registry")
ARROWS: dict[str, tuple[str, ...]] = {
    "gateway": (),
    "gateway.errors": ("registry",),
    "gateway.clock": (),
    "gateway.contract": ("registry",),
    "gateway.protocol": (),
    "gateway.settings": (),
    "gateway.process": ("gateway.app", "gateway.settings", "gateway.telemetry"),
    "gateway.telemetry": ("gateway.contract",),
    "gateway.quality": ("gateway.contract", "registry"),
    "gateway.runtime": ("registry",),
    "gateway.versions": SHARED,
    "gateway.serving": (*SHARED, "gateway.versions", "gateway.protocol"),
    "gateway.control": (*SHARED, "gateway.process.rolling_messages"),
    "gateway.api": (*SHARED, *CONTROL_SIDE, *WORKER_SIDE, "gateway.protocol"),
    "gateway.worker": (*SHARED, *WORKER_SIDE, "gateway.api"),
    "gateway.app": ("gateway", "registry"),
    "gateway.client": ("gateway.protocol", "registry"),
    "gateway.cli": ("gateway.client", "gateway.protocol", "gateway.settings", "gateway.process", "gateway.runtime", "registry"),
    "gateway.demo": ("gateway.client", "gateway.protocol"),
    "gateway.__main__": ("gateway",),
    "registry": (),
}
# What may be known of the registry outside control: its values.
REGISTRY_VALUES = (
    "registry.deployment",
    "registry.errors",
    "registry.examples",
    "registry.names",
    "registry.signature",
    "registry.versions",
)
REGISTRY_READERS = (
    "gateway.cli",
    "gateway.client.upload",
    "gateway.app",
    "gateway.control",
    "gateway.api",
    "gateway.runtime.layout_rewrite",
    "gateway.runtime.trial",
)

ONLY_IN = {
    "grpc": ("gateway.api", "gateway.client", "gateway.protocol.services", "gateway.serving.lane"),
    "grpc_health": ("gateway.api",),
    "grpc_reflection": ("gateway.api",),
    "grpc_status": ("gateway.client",),
    "google": ("gateway.api", "gateway.client", "gateway.protocol", "gateway.serving.oip", "registry.onnx_file"),
    "onnxruntime": ("gateway.runtime.onnx",),
    "onnx": ("registry.onnx_file", "registry.serving_layout", "registry.weight_pieces"),  # reads a model; rewrite one
    "sqlalchemy": ("registry.stores", "registry.migrations"),
    "alembic": ("registry.stores", "registry.migrations"),
    "sqlite3": ("gateway.quality.log",),
    "opentelemetry": ("gateway.telemetry.otel",),
    "prometheus_client": ("gateway.telemetry.prometheus",),
    "typer": ("gateway.cli",),
    "sklearn": ("gateway.demo",),
    "skl2onnx": ("gateway.demo",),
}

PURE = """
    gateway.contract.desired gateway.contract.observed gateway.contract.counts gateway.contract.predictions
    gateway.contract.traces gateway.contract.questions gateway.contract.version_state
    gateway.process.rolling_messages gateway.versions.states gateway.versions.policy gateway.serving.route
    gateway.versions.run_times gateway.versions.pace
    gateway.serving.overload.delay_control gateway.serving.overload.adaptive_limit
    gateway.quality.metrics gateway.quality.compare gateway.quality.feedback gateway.quality.prediction_id
    gateway.control.desired.reconcile gateway.control.changes.configuring gateway.serving.oip.fields
    gateway.serving.oip.decode gateway.serving.oip.encode gateway.serving.oip.placement gateway.serving.oip.placed_response
    gateway.client.tensors gateway.client.inference gateway.client.feedback
    registry.signature registry.versions registry.deployment registry.examples registry.names
""".split()
# Errors and messages: values too, though not the project's decisions.
PURE_NEIGHBOURS = ("gateway.errors", "registry.errors", "gateway.client.call_errors", "gateway.protocol.messages")
EFFECTS = tuple(
    "asyncio threading multiprocessing time random os socket grpc onnxruntime opentelemetry logging structlog".split()
)


def _room(name: str) -> str:
    """The longest entry of ARROWS that the module lies in."""
    return max((room for room in ARROWS if is_within(name, room)), key=len)


def test_every_module_has_a_room() -> None:
    assert [name for name in modules() if name != "gateway" and _room(name) == "gateway"] == []


def test_imports_follow_the_arrows() -> None:
    wrong = [
        f"{module.name}:{imported.line} imports {target}"
        for module in modules().values()
        for imported, target in internal(module)
        if (room := _room(module.name)) != _room(target) and target not in KERNEL and not _is_in(target, ARROWS[room])
    ]
    assert wrong == []


def test_each_technology_has_one_home() -> None:
    wrong = [
        f"{module.name}:{imported.line} imports {technology}, which is for {' and '.join(homes)}"
        for module in modules().values()
        for imported in module.imports
        for technology, homes in ONLY_IN.items()
        if is_within(imported.name, technology) and not _is_in(module.name, homes)
    ]
    assert wrong == []


def test_generated_code_stays_in_few_rooms() -> None:
    users = {m.name for m in modules().values() for i in m.imports if is_within(i.name, GENERATED)}
    allowed = ("gateway.protocol", "gateway.api", "gateway.serving.oip", "gateway.serving.lane.stream")
    assert {name for name in users if not _is_in(name, allowed)} == set()


def test_below_control_the_registry_is_known_by_its_values() -> None:
    readers = ("registry", *REGISTRY_READERS)
    wrong = [
        f"{module.name}:{imported.line} imports {target}"
        for module in modules().values()
        for imported, target in internal(module)
        if is_within(target, "registry") and target not in REGISTRY_VALUES and not _is_in(module.name, readers)
    ]
    assert wrong == []


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(is_within(name, package) for package in packages)


@pytest.mark.parametrize("name", PURE)
def test_what_decides_does_nothing(name: str) -> None:
    assert name in modules(), f"{name} is gone: take it off the list or bring it back"
    wrong = [f"line {imported.line}: {imported.name}" for imported in modules()[name].imports if _is_in(imported.name, EFFECTS)]
    assert wrong == []


def test_what_decides_rests_on_what_decides() -> None:
    allowed = {*PURE, *PURE_NEIGHBOURS}
    wrong = [
        f"{name}:{i.line} imports {target}" for name in PURE for i, target in internal(modules()[name]) if target not in allowed
    ]
    assert wrong == []


def test_there_are_no_cycles() -> None:
    graph = {m.name: {t for i, t in internal(m) if t != m.name and not i.is_for_types} for m in modules().values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
