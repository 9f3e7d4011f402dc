"""Imports point one way, each technology has one home, and what decides does nothing."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest
from sources import GENERATED, Module, internal, is_within, modules

# What each room may import beside itself and the kernel. `registry` stands for its values; READERS may see more of it.
KERNEL = ("gateway", "gateway.errors", "gateway.clock")
CONTROL_SIDE = ("gateway.control",)
WORKER_SIDE = ("gateway.serving", "gateway.versions")
SHARED = ("gateway.contract", "gateway.quality", "gateway.runtime", "gateway.settings", "gateway.telemetry", "registry")
ARROWS: dict[str, tuple[str, ...]] = {
    "gateway": (),
    "gateway.errors": ("registry",),
    "gateway.clock": (),
    "gateway.contract": ("registry",),
    "gateway.protocol": (),
    "gateway.settings": (),
    "gateway.process": (
        "gateway.settings",
        "gateway.telemetry",
        "registry",
        "gateway.contract.deaths",
        "gateway.contract.run_notes",
    ),
    "gateway.telemetry": ("gateway.contract",),
    "gateway.quality": ("gateway.contract", "gateway.settings", "gateway.telemetry", "registry"),
    "gateway.runtime": ("registry",),
    "gateway.versions": SHARED,
    "gateway.serving": (*SHARED, "gateway.versions", "gateway.protocol"),
    "gateway.control": (*SHARED, "gateway.process.rolling_messages", "gateway.process.wildcard"),
    "gateway.api": (*SHARED, *CONTROL_SIDE, *WORKER_SIDE, "gateway.protocol"),
    "gateway.worker": (*SHARED, *WORKER_SIDE, "gateway.api"),
    "gateway.app": ("gateway", "registry"),
    "gateway.client": ("gateway.protocol", "registry"),
    "gateway.cli": (
        "gateway.app",
        "gateway.client",
        "gateway.protocol",
        "gateway.settings",
        "gateway.process",
        "gateway.runtime",
        "registry",
    ),
    "gateway.demo": ("gateway.client", "gateway.protocol"),
    "gateway.__main__": ("gateway",),
    "registry": (),
}
# Debts: arrows that exist and should not. Delete an entry as soon as its imports are gone; a test fails until it is deleted.
DEBTS: dict[str, tuple[str, ...]] = {}
COMPOSITION = ("gateway.app", "gateway.worker")
# Imports for types that close a cycle, each (importer, imported). A test fails until an entry that is gone is deleted.
CYCLE_DEBTS: tuple[tuple[str, str], ...] = ()
# What may be known of the registry outside control: its values.
REGISTRY_VALUES = (
    "registry.batching",
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
    "gateway.runtime.onnx",
    "gateway.runtime.proof.onnx_graph",
    "gateway.runtime.trial",
)

ONLY_IN = {
    "grpc": ("gateway.api", "gateway.client", "gateway.protocol", "gateway.serving.lane"),
    "grpc_health": ("gateway.api",),
    "grpc_reflection": ("gateway.api",),
    "grpc_status": ("gateway.client",),
    "google": ("gateway.api", "gateway.client", "gateway.protocol", "gateway.serving.oip", "registry.onnx_file"),
    "onnxruntime": ("gateway.runtime.onnx",),
    "onnx": (  # reads a signature; rewrite a model; reads its graph
        *("registry.onnx_file", "registry.serving_layout", "registry.weight_pieces", "registry.zip_maps"),
        "gateway.runtime.proof.onnx_graph",
    ),
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
    gateway.contract.handshake gateway.contract.feedback gateway.contract.deaths gateway.process.death_messages
    gateway.control.crashes.decide gateway.settings.sections gateway.settings.address
    gateway.process.rolling_messages gateway.versions.states gateway.versions.policy gateway.serving.route
    gateway.versions.run_times gateway.versions.pace
    gateway.serving.overload.delay_control gateway.serving.overload.adaptive_limit
    gateway.quality.metrics gateway.quality.compare gateway.quality.feedback_rules gateway.quality.vocabulary
    gateway.quality.class_match gateway.quality.prediction_id gateway.control.changes.newest_version
    gateway.control.desired.reconcile gateway.control.changes.deployment_settings gateway.serving.oip.fields
    gateway.serving.oip.decode gateway.serving.oip.encode gateway.serving.oip.placement gateway.serving.oip.composed_response
    gateway.serving.oip.classification gateway.serving.oip.typed_contents
    gateway.client.tensors gateway.client.inference gateway.client.feedback
    registry.signature registry.versions registry.deployment registry.examples registry.names registry.batching
    gateway.runtime.proof.sizes gateway.runtime.proof.forms gateway.runtime.proof.graph gateway.runtime.proof.step
    gateway.runtime.proof.elementwise gateway.runtime.proof.axes gateway.runtime.proof.reshaping
    gateway.runtime.proof.picking gateway.runtime.proof.linear gateway.runtime.proof.recurrent gateway.runtime.proof.learned
    gateway.runtime.proof.contrib gateway.runtime.proof.lengths gateway.runtime.proof.subgraphs gateway.runtime.proof.walk
    gateway.api.model_messages gateway.api.header_size
    gateway.cli.changes gateway.client.call_errors gateway.client.spread
    gateway.control.catalog.eviction gateway.control.fleet.progress gateway.process.backoff
    gateway.quality.log.log_values gateway.runtime.layout_choice gateway.runtime.tensor_contents
    gateway.telemetry.trace_sampling gateway.telemetry.merged_counts
    gateway.control.observe.gateway_status gateway.control.observe.model_readiness gateway.control.observe.statistics
    registry.paging registry.prediction registry.records registry.requests
""".split()
# Errors and messages: values too, though not the project's decisions.
PURE_NEIGHBOURS = ("gateway.errors", "registry.errors", "gateway.protocol.messages")
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
        if (room := _room(module.name)) != _room(target)
        and target not in KERNEL
        and not _is_in(target, (*ARROWS[room], *DEBTS.get(room, ())))
    ]
    assert wrong == []


def test_every_debt_is_still_one() -> None:
    owed = {(room, target) for room, targets in DEBTS.items() for target in targets}
    used = {
        (room, target)
        for room, target in owed
        for module in modules().values()
        for _, reached in internal(module)
        if is_within(module.name, room) and is_within(reached, target)
    }
    assert owed - used == set(), "paid: delete these entries of DEBTS"


@pytest.mark.parametrize(("importers", "forbidden"), [(CONTROL_SIDE, WORKER_SIDE), (WORKER_SIDE, CONTROL_SIDE)])
def test_control_and_the_workers_rooms_never_import_each_other(importers: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    assert _importers(importers, forbidden) == []


def test_only_composition_imports_the_services() -> None:
    in_debt = tuple(room for room, targets in DEBTS.items() if "gateway.api" in targets)
    allowed = ("gateway.api", *COMPOSITION, *in_debt)
    others = tuple(package for package in ARROWS if package != "gateway" and not _is_in(package, allowed))
    assert _importers(others, ("gateway.api",)) == []


def _importers(importers: tuple[str, ...], imported: tuple[str, ...]) -> list[str]:
    return [
        f"{module.name}:{found.line} imports {target}"
        for module in modules().values()
        if _is_in(module.name, importers)
        for found, target in internal(module)
        if _is_in(target, imported)
    ]


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


def _claims_to_be_pure(module: Module) -> bool:
    words = r"\bPure\b" if _is_package(module.name) else r"\b[Pp]ure\b"  # a package may speak of the pure part of it
    return re.search(words, ast.get_docstring(module.tree) or "") is not None


def _is_package(name: str) -> bool:
    return modules()[name].path.name == "__init__.py"


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


def test_a_module_that_calls_itself_pure_is_on_the_list() -> None:
    claims = {name for name, module in modules().items() if _claims_to_be_pure(module)}
    inside = {name for name in modules() if _is_in(name.rpartition(".")[0], tuple(filter(_is_package, claims)))}
    claimed = {name for name in claims | inside if not _is_package(name)}  # a package claims it for all its modules
    assert sorted(claimed - set(PURE)) == [], "put these on PURE, or take the word out of their docstrings"


def test_there_are_no_cycles() -> None:
    _assert_acyclic({m.name: {t for i, t in internal(m) if not i.is_for_types} for m in modules().values()})


def test_there_are_no_cycles_of_types_either() -> None:
    graph = {m.name: {t for _, t in internal(m)} for m in modules().values()}
    for importer, imported in CYCLE_DEBTS:
        assert imported in graph.get(importer, ()), f"paid: delete {importer} -> {imported} from CYCLE_DEBTS"
        graph[importer].remove(imported)
    _assert_acyclic(graph)


def _assert_acyclic(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter({name: targets - {name} for name, targets in graph.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
