"""Which requests of one version share a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.batching.merge import chunks
from gateway.worker.item import Item


def grouped(items: Iterable[Item], max_rows: int) -> list[list[Item]]:
    """Batches of one version's requests, in order of arrival: equal groups together, at most ``max_rows`` rows each."""
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(item.binding.group or item, []).append(item)
    batches: list[list[Item]] = []
    for group in groups.values():
        if len(group) == 1:
            batches.append(group)
        else:
            batches += chunks(group, [item.binding.rows for item in group], max_rows)
    return batches
