"""The project's modules as syntax trees: what each imports, and how large it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = "gateway.protocol.pb"


@dataclass(frozen=True)
class Import:
    """``name`` is a module's full name; ``is_for_types`` when it stands under ``if TYPE_CHECKING``."""

    name: str
    line: int
    is_for_types: bool = False


@dataclass(frozen=True)
class Module:
    """One file of the project."""

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]

    def __str__(self) -> str:
        return self.name


@cache
def modules() -> dict[str, Module]:
    """Every module of gateway and registry by name, generated code and migration scripts left out."""
    found = {}
    for package in ("gateway", "registry"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            if not is_within(name, GENERATED):
                tree = ast.parse(path.read_text(), str(path))
                found[name] = Module(name, path, tree, tuple(_imports(tree, name, is_package=path.stem == "__init__")))
    return found


def is_within(name: str, package: str) -> bool:
    """Whether ``name`` is the package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def internal(module: Module) -> Iterator[tuple[Import, str]]:
    """The imports of a module that are the project's own, each with the module it reaches."""
    for imported in module.imports:
        if not imported.name.startswith(("gateway", "registry")) or is_within(imported.name, GENERATED):
            continue
        target = imported.name
        while target and target not in modules():
            target = target.rpartition(".")[0]
        if target:
            yield imported, target


def _imports(tree: ast.Module, name: str, *, is_package: bool) -> Iterator[Import]:
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, id(node) in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
                base = ".".join([*parts, base]).rstrip(".")
            # `from package import module` reaches the module; for any other name `internal` falls back to the package
            yield from (Import(f"{base}.{alias.name}", node.lineno, id(node) in for_types) for alias in node.names)
