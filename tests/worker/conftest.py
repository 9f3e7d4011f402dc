from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_bench import WorkerBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerBench]:
    made = WorkerBench(tmp_path)
    yield made
    made.plane.gate.set()
    made.plane.answer_gate.set()
    for worker in made.workers:
        worker.stop()
