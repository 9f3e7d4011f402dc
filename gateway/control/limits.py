"""Limits of control that are no settings: tests set others."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class ControlLimits:
    """
    attach_timeout_s: seconds that a change waits for the first worker while none is attached.
    acknowledge_timeout_s: seconds for the workers to put a committed route in force; those that are late are reported.
    replace_timeout_s: seconds within which a rolling restart must make its next step; 0 for the sum of the load timeout,
        the grace period, and a minute, which is more than the supervisor's own limit, so that it says why.
    report_timeout_s: seconds to wait for fresh counts of the workers.
    tick_interval_s: seconds between checks of expired rollback windows and of the registry.
    upload_bytes: bytes of the largest artifact that can be registered.
    history: finished operations that are kept; the oldest are forgotten.
    """

    attach_timeout_s: float = 3.0
    acknowledge_timeout_s: float = 10.0
    replace_timeout_s: float = 0.0
    report_timeout_s: float = 2.0
    tick_interval_s: float = 1.0
    upload_bytes: int = 8 * GIB
    history: int = 1000
