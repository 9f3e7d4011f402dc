"""
Statistics of versions in Triton's sense, selected from the merged counts. Pure.

The counts of all arms of a version are summed, including its shadow runs: Triton knows no arms (/metrics has them apart).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.contract.questions import VersionStatistics
from gateway.errors import ModelNotFound
from gateway.telemetry.merged_counts import Merged, by_version, summed


def version_statistics(
    merged: Merged,
    model: str,
    number: int | None,
    *,
    served: Mapping[str, Iterable[int]] | None = None,
    memory_bytes: Mapping[tuple[str, int], int] | None = None,
) -> tuple[VersionStatistics, ...]:
    """
    Returns the statistics of one version, of all versions of a model (``number`` None) or of everything (``model`` "").

    ``served`` has the loaded versions, so that a version without requests is listed with zeros. A version with counts stays
    listed after it is unloaded. ``memory_bytes`` is per version over all workers. Raises ModelNotFound for a model or version
    that is neither served nor counted.
    """
    known = _known(merged, served or {})
    if model and model not in known:
        raise ModelNotFound(f"model {model!r} is not served and never was", model=model)
    chosen = {model: known[model]} if model else known
    keys = [(name, one) for name in sorted(chosen) for one in sorted(chosen[name])]
    if number is not None:
        keys = [key for key in keys if key[1] == number]
    if model and number is not None and not keys:
        have = ", ".join(str(one) for one in sorted(known[model]))
        raise ModelNotFound(f"model {model!r} has no version {number} served (has {have})", model=model, version=number)
    arms = by_version(merged)
    return tuple(VersionStatistics(*key, summed(arms.get(key, ())), (memory_bytes or {}).get(key, 0)) for key in keys)


def _known(merged: Merged, served: Mapping[str, Iterable[int]]) -> dict[str, set[int]]:
    known = {model: set(numbers) for model, numbers in served.items()}
    for model, number, _ in merged.arms:
        known.setdefault(model, set()).add(number)
    return known
