"""
Counts that describe the tree: sizes, the request path, the promote path, leases, names, settings.

``python tests/architecture/counts.py`` counts this tree, ``--tree DIR`` another one, which must have the same dependencies.
The two paths are measured: pytest runs the probes below beside the tree's own fixtures, with a profile function in every
thread. The promote path is control's side only, since `FakeWorker` stands for the workers. Leases and copies of settings
are found by patterns (RELEASES, SETTINGS): read what is listed before you quote the number.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 15
MARK = "@@"  # before the lines of a probe that are shown, among those of pytest
SETTLE_S = 0.5  # what happens after a reply (counts, records) is over by then
# Where leases end: calls as `served.release(n)`, `version.release_leases(n)` and `lease.end()`, and `with batch.lease`.
RELEASES = re.compile(r"\b(served|loaded|version|target|lease)\.(release|release_leases)$|\blease\.end$")
LOADED_VERSION = ("Copy", "Held", "LoadedVersion", "ManagedVersion", "Served", "Target", "VersionEntry")
SETTINGS = re.compile(r"(Config|Options|Settings)$")
SOURCES = re.compile(r"\b(settings|config|options)\.\w+")
# Folders of fixtures and names of fixtures, in the order in which they are tried.
PLANE, CONTROL = ("tests/serving", "tests/plane"), ("tests/control",)
PLANE_FIXTURES, CONTROL_FIXTURES = ("open_gate", "open_plane"), ("make_world",)


def trees(tree: Path) -> Iterator[tuple[Path, ast.Module]]:
    """The project's files that people write, parsed."""
    for package in ("gateway", "registry"):
        for path in sorted((tree / package).rglob("*.py")):
            if "pb" not in path.parts:
                yield path.relative_to(tree), ast.parse(path.read_text())


def line_count(path: Path) -> int:
    return path.read_text().count("\n")


def show_sizes(tree: Path) -> None:
    parsed = list(trees(tree))
    top = [path for path, _ in parsed if path.parent == Path("gateway")]
    show("files at the top level of gateway/", f"{len(top)}, {sum(line_count(tree / path) for path in top)} lines")
    files = Counter(str(path.parent) for path, _ in parsed)
    lines: Counter[str] = Counter()
    for path, _ in parsed:
        lines[str(path.parent)] += line_count(tree / path)
    show("packages, by lines", len(files))
    for package, count in lines.most_common():
        print(f"    {package:32} {files[package]:3} files {count:6} lines")
    functions = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
        for path, module in parsed
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    show("functions", f"{len(functions)}; the longest:")
    for length, where in sorted(functions, reverse=True)[:LONGEST]:
        print(f"    {length:3} {where}")
    packages = [path for path, _ in parsed if path.name == "__init__.py"]
    show("longest files", ", ".join(f"{p} {line_count(tree / p)}" for p in by_length(tree, parsed)[:5]))
    show("packages with a docstring", f"{sum(bool(ast.get_docstring(dict(parsed)[p])) for p in packages)} of {len(packages)}")


def by_length(tree: Path, parsed: list[tuple[Path, ast.Module]]) -> list[Path]:
    return sorted((path for path, _ in parsed), key=lambda path: -line_count(tree / path))


def show_patterns(tree: Path) -> None:
    releases, classes, fields, copies = [], Counter[str](), {}, []
    for path, module in trees(tree):
        for node in ast.walk(module):
            match node:
                case ast.Call(func=ast.Attribute() as function) if RELEASES.search(ast.unparse(function)):
                    releases.append(f"{path}:{node.lineno} {ast.unparse(node)}")
                case ast.withitem(context_expr=lease) if ast.unparse(lease).split(".")[-1].startswith(("lease", "Lease")):
                    releases.append(f"{path}:{lease.lineno} with {ast.unparse(lease)}")
                case ast.Call(func=ast.Name(id=name)) if SETTINGS.search(name):
                    copies += [name for keyword in node.keywords if SOURCES.search(ast.unparse(keyword.value))]
                case ast.ClassDef(name=name):
                    classes[name] += 1
                    if SETTINGS.search(name):
                        fields[f"{path} {name}"] = sum(isinstance(part, ast.AnnAssign) for part in node.body)
    show("places that release a lease", len(releases))
    print(*(f"    {where}" for where in releases), sep="\n")
    found = [name for name in LOADED_VERSION for _ in range(classes[name])]
    show("names of a loaded version", f"{len(set(found))}: {', '.join(found)}")
    show("classes of settings", f"{len(fields)}, {sum(fields.values())} fields")
    print(*(f"    {where}: {count}" for where, count in fields.items()), sep="\n")
    show("fields copied from one into another", f"{len(copies)}: {dict(Counter(copies))}")
    double = {name: count for name, count in sorted(classes.items()) if count > 1}
    show("classes with a name twice or more", f"{len(double)}: {double}")


def show(what: str, value: object) -> None:
    print(f"{what}: {value}")


class Recorder:
    """Notes the project's functions that run in any thread while ``is_on``, with those that wait for them."""

    def __init__(self, tree: Path) -> None:
        self.seen: set[tuple[str, str]] = set()
        self.is_on = False
        self._roots = (f"{tree}/gateway/", f"{tree}/registry/")
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType | None, event: str, _: object) -> None:
        while self.is_on and event == "call" and frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(self._roots) and not code.co_name.startswith("<"):
                self.seen.add((code.co_filename, code.co_qualname))
            frame = frame.f_back

    def show(self, path: str) -> None:
        """Stops the profile and prints what ran."""
        self.is_on = False
        sys.setprofile(None)
        threading.setprofile(None)
        files = Counter(file for file, _ in self.seen)
        packages = {str(Path(file).parent) for file in files}
        print(f"{MARK}{path}: {len(self.seen)} functions, {len(files)} files, {len(packages)} packages")
        for file, count in sorted(files.items()):
            names = sorted(name for where, name in self.seen if where == file)
            print(f"{MARK}    {os.path.relpath(file, os.environ['TREE'])} {count}: {', '.join(names)}")


def fixture(request: pytest.FixtureRequest, names: tuple[str, ...]) -> Any:
    """The first of these fixtures that the tree has."""
    for name in names:
        with contextlib.suppress(pytest.FixtureLookupError):
            return request.getfixturevalue(name)
    raise LookupError(f"no fixture of {names}: add its name to counts.py")


def probe_request(request: pytest.FixtureRequest) -> None:
    import numpy as np
    from plane_models import ask, scale  # the tree's own

    recorder = Recorder(Path(os.environ["TREE"]))
    gate = fixture(request, PLANE_FIXTURES)("fast")
    gate.load("scale", 1, scale(2.0))
    gate.route("scale", 1)
    message = ask("scale", np.ones((1, 4), np.float32)).SerializeToString()
    for recorder.is_on in (*[False] * 50, True):
        gate.call(message)
    time.sleep(SETTLE_S)
    recorder.show("request path (one warm unary request, fast lane)")


def probe_promote(request: pytest.FixtureRequest) -> None:
    recorder = Recorder(Path(os.environ["TREE"]))
    world = fixture(request, CONTROL_FIXTURES)()
    world.deployed(2)
    recorder.is_on = True
    world.done(world.control.traffic.promote("digits", "2"))
    recorder.show("promote path (control's side, two workers)")


def show_path(tree: Path, probe: str, folders: tuple[str, ...]) -> None:
    """Runs one probe with the fixtures of the first of the folders that exists."""
    folder = next(tree / name for name in folders if (tree / name / "conftest.py").exists())
    environment = os.environ | {"TREE": str(tree), "PYTHONPATH": f"{tree}:{folder}"}
    options = ["-p", "conftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tempfile.gettempdir(), "-qs"]
    options += ["-o", "python_files=counts.py", "-o", "python_functions=probe_*", f"{__file__}::{probe}"]
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, env=environment, cwd=tempfile.gettempdir(), capture_output=True, text=True, timeout=300)
    lines = [line.partition(MARK)[2] for line in done.stdout.splitlines() if MARK in line]
    print(*(lines if done.returncode == 0 else [f"{probe} failed:\n{done.stdout}{done.stderr}"]), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Counts of a tree.")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the tree to count; this one when left out")
    root = parser.parse_args().tree.resolve()
    show_sizes(root)
    show_patterns(root)
    show_path(root, "probe_request", PLANE)
    show_path(root, "probe_promote", CONTROL)
