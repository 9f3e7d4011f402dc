"""Large models in real processes: what a swap costs in memory, what is refused, and what one copy at a time means."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start
from tiny import one_row_only, scaler

from gateway.client import AdminClient, CallError, Client, RetryPolicy
from gateway.protocol.messages import admin as admin_messages

sys.path.append(str(Path(__file__).parent.parent / "runtime"))
from layout_models import chain

SIDE = 1024
MATRICES = 8  # of 4 MiB
WEIGHTS_BYTES = MATRICES * SIDE * SIDE * 4
ROW = np.ones((1, SIDE), np.float32)


def private_bytes(gateway: Running) -> list[int]:
    """Anonymous memory of each worker: what no other process can share."""
    pids = [worker["pid"] for worker in gateway.note()["workers"]]
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return [sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Anonymous:")) for text in texts]


def test_two_versions_of_a_large_model_take_little_private_memory(start: Start, tmp_path: Path) -> None:
    gateway = start(workers=2)
    before = private_bytes(gateway)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        for number in (1, 2):
            seeds = [*range(MATRICES - 1), 100 + number]  # all but the last are equal
            admin.register("big", chain(tmp_path / f"{number}.onnx", seeds, side=SIDE)).result()
        admin.deploy("big", 1).result()
        first = client.infer("big", ROW)
        admin.promote("big", 2).result()
        second = client.infer("big", ROW)
        assert (first.version, second.version) == ("1", "2")
        assert not np.allclose(first[f"h{MATRICES}"], second[f"h{MATRICES}"])
        grown = [after - own for after, own in zip(private_bytes(gateway), before, strict=True)]
        assert max(grown) < WEIGHTS_BYTES / 2, "two copies are loaded, and each worker has less than half of one to itself"
        (status,) = admin.status().models
        assert all(version.layout.startswith(("mapped", "unpacked", "prepacked")) for version in status.versions)
        assert all(version.mapped_bytes > WEIGHTS_BYTES / 2 for version in status.versions)
    layouts = gateway.home / "layouts"
    (one, other) = (path for path in layouts.iterdir() if path.name not in ("blobs", "incoming"))
    shared = {path.stat().st_ino for path in one.rglob("*")} & {path.stat().st_ino for path in other.rglob("*")}
    pieces, rest = divmod(sum(len(path.name) == 64 for path in one.rglob("*") if path.is_file()), MATRICES)
    assert (len(shared), rest) == (pieces * (MATRICES - 1), 0), "a matrix may be in several pieces"
    assert pieces


def test_a_layout_that_goes_missing_is_made_again(start: Start, tmp_path: Path, wait_for: Callable[..., object]) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("big", chain(tmp_path / "1.onnx", [1, 2], side=SIDE)).result()
        admin.deploy("big", 1).result()
        before = client.infer("big", ROW)["h2"]
        (model,) = (gateway.home / "layouts").glob("*/*/model.onnx")
        model.unlink()
        wait_for(lambda: list((gateway.home / "layouts").glob("*/*~2/model.onnx")), 30)
        assert np.array_equal(client.infer("big", ROW)["h2"], before)


def test_what_does_not_fit_into_the_budget_is_refused_with_figures(start: Start, tmp_path: Path) -> None:
    gateway = start("--memory-budget", "40MiB", workers=1)
    with AdminClient(gateway.admin) as admin:
        admin.register("big", chain(tmp_path / "1.onnx", list(range(MATRICES)), side=SIDE)).result()
        with pytest.raises(CallError, match=r"of the workers' budget of 40 MiB only about .* are free") as refusal:
            admin.deploy("big", 1).result()
        assert (refusal.value.code, refusal.value.metadata["rule"]) == ("FAILED_PRECONDITION", "memory")
        assert int(refusal.value.metadata["needed_bytes"]) > int(refusal.value.metadata["available_bytes"])


def test_with_one_copy_at_a_time_callers_are_told_to_come_again(start: Start, tmp_path: Path) -> None:
    gateway = start(workers=2)
    stop = threading.Event()

    def call() -> list[str]:
        found = []
        with Client(gateway.data, retry=RetryPolicy(max_attempts=1)) as client:
            while not stop.is_set():
                try:
                    found.append(client.infer("big", ROW).version)
                except CallError as error:
                    found.append(f"{error.code} {error}")
        return found

    with AdminClient(gateway.admin) as admin, ThreadPoolExecutor(1) as pool:
        for number in (1, 2):
            admin.register("big", chain(tmp_path / f"{number}.onnx", [number, 3], side=SIDE)).result()
        admin.deploy("big", 1).result()
        admin.configure("big", swap_order="memory").result()
        caller = pool.submit(call)
        try:
            steps = [step.name for step in admin.promote("big", 2).result().steps]
        finally:
            stop.set()
        seen = dict.fromkeys(caller.result())
        assert steps[0] == "freeing"
        (status,) = admin.status().models
        assert [(version.version, list(version.roles)) for version in status.versions] == [(2, ["default"])]
    refused = [text for text in seen if text not in ("1", "2")]
    assert all(text.startswith("UNAVAILABLE") for text in refused)
    assert any("v1 is freed before the next version is loaded" in text for text in refused)


def test_a_load_that_fails_after_the_old_version_was_freed_brings_it_back(start: Start, tmp_path: Path) -> None:
    gateway = start(workers=2)
    row = np.ones((1, 2), np.float32)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("m", scaler(tmp_path / "1.onnx", 1.0)).result()
        admin.register("m", one_row_only(tmp_path / "2.onnx", 2.0)).result()
        admin.deploy("m", 1).result()
        admin.configure("m", batching=admin_messages.Batching(mode="on"), swap_order="memory").result()
        with pytest.raises(CallError, match=r"v1 was freed before .*, and is loaded and serves again"):
            admin.promote("m", 2).result()
        assert client.infer("m", row).version == "1"
