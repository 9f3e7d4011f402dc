"""
The handshake of control and a worker. The worker sends `Hello`, control answers `Welcome` or `HelloRefused`. Pure values.

Both sides must speak the same protocol: the messages of this package. A worker and a control of different builds may meet
when the code on disk is replaced while a gateway runs.
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL = 3  # number of the messages' form; raised with every change of a message. 1 had no number in its `Hello`


@dataclass(frozen=True, slots=True)
class Hello:
    """
    First message on every connection. ``incarnation`` is unique to one life of a worker process; ``epoch`` is the
    number in bits 26 to 0 of the random part of every prediction id it issues (`gateway.quality.prediction_id`).
    ``restarts`` counts how often this worker died and was started again since the gateway was, ``replacements`` how often
    a rolling restart put another process in its place. ``started_at`` (Unix seconds) is when this life began.
    ``protocol`` is the `PROTOCOL` that the worker speaks.
    """

    worker: int
    pid: int
    incarnation: str
    epoch: int
    lane: str
    restarts: int = 0
    replacements: int = 0
    started_at: float = 0.0
    protocol: int = 1


@dataclass(frozen=True, slots=True)
class Welcome:
    """
    Control has attached the worker. ``protocol`` is control's. ``failed`` are the versions (model and number) that another
    process of the same worker has FAILED: the one that this process is to replace.
    """

    protocol: int
    failed: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class HelloRefused:
    """Control does not attach the worker, as it speaks another protocol; then control closes the connection."""

    protocol: int
    reason: str


def mismatch(worker: int, control: int) -> str:
    """Returns what to tell people when the two speak different protocols."""
    return (
        f"control speaks protocol {control}, the worker {worker}: they are of different builds. "
        "Restart the whole gateway (stop it, then `interlock serve`), so that both run the same code"
    )
