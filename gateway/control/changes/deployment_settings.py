"""A change of a deployment's settings: a value for each setting that changes, None for the others. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from registry.deployment import Batching, Deployment, configured


@dataclass(frozen=True, slots=True)
class BatchingChange:
    """A change of `registry.deployment.Batching`. None keeps a setting."""

    mode: str | None = None
    max_rows: int | None = None
    queue_delay_us: int | None = None
    preferred_rows: tuple[int, ...] | None = None
    max_waiting: int | None = None
    queue_target_us: int | None = None
    has_adaptive_limit: bool | None = None

    def applied_to(self, present: Batching) -> Batching:
        """Returns the settings after the change, unchecked."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(present, **{name: value for name, value in told.items() if value is not None})


NO_CHANGE = BatchingChange()


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """The change that `Traffic.configure` makes. None keeps a setting."""

    batching: BatchingChange = NO_CHANGE
    rollback_window_s: float | None = None
    swap_order: str | None = None
    isolation: str | None = None
    on_crash: str | None = None

    def applied_to(self, present: Deployment) -> Deployment:
        """Returns the next deployment. Raises InvalidValue that names the setting."""
        return configured(
            present,
            batching=self.batching.applied_to(present.batching),
            rollback_window_s=present.rollback_window_s if self.rollback_window_s is None else self.rollback_window_s,
            swap_order=self.swap_order,
            isolation=self.isolation,
            on_crash=self.on_crash,
        )
