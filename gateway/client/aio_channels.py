"""The connections of an `AsyncClient`: as `gateway.client.channels`, on asyncio. For one event loop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from gateway.client.call_errors import CallError
from gateway.client.channels import AUTO_AFTER, DOUBT_S, LOOK_EVERY_S, PROBE_TIMEOUT_S
from gateway.client.grpc_channel import AsyncChannel
from gateway.client.spread import WorkerPosition, repeated, tries, wanted


class _Seat:
    """A connection with the number of its calls."""

    __slots__ = ("calls", "channel")

    def __init__(self, channel: AsyncChannel) -> None:
        self.channel = channel
        self.calls = 0


class AsyncChannels:
    """Keeps connections made by ``connect``. With a ``count`` so many take turns; with None there is one to every worker."""

    def __init__(self, connect: Callable[[], AsyncChannel], count: int | None) -> None:
        self._connect, self._count = connect, count
        self._seats: list[_Seat] = []  # opened in the event loop, which there may be none of yet
        self._turn = itertools.count()
        self._leaving: set[_Seat] = set()  # given up, with calls still on them
        self._doubted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._calls = self._looked_at = 0
        self._is_closed = False

    @asynccontextmanager
    async def next(self) -> AsyncIterator[AsyncChannel]:
        """Returns the next connection in turn, which stays open for the block."""
        if not self._seats:
            self._seats = [_Seat(self._connect()) for _ in range(self._count or 1)]
        seat = self._seats[next(self._turn) % len(self._seats)]
        seat.calls += 1
        self._calls += 1
        if self._count is None and self._task is None and self._calls >= AUTO_AFTER and not self._is_closed:
            self._task = asyncio.get_running_loop().create_task(self._look_on(), name="interlock-channels")
        try:
            yield seat.channel
        finally:
            seat.calls -= 1
            if seat in self._leaving and not seat.calls:
                self._leaving.discard(seat)
                await seat.channel.close()

    def doubt(self) -> None:
        """Asks for an early check of the connections, after a call found nobody."""
        self._doubted.set()

    async def close(self) -> None:
        """Closes all connections and cancels their calls."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for seat in (*self._seats, *self._leaving):
            await seat.channel.close()

    # ---- finding every worker ---------------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while (pause_s := await self.look()) is not None:
            await asyncio.sleep(DOUBT_S)
            while not await self._is_doubted(pause_s) and self._calls == self._looked_at:
                pass  # no calls: nothing to check
            self._doubted.clear()

    async def _is_doubted(self, within_s: float) -> bool:
        try:
            await asyncio.wait_for(self._doubted.wait(), within_s)
        except TimeoutError:
            return False
        return True

    async def look(self) -> float | None:
        """
        Closes connections to the same worker and opens missing ones. Returns the seconds until the next check; None: never.
        """
        seats, self._looked_at = self._seats, self._calls
        places: list[WorkerPosition | None] = []
        for seat in seats:
            try:
                places.append(WorkerPosition.parse(await seat.channel.worker(PROBE_TIMEOUT_S)))
            except CallError:
                return DOUBT_S  # nobody answers, or the worker is stopping: unknown now
        if not any(places):
            return None  # no gateway of ours
        spare = repeated(places)
        await self._keep([seat for at, seat in enumerate(seats) if at not in spare])
        await self._search([place for at, place in enumerate(places) if place is not None and at not in spare])
        return LOOK_EVERY_S

    async def _search(self, reached: list[WorkerPosition]) -> None:
        for _ in range(tries(wanted(reached))):
            if len(reached) >= wanted(reached):
                return
            channel = self._connect()
            is_kept = False
            try:
                place = WorkerPosition.parse(await channel.worker(PROBE_TIMEOUT_S))
                is_kept = place is not None and not repeated([*reached, place])
            except CallError:
                place = None
            finally:
                if not is_kept:  # also when cancelled
                    await channel.close()
            if is_kept and place is not None:
                reached.append(place)
                await self._keep([*self._seats, _Seat(channel)])

    async def _keep(self, seats: list[_Seat]) -> None:
        """Replaces the connections; the others end with their calls."""
        left = [seat for seat in self._seats if seat not in seats]
        self._seats = seats
        self._leaving.update(seat for seat in left if seat.calls)
        for seat in left:
            if not seat.calls:
                await seat.channel.close()
