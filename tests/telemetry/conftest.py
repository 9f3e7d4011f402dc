"""Facts in which everything that can be shown occurs."""

from __future__ import annotations

import pytest
from telemetry_values import counted, sent

from gateway.contract.counts import ShadowCounts
from gateway.contract.version_state import VersionState
from gateway.telemetry.aggregate import Aggregate
from gateway.telemetry.facts import (
    DeathCount,
    FeedbackCounts,
    MetricsFacts,
    OnDemandCounts,
    QualityFacts,
    RouteFacts,
    SwapRecorder,
    VersionFacts,
    WorkerFacts,
)


@pytest.fixture
def full_facts() -> MetricsFacts:
    aggregate, recorder = Aggregate(), SwapRecorder()
    shadow = ShadowCounts(
        "digits", 2, 3, compared=9, disagreed=2, dropped=1, failed=1, values=9, sum_abs_diff=0.5, max_abs_diff=0.2
    )
    loads = {"digits|2|ok": 1, "digits|4|failed": 2}
    aggregate.update(
        0,
        sent(
            "a",
            counted(ok=4, failed=1),
            shadows=(shadow,),
            not_routed={"NOT_FOUND": 5},
            loads=loads,
            predictions_dropped=3,
            traces_dropped=5,
        ),
    )
    aggregate.update(1, sent("b", counted(ok=6), counted(arm="candidate", version=3, ok=2), connections=4))
    recorder.record("digits", "promote", is_ok=True, duration_s=0.02)
    return MetricsFacts(
        merged=aggregate.merged(),
        workers=(
            WorkerFacts(0, is_up=True, is_serving=True, revision=7, replacements=1, started_at=1.7e9),
            WorkerFacts(1, is_up=False, restarts=2),
        ),
        versions=(VersionFacts(0, "digits", 2, VersionState.READY, memory_bytes=4096, in_flight=1, load_s=0.2),),
        routes=(RouteFacts("digits", 7, {2: 0.7, 3: 0.3}, shadow=3, shadow_percent=50.0),),
        deaths=(DeathCount("digits", 3, "SIGFPE", 2),),
        isolated_deaths=(DeathCount("digits", 3, "SIGFPE", 1),),
        swaps=recorder.counts(),
        quality=(
            QualityFacts("digits", 2, "default", 100, 50, 0.5, 0.97, 0.96, 0.95, 0.955),
            QualityFacts("prices", 1, "default", 10, 5, 0.5, mae=1.5, rmse=2.0, r2=0.8),
        ),
        loading=OnDemandCounts(loads=5, failures=1, evictions=2, loaded=3, waiting=1),
        predictions_recorded=110,
        predictions_dropped=1,
        feedback=FeedbackCounts(joined_late=7, lapsed=2, refused_late=1),
        build={"version": "0.1.0"},
    )
