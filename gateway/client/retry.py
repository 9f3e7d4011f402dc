"""
When a failed call is worth another try.

Only `Unavailable` and `Overloaded` are tried again; a call under which the connection broke, at most once: it may be the one
that ends the server's process, and would end the next. The wait that the gateway asked for (pushback, RetryInfo) wins over
the client's own back-off; a negative pushback means no. A budget shared by all calls of a client keeps retries from
multiplying an overload: a token bucket as in gRFC A6 (a failure takes a token, a success gives a part of one back,
retries stop while the bucket is half empty). Nothing is tried that could not be answered before the deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.client.call_errors import CallError, ConnectionBroke, Overloaded, Unavailable

MAX_BROKEN = 1  # connections that may break under one call before it is given up


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    ``max_attempts`` counts the first one (1 = never retry). Without pushback the waits are ``first_backoff_s`` × 2ⁿ up to
    ``max_backoff_s``, each multiplied by a random factor of 0.8 to 1.2. ``budget_tokens`` (0 = no budget, always allowed) and
    ``tokens_per_success`` size the bucket.
    """

    max_attempts: int = 5
    first_backoff_s: float = 0.05
    max_backoff_s: float = 1.0
    budget_tokens: float = 20.0
    tokens_per_success: float = 0.1

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts: expected 1 or more, got {self.max_attempts}")
        if not 0 <= self.first_backoff_s <= self.max_backoff_s:
            raise ValueError(f"first_backoff_s: expected 0 to max_backoff_s, got {self.first_backoff_s:g}")
        if self.budget_tokens < 0 or self.tokens_per_success < 0:
            raise ValueError("budget_tokens and tokens_per_success: expected 0 or more")


class RetryBudget:
    """The bucket, shared by the threads of one client."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._capacity = self._tokens = policy.budget_tokens
        self._per_success = policy.tokens_per_success
        self._lock = threading.Lock()

    def succeeded(self) -> None:
        """Counts a call that was answered."""
        if self._tokens < self._capacity:
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + self._per_success)

    def failed(self) -> bool:
        """Counts a call that failed in a way worth a retry. Returns whether the budget still allows one."""
        if self._capacity == 0:
            return True
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens > self._capacity / 2


def is_retryable(error: CallError, earlier: Sequence[CallError] = ()) -> bool:
    """Returns whether another attempt may help. ``earlier`` are the errors of this call's earlier attempts."""
    broken = sum(isinstance(one, ConnectionBroke) for one in (*earlier, error))
    return isinstance(error, Unavailable | Overloaded) and not error.is_retry_refused and broken <= MAX_BROKEN


def delay_s(policy: RetryPolicy, error: CallError, attempt: int, remaining_s: float | None, jitter: float) -> float | None:
    """
    Returns the seconds to wait before the next attempt, None for no further one. ``attempt`` counts from 1; ``remaining_s``
    is the time until the deadline (None: there is none); ``jitter`` is 0 to 1.
    """
    if attempt >= policy.max_attempts or not is_retryable(error):
        return None
    wait_s = error.retry_after_s
    if wait_s is None:
        wait_s = min(policy.first_backoff_s * 2 ** (attempt - 1), policy.max_backoff_s) * (0.8 + 0.4 * jitter)
    return wait_s if remaining_s is None or wait_s < remaining_s else None
