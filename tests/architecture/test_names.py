"""One name for one thing: modules, classes, and the folders of tests; every package says what lives in it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from sources import ROOT, Module, modules

CLIENT = "public name of the client, which imports nothing that serves"
# Names that two modules or two classes have, each with the reason. A test fails until an entry that is single is deleted.
NAMESAKES = {
    # modules
    "errors": "one tree of errors in gateway, one in registry, which imports nothing from gateway",
    "feedback": CLIENT,
    # classes
    "Clock": "registry states the clock it needs as a protocol, since it imports nothing from gateway",
    "Feedback": CLIENT,
    "Lineage": CLIENT,
    "Overloaded": CLIENT,
    "Prediction": CLIENT,
    "RuleForbids": CLIENT,
    "Verdict": CLIENT,
    "_Seat": "the connection pools of the blocking and of the asyncio client are twins",
}
MIN_WORDS = 12  # of a package's docstring
EXCLUDES = re.compile(r"\b(not|nothing|no|none|never|only)\b", re.IGNORECASE)
# Folders of tests that mirror no package.
OTHER_TESTS = ("architecture", "contract", "e2e", "tooling")


def test_no_two_modules_have_one_name() -> None:
    assert {name: where for name, where in _double(_module_names()).items() if name not in NAMESAKES} == {}


def test_no_two_classes_have_one_name() -> None:
    assert {name: where for name, where in _double(_class_names()).items() if name not in NAMESAKES} == {}


def test_every_namesake_on_the_list_is_one() -> None:
    double = _double(_module_names()) | _double(_class_names())
    assert sorted(set(NAMESAKES) - set(double)) == [], "single by now: delete these entries of NAMESAKES"


def test_every_package_says_what_lives_in_it_and_what_does_not() -> None:
    silent = {module.name for module in modules().values() if _is_package(module) and not _is_introduced(module)}
    assert sorted(silent) == []


def test_the_folders_of_tests_mirror_packages() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    strangers = [str(folder) for folder in folders if folder.parts[:1] not in [(name,) for name in OTHER_TESTS]]
    assert [folder for folder in strangers if not _is_mirrored(Path(folder))] == []


def _module_names() -> Iterator[tuple[str, str]]:
    return ((m.path.stem, m.name) for m in modules().values() if not m.path.stem.startswith("__"))


def _class_names() -> Iterator[tuple[str, str]]:
    return ((n.name, m.name) for m in modules().values() for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef))


def _double(names: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, where in names:
        found[name].append(where)
    return {name: where for name, where in found.items() if len(where) > 1}


def _is_package(module: Module) -> bool:
    return module.path.name == "__init__.py"


def _is_introduced(module: Module) -> bool:
    text = ast.get_docstring(module.tree) or ""
    return len(text.split()) >= MIN_WORDS and EXCLUDES.search(text) is not None


def _is_mirrored(folder: Path) -> bool:
    parent = ROOT if folder.parts[:1] == ("registry",) else ROOT / "gateway"
    return folder.parts != () and (parent / folder / "__init__.py").exists()
