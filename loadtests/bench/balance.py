"""
`python -m loadtests.bench.balance`: how evenly one client process uses the workers of a gateway.

For 2 and 4 workers and several ways to connect, a number of fresh clients each send the same requests from a few threads;
the workers' own counters say who answered. Printed per way: the share of the busiest and of the idlest worker in a client's
requests, mean and worst over the clients (1/N is even; 1 and 0 are all on one). Ends with code 1 when `auto` is not even.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gateway.client import AdminClient, Client
from gateway.demo import models
from gateway.demo.process import GatewayProcess
from loadtests.bench.servers import MODEL

WAYS: tuple[int | Literal["auto"], ...] = (1, 4, 8, "auto")
THREADS = 4
MOST_OF_EVEN = 1.1  # what auto's busiest worker may have, times 1/N
SETTLE_CALLS, SETTLE_S = 20, 0.5  # from the first call until the connections of `auto` are found
ROW = np.zeros((1, 64), np.float32)


@dataclass(frozen=True, slots=True)
class Balance:
    """Shares (0 to 1) of a client's requests over all clients that connected this way."""

    workers: int
    channels: int | str
    clients: int
    busiest_mean: float
    busiest_worst: float
    idlest_mean: float
    idlest_worst: float

    @classmethod
    def of(cls, workers: int, channels: int | str, shares: Sequence[Sequence[float]]) -> Balance:
        """From each client's shares by worker."""
        busiest, idlest = [max(each) for each in shares], [min(each) for each in shares]
        return cls(workers, channels, len(shares), statistics.mean(busiest), max(busiest), statistics.mean(idlest), min(idlest))


def counted(admin: AdminClient) -> list[int]:
    """Returns the requests answered so far, by worker."""
    return [worker.requests for worker in sorted(admin.status().workers, key=lambda worker: worker.worker)]


def shares(address: str, admin: AdminClient, channels: int | Literal["auto"], requests: int) -> list[float]:
    """Returns the share of a fresh client's requests that each worker answered."""
    with Client(address, channels=channels) as client, ThreadPoolExecutor(THREADS) as pool:

        def send(count: int) -> None:
            list(pool.map(lambda _: client.infer(MODEL, {models.INPUT: ROW}), range(count)))

        send(SETTLE_CALLS)
        time.sleep(SETTLE_S if channels == "auto" else 0)
        before = counted(admin)
        send(requests)
        after = counted(admin)
    return [(b - a) / requests for a, b in zip(before, after, strict=True)]


def measured(workers: int, ways: Sequence[int | Literal["auto"]], clients: int, requests: int) -> list[Balance]:
    """Runs one gateway with so many workers and measures the ways to connect in turn."""
    with tempfile.TemporaryDirectory() as folder:
        gateway = GatewayProcess(Path(folder) / "home", workers=workers, options=("--log-level", "warning"))
        try:
            with AdminClient(gateway.addresses.admin) as admin:
                admin.register(MODEL, _model(Path(folder))).result()
                admin.deploy(MODEL, 1).result()
                found: dict[int | str, list[list[float]]] = {way: [] for way in ways}
                for _ in range(clients):
                    for way in ways:
                        found[way].append(shares(gateway.addresses.data, admin, way, requests))
        finally:
            gateway.stop()
    return [Balance.of(workers, way, each) for way, each in found.items()]


def _model(folder: Path) -> Path:
    return models.export(models.logistic_regression(models.scans()[0]), folder / "digits.onnx")


def is_even(balance: Balance) -> bool:
    """Whether the busiest worker of the average client had hardly more than its share."""
    return balance.busiest_mean <= MOST_OF_EVEN / balance.workers


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="loadtests.bench.balance", description="How evenly clients use the workers.")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--clients", type=int, default=10, help="fresh clients per way")
    parser.add_argument("--requests", type=int, default=400, help="per client")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = [each for n in options.workers for each in measured(n, WAYS, options.clients, options.requests)]
    if options.json:
        print(json.dumps([asdict(each) for each in found]))
    else:
        print("\n".join(lines(found)))
    return 0 if all(is_even(each) for each in found if each.channels == "auto") else 1


def lines(found: Sequence[Balance]) -> list[str]:
    """Returns the lines of the table."""
    rows: list[tuple[Any, ...]] = [("workers", "channels", "even", "busiest", "worst", "idlest", "worst")]
    for each in found:
        shares_of = (1 / each.workers, each.busiest_mean, each.busiest_worst, each.idlest_mean, each.idlest_worst)
        rows.append((each.workers, each.channels, *(f"{share:.2f}" for share in shares_of)))
    return ["".join(f"{cell!s:>10}" for cell in row) for row in rows]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
