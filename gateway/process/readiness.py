"""Checks when a gateway serves: every process has said so and its health page agrees. Reports what is missing."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping

from gateway.settings.address import Address

ASK_EVERY_S = 0.1
FIRST_REPORT_S = 3.0
REPORT_EVERY_S = 10.0
TIMEOUT_S = 1.0


class Readiness:
    """The state of the check. Call `tick` until `is_ready`. One thread."""

    def __init__(self, address: Address, *, on_ready: Callable[[], None], report: Callable[[str], None]) -> None:
        self._address = address.reachable
        self._on_ready, self._report = on_ready, report
        self._began_s = time.monotonic()
        self._ask_at_s = 0.0
        self._report_at_s = self._began_s + FIRST_REPORT_S
        self.is_ready = False
        self.is_up = False  # every process has served at some time, whatever the health page says

    def tick(self, serving: Mapping[str, bool]) -> None:
        """Checks once, at most ten times a second. ``serving`` tells of each process whether it has said that it serves."""
        now_s = time.monotonic()
        if now_s < self._ask_at_s:
            return
        missing = [f"{name} starts" for name, is_serving in serving.items() if not is_serving]
        self.is_up = self.is_up or not missing
        missing = missing or problems(self._address)
        self._ask_at_s = time.monotonic() + ASK_EVERY_S
        if not missing:
            self.is_ready = True
            self._on_ready()
        elif now_s >= self._report_at_s:
            self._report_at_s = now_s + REPORT_EVERY_S
            self._report(f"not ready after {now_s - self._began_s:.0f} s: {'; '.join(missing)}")


def problems(address: Address) -> list[str]:
    """What the health page says is missing; empty when the gateway is ready."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        return [f"the health page at {address} does not answer ({error})"]
    finally:
        connection.close()
    if answer.status == 200:
        return []
    try:
        return [str(text) for text in json.loads(body)["problems"]] or ["the gateway is not ready"]
    except (ValueError, KeyError, TypeError):
        return [f"the health page says {answer.status}"]
