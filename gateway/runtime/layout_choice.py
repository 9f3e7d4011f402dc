"""
The choice of a model's serving layout from measured figures. Pure.

ONNX Runtime packs the constant factors of matrix products anew at load, for speed; packed factors are private to every
process. Whether that pays depends on the model, so it is measured and not configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAPPED = "mapped"  # weights mapped, ONNX Runtime packs what it likes at load
UNPACKED = "unpacked"  # weights mapped, nothing is packed
PREPACKED = "prepacked"  # weights mapped as ONNX Runtime has packed them once
SLOWDOWN = 1.10  # of a run, that is accepted for shared memory
NOISE = 1.25  # of a run, that a busy machine may pretend
WORTH_SHARE = 0.10  # of the weights: packing less than this into private memory is left as it is


@dataclass(frozen=True, slots=True)
class Figures:
    """
    The figures of one layout: ``private_bytes`` that a process takes for it after load and runs, ``run_s`` processor seconds
    of a run by rows.
    """

    private_bytes: int
    run_s: Mapping[int, float]


def slowdown(figures: Figures, reference: Figures) -> float:
    """Returns how many times longer runs take than in ``reference``, at the number of rows where it is worst."""
    return max((figures.run_s[rows] / max(time_s, 1e-9) for rows, time_s in reference.run_s.items()), default=1.0)


def choose(weights_bytes: int, mapped: Figures, unpacked: Figures, prepacked: Figures | None = None) -> tuple[str, str]:
    """
    The layout and why. In this order: MAPPED where packing takes next to no private memory; UNPACKED where runs are as
    fast; PREPACKED where it takes at most half of MAPPED's private memory and is as fast; else MAPPED, since speed comes
    first. "As fast" is within SLOWDOWN at every number of rows measured; for PREPACKED, where the same kernels run on the same
    bytes, within NOISE, so that two versions of a model get no forms that share nothing. Without ``prepacked`` figures it is
    no choice.
    """
    packed_bytes = mapped.private_bytes - unpacked.private_bytes
    if packed_bytes <= WORTH_SHARE * weights_bytes:
        return MAPPED, "packing takes next to no private memory"
    cost = slowdown(unpacked, mapped)
    if cost <= SLOWDOWN:
        return UNPACKED, f"runs as fast without packing ({cost:.2f} of the time)"
    if prepacked is None:
        return MAPPED, f"without packing, runs take {cost:.2f} times as long"
    again = slowdown(prepacked, mapped)
    if prepacked.private_bytes - unpacked.private_bytes <= packed_bytes / 2 and again <= NOISE:
        return PREPACKED, f"without packing, runs take {cost:.2f} times as long; what is packed can be mapped"
    return MAPPED, f"without packing, runs take {cost:.2f} times as long; mapping what is packed saves too little"
