"""Files and functions stay small, and are named for what they hold."""

from __future__ import annotations

import ast

from sources import modules

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


def test_files_are_small() -> None:
    lines = {module.name: module.path.read_text().count("\n") for module in modules().values()}
    assert {name: count for name, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_functions_are_small() -> None:
    lines = {
        f"{module.name}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES} == {}


def test_modules_are_named_for_what_they_hold() -> None:
    assert [name for name in modules() if FORBIDDEN & set(name.split("."))] == []


def test_every_module_says_what_lives_in_it() -> None:
    assert [m.name for m in modules().values() if m.tree.body and not ast.get_docstring(m.tree)] == []
