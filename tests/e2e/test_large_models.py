"""Large models in real processes: a swap costs next to no private memory, and a layout that goes missing comes back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from running import Running, Start

from gateway.client import AdminClient, Client

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
    assert len(shared) == MATRICES - 1


def test_a_layout_that_goes_missing_is_made_again_and_nobody_notices(
    start: Start, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    gateway = start(workers=1)
    with AdminClient(gateway.admin) as admin, Client(gateway.data) as client:
        admin.register("big", chain(tmp_path / "1.onnx", [1, 2], side=SIDE)).result()
        admin.deploy("big", 1).result()
        before = client.infer("big", ROW)["h2"]
        (model,) = (gateway.home / "layouts").glob("*/*/model.onnx")
        model.unlink()
        wait_for(lambda: list((gateway.home / "layouts").glob("*/*~2/model.onnx")), 30)
        assert np.array_equal(client.infer("big", ROW)["h2"], before)
