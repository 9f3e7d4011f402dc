"""
Prediction ids: version-7 UUIDs (RFC 9562, section 5.7) whose random part identifies the worker that issued them. Pure.

    tttttttt-tttt-7eee-veee-cccccccccccc
    48 bits Unix milliseconds, 26 bits epoch (12 in rand_a, 14 after the variant), 48 bits counter

A worker draws its epoch when it starts and tells it to control in `contract.handshake.Hello`; the counter makes ids unique
within an epoch. So ids sort by time, need no randomness per request, and an id that was not issued here is recognised.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

EPOCHS = 1 << 26  # number of epochs: 26 bits
_PATTERN = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7([0-9a-f]{3})-([89ab])([0-9a-f]{3})-([0-9a-f]{12})")
_SPREAD = 2654435761  # Knuth's multiplicative hash: spreads consecutive counters over 32 bits


@dataclass(frozen=True, slots=True)
class PredictionId:
    """The parts of an id."""

    time_ms: int
    epoch: int
    counter: int


def prefix(time_ms: int, epoch: int) -> str:
    """Returns the first 24 characters of an id. The counter follows as 12 hexadecimal digits."""
    stamp = f"{time_ms:012x}"
    return f"{stamp[:8]}-{stamp[8:]}{_epoch_part(epoch)}"


@functools.lru_cache(16)  # a process issues ids of one epoch only
def _epoch_part(epoch: int) -> str:
    low = epoch & 0x3FFF
    return f"-7{epoch >> 14:03x}-{8 | low >> 12:x}{low & 0xFFF:03x}-"


def parse(text: str) -> PredictionId | None:
    """Returns the parts of an id; None if the text is not an id."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    high, low, epoch_high, variant, epoch_low, counter = match.groups()
    epoch = int(epoch_high, 16) << 14 | (int(variant, 16) & 3) << 12 | int(epoch_low, 16)
    return PredictionId(int(high + low, 16), epoch, int(counter, 16))


def is_sampled(counter: int, rate: float) -> bool:
    """
    Returns whether a prediction with this counter is recorded at the sampling ``rate`` (0 to 1). The answer is the same in
    every process.
    """
    return (counter * _SPREAD & 0xFFFFFFFF) < rate * 4294967296.0
