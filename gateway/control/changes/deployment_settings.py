"""Changes of a deployment's settings: as asked for, a value for each setting that changes; and as made. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from registry.deployment import Batching, Deployment, configured

_NAMES = {"has_adaptive_limit": "adaptive_limit"}  # where the protocol's name is another


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


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting before and after a change, in words. ``name`` is the protocol's, e.g. batching.max_rows."""

    name: str
    before: str
    after: str


def changed_settings(before: Deployment, after: Deployment) -> tuple[SettingChange, ...]:
    """Returns the settings in which two deployments differ."""
    was, now = _settings(before), _settings(after)
    return tuple(SettingChange(name, was[name], now[name]) for name in now if was[name] != now[name])


def _settings(deployment: Deployment) -> dict[str, str]:
    batching = deployment.batching
    found = {f"batching.{_NAMES.get(field.name, field.name)}": getattr(batching, field.name) for field in fields(batching)}
    found |= {"rollback_window_s": deployment.rollback_window_s, "swap_order": deployment.swap_order}
    return {name: _word(value) for name, value in found.items()}


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
