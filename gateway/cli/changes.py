"""Audit records in words: the difference between the two states that a record keeps as JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from registry.deployment import Deployment

_BOOKKEEPING = frozenset("model revision salt predecessor action author reason created_at".split())
_BUILT_IN = Deployment("", 1, None)
_SETTINGS = {  # what a deployment has where its record names nothing else: the first one, those of earlier releases
    "rollback_window_s": _BUILT_IN.rollback_window_s,
    "swap_order": _BUILT_IN.swap_order,
    "isolation": _BUILT_IN.isolation,
    **{f"batching.{field.name}": getattr(_BUILT_IN.batching, field.name) for field in fields(_BUILT_IN.batching)},
    "batching.preferred_rows": [],
}
_PARTS_PER_PERCENT = 100


def parsed(text: str) -> Any:
    """Returns a state of a record: its JSON, None for no state, the text itself if it is no JSON."""
    if not text:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def change(before: str, after: str) -> str:
    """Describes a change, e.g. "default 1 → 2, batching.mode auto → off"."""
    old, new = parsed(before), parsed(after)
    if isinstance(new, dict) and "artifact" in new:
        return f"version {new.get('number')}, {new['artifact'].get('digest', '')[:12]}"
    if not isinstance(old, dict | None) or not isinstance(new, dict | None):
        return " → ".join(str(state) for state in (old, new) if state is not None)
    usual = _SETTINGS if "segments" in (new or old or {}) else {}
    was, now = ({**usual, **_flat(state or {})} for state in (old, new))
    keys = [key for key in [*now, *(key for key in was if key not in now)] if was.get(key) != now.get(key)]
    return ", ".join(_words(key, was.get(key), now.get(key)) for key in keys)


def _words(key: str, was: Any, now: Any) -> str:
    return f"{key} {_word(now)}" if was is None else f"{key} {_word(was)} → {_word(now)}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _flat(state: dict[str, Any]) -> dict[str, Any]:
    """Returns the facts of a state by dotted names, without unset ones."""
    facts: dict[str, Any] = {}
    for key, value in state.items():
        if key in _BOOKKEEPING or value is None:
            continue
        if key == "segments":
            facts.update(_shares(value))
        elif key == "shadow":
            facts[key] = f"{value.get('version')} ({value.get('percent'):g} %)"
        elif isinstance(value, dict):
            facts.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            facts[key] = value
    return facts


def _shares(segments: list[dict[str, int]]) -> dict[str, str]:
    """Returns the percent of each candidate: the widths of its segments on the line of 10,000 parts."""
    widths: dict[int, int] = {}
    for segment in segments:
        widths[segment["version"]] = widths.get(segment["version"], 0) + segment["end"] - segment["start"]
    return {f"share of {version}": f"{width / _PARTS_PER_PERCENT:g} %" for version, width in widths.items()}
