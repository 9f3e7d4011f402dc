"""The glossary agrees with the code: what it names exists, and no name has a word that the glossary rules out."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache

import pytest
from sources import ROOT, is_within, modules

# Names in the glossary that do not exist yet. A test fails until an entry that exists is deleted.
PENDING: tuple[str, ...] = ()
# Names with a word of the column *not*, each with the reason. A test fails until an entry that is gone is deleted.
EXCEPTIONS = {
    "gateway.serving.shadow.mirror.ShadowCopy": "copies of a request, not of a loaded version",
}


@dataclass(frozen=True)
class Entry:
    """One row: the names in the code, and the words that names must not have."""

    term: str
    names: tuple[str, ...]
    ruled_out: tuple[str, ...]


@cache
def entries() -> tuple[Entry, ...]:
    rows = re.findall(r"^\| (?!term |---)(.*) \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    cells = [[cell.strip() for cell in f"{row} ".split(" | ")] for row in rows]
    return tuple(
        Entry(term, tuple(re.findall(r"`([^`]+)`", names)), tuple(re.findall(r"\w+", ruled_out)))
        for term, _, names, ruled_out in cells
    )


def test_no_term_is_explained_twice() -> None:
    terms = [term for entry in entries() for term in entry.term.split(", ")]
    assert sorted({term for term in terms if terms.count(term) > 1}) == []
    assert len(terms) > 50


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.term)
def test_what_the_glossary_names_exists(entry: Entry) -> None:
    assert entry.names, "name a module or a class"
    assert [name for name in entry.names if not _exists(name) and name not in PENDING] == []


def test_what_is_pending_does_not_exist_yet() -> None:
    assert [name for name in PENDING if _exists(name)] == [], "here by now: delete these entries of PENDING"
    named = {name for entry in entries() for name in entry.names}
    assert sorted(set(PENDING) - named) == [], "no entry of the glossary names these"


def test_names_have_no_word_that_is_ruled_out() -> None:
    assert {name: word for name, word in _breaches().items() if name not in EXCEPTIONS} == {}


def test_every_exception_is_one() -> None:
    assert sorted(set(EXCEPTIONS) - set(_breaches())) == [], "gone by now: delete these entries of EXCEPTIONS"


def test_every_room_is_in_the_glossary() -> None:
    named = [_full(name) for entry in entries() for name in entry.names]
    rooms = [name for name, module in modules().items() if module.path.name == "__init__.py" and name != "gateway"]
    assert [room for room in rooms if not any(is_within(name, room) for name in named)] == []


def _full(name: str) -> str:
    return name if is_within(name, "registry") else f"gateway.{name}"


def _exists(name: str) -> bool:
    """Whether a module has this name, or a module's class or function."""
    full = _full(name)
    module, _, member = full.rpartition(".")
    return full in modules() or (module in modules() and member in _members(module))


def _members(module: str) -> set[str]:
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name for node in modules()[module].tree.body if isinstance(node, kinds)}


@cache
def _breaches() -> dict[str, str]:
    """Modules and classes with a word that is ruled out, each with the word."""
    ruled_out = {word for entry in entries() for word in entry.ruled_out}
    names = {name: name.rpartition(".")[2] for name in modules()}
    names |= {
        f"{module.name}.{node.name}": node.name
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    return {full: word for full, name in names.items() for word in _words(name) if word in ruled_out}


def _words(name: str) -> list[str]:
    """The words of a name in CamelCase or snake_case, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)]
