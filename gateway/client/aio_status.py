"""
The status with which a grpc.aio call ended, as the server sent it.

If a write fails because the call has just ended, grpc.aio takes "Internal error from Core" for the call's status, before or
after it takes the server's (``_StreamRequestMixin._write``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio

FAILED_WRITE = "Internal error from Core"
LATE_S = 5.0


class ServerStatus:
    """Watches one call from its start, inside the running event loop."""

    def __init__(self, call: Any) -> None:
        self._told: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._note)  # called for each status that the call takes

    async def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """
        Returns ``error``, or the server's status (also OK) if the error only tells of a failed write. Waits LATE_S at most.
        """
        if not _is_failed_write(error):
            return error
        try:
            return await asyncio.wait_for(asyncio.shield(self._told), LATE_S)
        except TimeoutError:
            return error

    def _note(self, call: Any) -> None:
        status = grpc.aio.AioRpcError(
            _at_once(call.code()), grpc.aio.Metadata(), _at_once(call.trailing_metadata()), _at_once(call.details())
        )
        if not self._told.done() and not _is_failed_write(status):
            self._told.set_result(status)


def _is_failed_write(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == FAILED_WRITE


def _at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Returns the result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("the call has not ended")
