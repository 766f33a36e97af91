"""A connection to a tool server, with the calls that run on it: it is closed when they have ended."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from gateway.upstream import Upstream

log = logging.getLogger("gateway.catalogue")


class Connection:
    """Enter it for every call, so that leaving the server can wait for those under way."""

    __slots__ = ("_ended", "made_of", "running", "upstream")

    def __init__(self, upstream: Upstream, made_of: Any) -> None:
        self.upstream = upstream
        self.made_of = made_of  # what it was built from: another is built when that changes
        self.running = 0
        self._ended: asyncio.Event | None = None

    def __enter__(self) -> Upstream:
        self.running += 1
        return self.upstream

    def __exit__(self, *failure: object) -> None:
        self.running -= 1
        if self._ended is not None and not self.running:
            self._ended.set()

    async def leave(self, seconds: float) -> None:
        """Close it as soon as nothing runs on it, at the latest after this time."""
        try:
            if self.running:
                self._ended = asyncio.Event()
                async with asyncio.timeout(seconds):
                    await self._ended.wait()
        except TimeoutError:
            log.warning("server %s: left with %d calls under way", self.upstream.entry.name, self.running)
        finally:
            closing = asyncio.ensure_future(self.upstream.close())
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:  # what is being ended is waited for all the same
                await closing
                raise
