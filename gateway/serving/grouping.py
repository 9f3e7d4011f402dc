"""Which requests of one version share a run."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.serving.item import Item
from gateway.serving.merge import chunks


def grouped(items: list[Item], max_rows: int, preferred: Sequence[int] = ()) -> list[list[Item]]:
    """
    Batches of one version's requests, in order of arrival: equal groups together, at most ``max_rows`` rows each, of
    ``preferred`` sizes where they are filled.
    """
    first = items[0].binding
    if first.group is not None and len({item.binding for item in items}) == 1:  # the usual case
        return chunks(items, [first.rows] * len(items), max_rows, preferred)
    groups: dict[object, list[Item]] = {}
    for item in items:
        groups.setdefault(item.binding.group or item, []).append(item)
    batches: list[list[Item]] = []
    for group in groups.values():
        if len(group) == 1:
            batches.append(group)
        else:
            batches += chunks(group, [item.binding.rows for item in group], max_rows, preferred)
    return batches


def first_batch(items: Sequence[Item], max_rows: int) -> list[Item]:
    """The first request and those that may share its run, in order, up to ``max_rows`` rows."""
    group = items[0].binding.group
    if group is None:
        return [items[0]]
    batch: list[Item] = []
    rows = 0
    for item in items:
        if item.binding.group == group:
            rows += item.binding.rows
            if batch and rows > max_rows:
                break
            batch.append(item)
    return batch
