"""The counters of this worker since it started, as it reports them."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.contract.counts import ArmCounts, ShadowCounts


@dataclass(slots=True)
class Counters:
    """Every counter of this worker. They stay when a version is unloaded, so sums never fall."""

    arms: dict[tuple[str, int, str], ArmCounts] = field(default_factory=dict)
    shadows: dict[tuple[str, int, int], ShadowCounts] = field(default_factory=dict)
    not_routed: dict[str, int] = field(default_factory=dict)  # requests that reached no version, by gRPC code name

    def arm(self, model: str, version: int, arm: str) -> ArmCounts:
        """Returns the counters of a version in one arm."""
        return self.arms.setdefault((model, version, arm), ArmCounts(model, version, arm))

    def used_arms(self) -> tuple[ArmCounts, ...]:
        """Returns the counters that counted anything. A used one stays used, and unused ones are 0, so sums are whole."""
        return tuple(arm for arm in tuple(self.arms.values()) if arm.requests or arm.executions)

    def shadow(self, model: str, primary: int, shadow: int) -> ShadowCounts:
        """Returns the counters of a pair of primary and shadow."""
        return self.shadows.setdefault((model, primary, shadow), ShadowCounts(model, primary, shadow))
