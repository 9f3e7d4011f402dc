"""
Sections of the settings: each is validated at construction, and handed whole to the parts that use it.

A field has the name of its option, with ``_`` for ``-``. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gateway.settings.address import Address


@dataclass(frozen=True, slots=True)
class DataPortSettings:
    """
    The port for predictions; given to workers.

    data_address: where predictions are served; default 0.0.0.0:8001, port 0 for any free port.
    lane: "fast" (a completion queue of gRPC core; falls back by itself) or "standard" (grpcio's public API).
    max_message_bytes: bytes of the largest request or response; default 64 MiB.
    max_connection_age_s: seconds after which a connection is asked to reconnect, which spreads clients over workers;
        default 600, 0 for never.
    max_concurrent_streams: calls in flight on one connection, beyond which a client holds calls back; default 256,
        0 for no limit.
    drain_delay_s: seconds between health NOT_SERVING and the refusal of new calls at a stop; default 0.5, 0 for none.
    reflection: gRPC reflection on the port; default off.
    """

    data_address: Address = Address("0.0.0.0", 8001)
    lane: Literal["fast", "standard"] = "fast"
    max_message_bytes: int = 64 * 1024**2
    max_connection_age_s: float = 600.0
    max_concurrent_streams: int = 256
    drain_delay_s: float = 0.5
    reflection: bool = False

    def __post_init__(self) -> None:
        if self.lane not in ("fast", "standard"):
            raise ValueError(f"lane: {self.lane!r} is unknown, expected fast or standard")
        check_range("max_message_bytes", self.max_message_bytes, 1024, 2**31 - 1)
        check_range("max_connection_age_s", self.max_connection_age_s, 0, 86400 * 365)
        check_range("max_concurrent_streams", self.max_concurrent_streams, 0, 2**31 - 1)
        check_range("drain_delay_s", self.drain_delay_s, 0, 3600)


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """
    What requests may do and how they are followed; given to the data plane, the services of the data port, and control.

    unit_header: request metadata key that names the unit for sticky routing; default x-unit-id.
    trace_ratio: share of requests traced (0 to 1) if the caller's trace context does not decide it; default 0.01.
    shared_memory: callers may register shared memory objects of the gateway's own user and keep tensors there; default off.
    model_control: RepositoryModelLoad and Unload are answered on the data port too; default off.
    on_demand: most versions loaded because callers named them; default 0, which disables loading on demand.
    """

    unit_header: str = "x-unit-id"
    trace_ratio: float = 0.01
    shared_memory: bool = False
    model_control: bool = False
    on_demand: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.unit_header) or self.unit_header.endswith("-bin"):
            raise ValueError(f"unit_header: {self.unit_header!r} is no name of text metadata (lower case, no -bin)")
        check_range("trace_ratio", self.trace_ratio, 0, 1)
        check_range("on_demand", self.on_demand, 0, 1000)


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """
    Recording of predictions for live quality; given to the data plane and the prediction log.

    prediction_sample: share of predictions recorded (0 to 1), chosen by prediction id; default 1, 0 for none.
    prediction_window_s: seconds for which a prediction waits for its ground truth, by the time in its id; default 7 days.
    prediction_bytes: bytes that the prediction log may take on disk; the oldest predictions go first; default 2 GiB.
    """

    prediction_sample: float = 1.0
    prediction_window_s: float = 7 * 86400.0
    prediction_bytes: int = 2 * 1024**3

    def __post_init__(self) -> None:
        check_range("prediction_sample", self.prediction_sample, 0, 1)
        check_range("prediction_window_s", self.prediction_window_s, 1, 3650 * 86400)
        check_range("prediction_bytes", self.prediction_bytes, 64 * 1024, 2**50)


@dataclass(frozen=True, slots=True)
class LoadingSettings:
    """
    Loading of versions; given to control, workers and the supervisor.

    load_timeout_s: seconds within which every worker must have a version loaded and warmed up; default 120.
    memory_budget_bytes: memory that all workers may take together, checked before a version is loaded; default 0: the
        memory of the machine or its control group, less a reserve of a tenth (256 MiB at least).
    """

    load_timeout_s: float = 120.0
    memory_budget_bytes: int = 0

    def __post_init__(self) -> None:
        check_range("load_timeout_s", self.load_timeout_s, 0.1, 86400)
        check_range("memory_budget_bytes", self.memory_budget_bytes, 0, 2**60)


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises ValueError naming the setting, what came and what was expected."""
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is out of range, expected {low} to {high}")
