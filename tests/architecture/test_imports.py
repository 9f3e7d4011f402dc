"""Imports point one way, each technology has one home, and what decides does nothing."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest
from sources import GENERATED, internal, is_within, modules

# From the top: a module may import what is in a lower row. In a row that is True, its own row too.
LAYERS: list[tuple[tuple[str, ...], bool]] = [
    (("gateway.__main__", "gateway.demo"), True),
    (("gateway.cli",), True),
    (
        ("gateway.app", "gateway.launch", "gateway.supervisor", "gateway.rolling", "gateway.process", "gateway.environment"),
        True,
    ),
    (("gateway.child", "gateway.home", "gateway.ports", "gateway.readiness", "gateway.settings"), True),
    (("gateway.restarts", "gateway.stopping"), True),
    (("gateway.client",), False),
    (("gateway.rpc", "gateway.control", "gateway.worker"), True),
    (("gateway.lifecycle", "gateway.routing", "gateway.batching", "gateway.quality"), False),
    (("gateway.runtime", "gateway.telemetry"), False),
    (
        ("gateway.errors", "gateway.clock", "gateway.fleet", "gateway.link", "gateway.restart_news", "gateway.shared_memory"),
        True,
    ),
    (("registry",), True),
]
# What may be known of the registry below the control process: its values.
REGISTRY_VALUES = (
    "registry.deployment",
    "registry.errors",
    "registry.examples",
    "registry.signature",
    "registry.versions",
)
REGISTRY_READERS = (
    "gateway.cli",
    "gateway.client.upload",
    "gateway.app",
    "gateway.control",
    "gateway.rpc",
    "gateway.runtime.layout",
    "gateway.runtime.probe",
)

ONLY_IN = {
    "grpc": ("gateway.rpc",),
    "grpc_health": ("gateway.rpc",),
    "grpc_reflection": ("gateway.rpc",),
    "grpc_status": ("gateway.rpc",),
    "google": ("gateway.rpc", "registry.onnx_file"),
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
    gateway.fleet gateway.restart_news gateway.lifecycle.states gateway.lifecycle.policy gateway.routing.table
    gateway.batching.merge
    gateway.batching.sizes gateway.batching.run_times gateway.batching.delay_control gateway.batching.adaptive_limit
    gateway.quality.metrics gateway.quality.compare gateway.quality.feedback gateway.quality.prediction_id
    gateway.control.reconcile gateway.control.configuring gateway.rpc.codec gateway.rpc.placement
    gateway.rpc.placed_response gateway.client.tensors gateway.client.inference gateway.client.feedback
    registry.signature registry.versions registry.deployment registry.examples registry.names
""".split()
# Errors and messages: values too, though not the project's decisions.
PURE_NEIGHBOURS = ("gateway.errors", "registry.errors", "gateway.rpc.call_errors", "gateway.rpc.messages")
EFFECTS = tuple(
    "asyncio threading multiprocessing time random os socket grpc onnxruntime opentelemetry logging structlog".split()
)


def _layer(name: str) -> int | None:
    for index, (packages, _) in enumerate(LAYERS):
        if _is_in(name, packages):
            return index
    return None


def test_every_module_has_a_layer() -> None:
    assert [name for name in modules() if name != "gateway" and _layer(name) is None] == []


def test_imports_point_downwards() -> None:
    wrong = []
    for module in modules().values():
        here = _layer(module.name)
        for imported, target in internal(module):
            there = _layer(target)
            if here is None or there is None or _is_one_package(module.name, target):
                continue
            if there < here or (there == here and not LAYERS[here][1]):
                wrong.append(f"{module.name}:{imported.line} imports {target}")
    assert wrong == []


def _is_one_package(one: str, other: str) -> bool:
    return one.split(".")[:2] == other.split(".")[:2]


def test_each_technology_has_one_home() -> None:
    wrong = [
        f"{module.name}:{imported.line} imports {technology}, which is for {' and '.join(homes)}"
        for module in modules().values()
        for imported in module.imports
        for technology, homes in ONLY_IN.items()
        if is_within(imported.name, technology) and not _is_in(module.name, homes)
    ]
    assert wrong == []


def test_generated_code_stays_in_rpc() -> None:
    users = {m.name for m in modules().values() for i in m.imports if is_within(i.name, GENERATED)}
    assert {name for name in users if not is_within(name, "gateway.rpc")} == set()


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
