"""Reads settings from options and `INTERLOCK_*` variables. The only place that knows pydantic-settings."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.settings.address import Address
from gateway.settings.values import SECTIONS, CannotStart, Settings

PREFIX = "INTERLOCK_"


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, validate_default=False
    )


def read_settings(**options: Any) -> Settings:
    """
    Returns the settings. An option that is not None wins over its variable, which wins over the default. Addresses are
    texts. Raises CannotStart naming option, variable and what was expected.
    """
    given = {name: value for name, value in options.items() if value is not None}
    try:
        read = _reader()(**given)
    except ValidationError as error:
        raise CannotStart("\n".join(_text(problem) for problem in error.errors())) from error
    try:
        return Settings.of(**{name: _value(name, getattr(read, name)) for name in read.model_fields_set})
    except ValueError as error:
        raise CannotStart(str(error)) from error


def _reader() -> type[BaseSettings]:
    """Makes a pydantic class with the fields of Settings and of its sections, so that each is written down once."""
    columns: dict[str, Any] = {}
    for section in (Settings, *SECTIONS.values()):
        hints = get_type_hints(section)
        for item in fields(section):
            if item.name not in SECTIONS:
                kind = str if hints[item.name] is Address else hints[item.name]
                columns[item.name] = (kind, item.default if item.default is not MISSING else None)
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
