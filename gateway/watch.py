"""Watches over a request that takes longer than a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.http_caller import HttpCaller
from gateway.timers import Timers

Receive = Callable[[], Awaitable[dict[str, Any]]]
PING_SECONDS = 15
MOMENT = 0.05  # seconds


class Watch:
    """Notices when the caller of a longer request has gone, and keeps its stream alive."""

    __slots__ = ("_caller", "_receive", "_task", "_timers", "_watching", "cancelled", "gone")

    def __init__(self, caller: HttpCaller, receive: Receive, task: asyncio.Task[Any], timers: Timers) -> None:
        self._caller = caller
        self._receive = receive
        self._task = task
        self.cancelled = self.gone = False
        self._watching: tuple[asyncio.Task[Any], ...] = ()
        self._timers = timers
        timers.add(self, MOMENT)

    def due(self) -> None:
        """It takes longer than a moment."""
        self._watching = (asyncio.ensure_future(self._until_gone()), asyncio.ensure_future(self._ping()))

    async def _until_gone(self) -> None:
        await disconnected(self._receive)
        self.gone = True
        self.cancel()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            await self._caller.ping()

    def cancel(self) -> None:
        """Stop the request."""
        self.cancelled = True
        self._task.cancel()

    def stop(self) -> None:
        """The request is done."""
        self._timers.drop(self)
        for task in self._watching:
            task.cancel()


async def disconnected(receive: Receive) -> None:
    """Return when the HTTP connection has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
