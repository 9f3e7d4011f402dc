"""Another program has locked the prediction log: all that does not write it answers."""

from __future__ import annotations

import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Running, Start
from tiny import classifier

from gateway.client import AdminClient, Client, Feedback, RetryPolicy, Unavailable

SCORES = np.array([[1.0, 2.0, 3.0]], np.float32)
ONCE = RetryPolicy(max_attempts=1)
PAGE_S = 10.0  # more than a scraper waits, less than a connection lasts


@pytest.fixture
def gateway(start: Start, tmp_path: Path) -> Running:
    running = start(workers=1)
    with AdminClient(running.admin) as admin, Client(running.data) as client:
        admin.register("m", classifier(tmp_path / "m.onnx")).result()
        admin.deploy("m", 1).result()
        client.infer("m", SCORES)
        assert admin.quality("m").versions[0].predictions == 1
    return running


@pytest.fixture
def lock(gateway: Running) -> Iterator[sqlite3.Connection]:
    other = sqlite3.connect(gateway.home / "predictions.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_metrics_quality_and_predictions_go_on_and_feedback_is_told(
    gateway: Running, lock: sqlite3.Connection, wait_for: Callable[..., object]
) -> None:
    with AdminClient(gateway.admin) as admin, Client(gateway.data, retry=ONCE) as client:
        made = client.infer("m", SCORES)
        with urllib.request.urlopen(f"http://{gateway.http}/metrics", timeout=PAGE_S) as page:
            assert b"interlock_predictions_recorded_total 1.0" in page.read()
        assert admin.quality("m").versions[0].predictions == 1
        with pytest.raises(Unavailable, match="prediction log"):
            client.send_feedback([Feedback(prediction_id=made.prediction_id, label="2")])
        lock.execute("ROLLBACK")
        wait_for(lambda: admin.quality("m").versions[0].predictions == 2, timeout_s=30, what="the second one recorded")
