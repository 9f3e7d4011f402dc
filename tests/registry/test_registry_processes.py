"""Real processes on one registry: killed at any moment, and writing at the same time."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from registry_makers import FakeClock, processes, register_adder, write_adder

from gateway.clock import SystemClock
from registry.deployment import deployed
from registry.errors import RevisionConflict
from registry.onnx_file import read_model
from registry.registry import Registry, open_registry
from registry.versions import Facts

KILLS = 100
MOMENTS = ("begun", "opened", "registered", "opened", "committed")  # what a writer has just done; then a random time passes
SAME_CONTENTS = 5  # every third registration is of one of so many; all others are of content that was never seen


def write_until_killed(home: str, source: str, journal: str, seed: int) -> None:
    """Register and commit without end; a line goes to ``journal`` at the begin and after each write that was reported done."""
    log = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"begun\n")
    registry = open_registry(Path(home), SystemClock())
    os.write(log, b"opened\n")
    dice = random.Random(seed)
    while True:
        number = register_one(registry, Path(source), dice, log)
        current = registry.deployment("digits")
        deployment = deployed("digits", number, current=current, salt="s")
        registry.commit(deployment, expected_revision=deployment.revision - 1)
        os.write(log, f"committed {deployment.revision}\n".encode())


def register_one(registry: Registry, source: Path, dice: random.Random, log: int) -> int:
    is_old = dice.random() < 1 / 3
    path = write_adder(source / "model.onnx", dice.randrange(SAME_CONTENTS) if is_old else dice.random())
    (source / "vocabulary").write_bytes(b"x" * 100_000)
    version = registry.register("digits", source, facts=Facts(read_model(path).signature), alias="newest")
    os.write(log, f"registered {version.number}\n".encode())
    return version.number


def torn_folders(artifacts: Path) -> list[str]:
    """Names of artifacts whose manifest is not what the name says, or whose files are not what the manifest says."""
    torn = []
    for folder in artifacts.iterdir():
        if folder.name == "incoming":
            continue
        lines = (folder / "manifest").read_bytes() if (folder / "manifest").exists() else b""
        entries = [line.split(" ", 2) for line in lines.decode().splitlines()]
        files = {path: (folder / "files" / path).read_bytes() for _, _, path in entries if (folder / "files" / path).exists()}
        is_whole = hashlib.sha256(lines).hexdigest() == folder.name
        if not is_whole or any(hashlib.sha256(files.get(path, b"")).hexdigest() != digest for digest, _, path in entries):
            torn.append(folder.name)
    return torn


def count(journal: Path, word: str) -> int:
    return journal.read_text().count(word) if journal.exists() else 0


def last_done(journal: Path, word: str) -> int:
    lines = journal.read_text().split("\n")[:-1] if journal.exists() else []
    return max((int(line.split()[1]) for line in lines if line.startswith(word)), default=0)


def check_whole(home: Path, journal: Path, verified: int, found: int) -> tuple[int, int]:
    """
    The state is the last one known, or the one write after it; nothing is half there. Known is what was reported as done, and
    what the check before this one saw: a writer killed before its report has written all the same. The latest version and
    revision; ``verified`` and ``found`` are those of the check before.
    """
    registry = open_registry(home, FakeClock())
    models = registry.models()[0]
    latest = models[0].latest if models else 0
    assert latest in (done := max(verified, last_done(journal, "registered")), done + 1)
    revision = 0
    for number in range(verified + 1, latest + 1):
        registry.verify(registry.version("digits", number))
    if latest:
        assert models[0].aliases == {"newest": latest}
        revisions = registry.revisions("digits", page_size=1000)[0]
        current = registry.deployment("digits")
        committed = max(found, last_done(journal, "committed"))
        revision = current.revision if current else 0
        assert revision in (committed, committed + 1)
        assert [r.revision for r in revisions] == list(range(len(revisions), 0, -1))[: len(revisions)]
        assert len(registry.audit("digits", page_size=1)[0]) == 1
        assert registry.audit("digits", page_size=1)[0][0].id == latest + len(revisions)
    assert not list((home / "artifacts" / "incoming").iterdir())
    assert torn_folders(home / "artifacts") == []
    registry.close()
    return latest, revision


@pytest.mark.slow
def test_a_registry_killed_at_any_moment_opens_whole(tmp_path: Path, home: Path, wait_for: Callable[..., object]) -> None:
    journal = tmp_path / "journal"
    dice = random.Random(20)
    verified = found = 0
    for kill in range(KILLS):
        process = processes().Process(
            target=write_until_killed, args=(str(home), str(tmp_path / "source"), str(journal), kill), daemon=True
        )
        moment = MOMENTS[kill % len(MOMENTS)]
        turns = count(journal, moment)
        process.start()
        wait_for(lambda moment=moment, turns=turns: count(journal, moment) > turns, what="the writer")
        time.sleep(dice.uniform(0, 0.03))  # the random moment that is the point of this test
        process.kill()
        process.join()
        verified, found = check_whole(home, journal, verified, found)
    assert verified >= KILLS / 4


def commit_many(home: str, author: str, times: int, barrier: object, conflicts: object) -> None:
    registry = open_registry(Path(home), SystemClock())
    barrier.wait(30)  # type: ignore[attr-defined]
    lost = 0
    for turn in range(times):
        while True:
            current = registry.deployment("digits")
            deployment = deployed("digits", 1, current=current, salt=f"{author} {turn}")
            try:
                registry.commit(deployment, expected_revision=deployment.revision - 1, author=author)
                break
            except RevisionConflict:
                lost += 1
    conflicts.put((author, lost))  # type: ignore[attr-defined]
    registry.close()


def test_two_processes_lose_no_revision_and_are_told_of_every_conflict(home: Path, tmp_path: Path, registry: Registry) -> None:
    register_adder(registry, tmp_path)
    context, times = processes(), 60
    barrier, conflicts = context.Barrier(2), context.Queue()
    writers = [context.Process(target=commit_many, args=(str(home), who, times, barrier, conflicts)) for who in "ab"]
    for writer in writers:
        writer.start()
    told = dict(conflicts.get(timeout=60) for _ in writers)
    for writer in writers:
        writer.join(30)
    revisions = registry.revisions("digits", page_size=1000)[0]
    assert [revision.revision for revision in revisions] == list(range(2 * times, 0, -1))
    for who in "ab":
        mine = [revision.salt for revision in reversed(revisions) if revision.author == who]
        assert mine == [f"{who} {turn}" for turn in range(times)]
    assert len(registry.audit("digits", page_size=1000)[0]) == 2 * times + 1
    assert sum(told.values()) > 0, "the writers never met"


def test_threads_of_one_process_lose_no_revision(registry: Registry, tmp_path: Path) -> None:
    register_adder(registry, tmp_path)

    def commit_some(author: str) -> None:
        for _ in range(10):
            while True:
                current = registry.deployment("digits")
                deployment = deployed("digits", 1, current=current, salt="")
                try:
                    registry.commit(deployment, expected_revision=deployment.revision - 1, author=author)
                    break
                except RevisionConflict:
                    continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(commit_some, "abcd"))
    revisions = registry.revisions("digits", page_size=100)[0]
    assert [revision.revision for revision in revisions] == list(range(40, 0, -1))
    assert Counter(revision.author for revision in revisions) == dict.fromkeys("abcd", 10)


def register_many(home: str, source: str, times: int, barrier: object) -> None:
    registry = open_registry(Path(home), SystemClock())
    facts = Facts(read_model(Path(source)).signature)
    barrier.wait(30)  # type: ignore[attr-defined]
    for _ in range(times):
        registry.register("digits", Path(source), facts=facts)
    registry.close()


@pytest.mark.parametrize("is_same", [True, False], ids=["same-content", "other-content"])
def test_two_processes_register_without_losing_a_version(home: Path, tmp_path: Path, registry: Registry, is_same: bool) -> None:
    paths = [
        write_adder(tmp_path / "a.onnx", 1),
        write_adder(tmp_path / ("b" if is_same else "c") / "a.onnx", 1 if is_same else 2),
    ]
    context, times = processes(), 25
    barrier = context.Barrier(2)
    writers = [context.Process(target=register_many, args=(str(home), str(path), times, barrier)) for path in paths]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    versions = registry.versions("digits", page_size=1000)[0]
    assert [version.number for version in versions] == list(range(2 * times, 0, -1))
    for version in versions:
        registry.verify(version)
    assert len({version.artifact.digest for version in versions}) == (1 if is_same else 2)
    assert not list((home / "artifacts" / "incoming").iterdir())
