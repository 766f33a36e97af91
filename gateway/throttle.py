"""Counts bearer tokens that nobody has, by the address they come from: too many are told to wait."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

AT_ONCE = 20  # bad tokens an address may show before it is told to wait
REFILL_SECONDS = 3.0  # after which it may show another
REMEMBERED = 10_000  # addresses
NAMED = 20  # addresses in one record
REPORT_SECONDS = 60.0  # between two records, however many bad tokens there were
FIRST_SECONDS = 1.0  # from the first bad token to its record
Report = Callable[[dict[str, Any]], Awaitable[None]]


class Throttle:
    """A bucket for each address. Only bad tokens are counted: a good one is served whatever came before."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address → (left, when)
        self._seen: dict[str, int] = {}
        self._more = 0  # from addresses that are not named
        self._since = 0.0
        self._reported = float("-inf")
        self._reporting: asyncio.Task[None] | None = None

    def bad(self, address: str) -> float:
        """Note a bad token; the seconds its sender has to wait, 0 while it may go on."""
        place, moment = _place(address), time.monotonic()
        left, then = self._left.pop(place, (float(AT_ONCE), moment))
        left = min(float(AT_ONCE), left + (moment - then) / REFILL_SECONDS)
        self._left[place] = (left - 1 if left >= 1 else left, moment)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        self._note(place)
        return 0.0 if left >= 1 else (1 - left) * REFILL_SECONDS

    def _note(self, place: str) -> None:
        if place in self._seen or len(self._seen) < NAMED:
            self._seen[place] = self._seen.get(place, 0) + 1
        else:
            self._more += 1
        if self._reporting is None:
            self._since = time.time()
            self._reporting = asyncio.create_task(self._later(), name="bad-tokens")

    async def _later(self) -> None:
        await asyncio.sleep(max(FIRST_SECONDS, self._reported + REPORT_SECONDS - time.monotonic()))
        self._reporting = None
        await self._tell()

    async def _tell(self) -> None:
        self._reported = time.monotonic()
        seen, more, self._seen, self._more = self._seen, self._more, {}, 0
        told = {"tries": sum(seen.values()) + more, "from": seen, "seconds": round(time.time() - self._since)}
        await self._report({**told, "more": more} if more else told)

    async def close(self) -> None:
        """Report what has not been."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.wait((self._reporting,))
            self._reporting = None
        if self._seen:
            await self._tell()


def _place(address: str) -> str:
    """The address; of IPv6 the network, since whoever has one address there has all of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    mapped = getattr(found, "ipv4_mapped", None)
    if found.version == 4 or mapped:
        return str(mapped or found)
    return str(ipaddress.ip_network((found, 64), strict=False))
