"""What is counted in memory and can be read from the ledger again: after a restart, or once forgotten."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
REMEMBERED = 10_000


class Remembered(Generic[T]):
    """Values by name: the latest used are kept, and so is every one that somebody still holds."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._recent: OrderedDict[str, T] = OrderedDict()
        self._held: WeakValueDictionary[str, T] = WeakValueDictionary()
        self._reading: dict[str, asyncio.Future[T]] = {}

    async def get(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        """The value of this name; `read` is asked for it where it is not known, once for all who wait."""
        value = self._recent.get(name)
        if value is not None:
            self._recent.move_to_end(name)
            return value
        value = self._held.get(name)
        if value is None:
            value = await self._read(name, read)
        self._recent[name] = self._held[name] = value
        if len(self._recent) > self._most:
            self._recent.popitem(last=False)
        return value

    def forget(self) -> None:
        """Read every value again when it is next asked for, but for those that somebody holds."""
        self._recent.clear()

    async def _read(self, name: str, read: Callable[[], Awaitable[T]]) -> T:
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = asyncio.ensure_future(read())
            reading.add_done_callback(lambda _: self._reading.pop(name, None))
        return await asyncio.shield(reading)
