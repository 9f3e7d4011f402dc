"""Settings from `INTERLOCK_*` variables and the options given: the only place that knows pydantic-settings."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings.values import Address, CannotStart, Settings

PREFIX = "INTERLOCK_"


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, validate_default=False
    )


def read_settings(**options: Any) -> Settings:
    """
    The settings: an option that is not None wins over its variable, which wins over the default. Addresses are texts.
    Raises CannotStart naming option, variable and what was expected.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        read = _reader()(**given)
    except ValidationError as error:
        raise CannotStart("\n".join(_text(problem) for problem in error.errors())) from error
    try:
        return Settings(**{name: _value(name, getattr(read, name)) for name in read.model_fields_set})
    except ValueError as error:
        raise CannotStart(str(error)) from error


def _reader() -> type[BaseSettings]:
    """A pydantic class with the fields of Settings, so that each is written down once."""
    hints = get_type_hints(Settings)
    columns: dict[str, Any] = {}
    for item in fields(Settings):
        kind = str if hints[item.name] is Address else hints[item.name]
        default = item.default if item.default is not MISSING else None
        columns[item.name] = (kind, default)
    return create_model("Variables", __base__=_Variables, **columns)


def _value(name: str, value: Any) -> Any:
    if not name.endswith("_address"):
        return value
    try:
        return Address.parse(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _text(problem: Any) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    return f"{name} (--{name.replace('_', '-')} or {PREFIX}{name.upper()}): {problem['input']!r}: {problem['msg']}"
