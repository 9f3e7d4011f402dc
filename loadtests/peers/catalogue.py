"""The peers that are measured: their names, the settings that are tried, and how each counts what it answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.peers import counts
from loadtests.peers.counts import Ports


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a peer: what it is called in tables ("" for its only or plain one), and its serve.py's options."""

    name: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """
    ``key`` is its folder here and under build/peers, ``package`` what the index calls it; ``goal`` is how many times its
    rate Interlock is to reach at 32 and 128 streams.
    """

    key: str
    name: str
    package: str
    goal: float
    settings: tuple[Setting, ...]
    count: Callable[[Ports, str], int]


MLSERVER = Peer(
    "mlserver",
    "MLServer",
    "mlserver",
    13.0,
    (
        Setting("no batching"),
        Setting("adaptive batching, 32 in 1 ms", ("--max-batch-size", "32", "--max-batch-time-s", "0.001")),
    ),
    counts.of_mlserver,
)
KSERVE = Peer("kserve", "KServe", "kserve", 12.0, (Setting("one worker"),), counts.of_kserve)
PYTRITON = Peer(
    "pytriton",
    "PyTriton",
    "nvidia-pytriton",
    9.0,
    (
        Setting("batching, no delay"),
        Setting("batching, delay 500 µs", ("--queue-delay-us", "500")),
    ),
    counts.of_triton,
)
PEERS = {peer.key: peer for peer in (MLSERVER, KSERVE, PYTRITON)}
