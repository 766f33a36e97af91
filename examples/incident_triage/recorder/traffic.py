"""Customers: open-loop traffic on the storefront, mixed as in a small shop."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable

import aiohttp

AREAS = ("north", "south", "isles")
MIX = {"home": 1.4, "product": 2.8, "account": 0.9, "checkout": 3.0}


class Customers:
    """Visitors that arrive at random, look around and buy."""

    def __init__(self, port: Callable[[], int], seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)
        self._began = time.monotonic()
        self._tasks: set[asyncio.Task] = set()
        self.answers: Counter[str] = Counter()

    async def run(self) -> None:
        """Arrive until cancelled."""
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=8)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            try:
                while True:
                    await asyncio.sleep(self._random.expovariate(self._rate()))
                    self._spawn(self._visit(session))
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _rate(self) -> float:
        minutes = (time.monotonic() - self._began) / 60
        return sum(MIX.values()) * (1 + 0.12 * math.sin(minutes / 3.1) + 0.05 * math.sin(minutes * 1.7))

    def _spawn(self, visit) -> None:
        task = asyncio.create_task(visit)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        page = self._random.choices(list(MIX), list(MIX.values()))[0]
        customer = min(400, int(self._random.paretovariate(0.7)))
        if page == "checkout":
            await self._buy(session, customer)
        elif page == "product":
            await self._ask(session, "GET", f"/product/{self._random.choice([*range(1, 61), 999])}")
        elif page == "account":
            await self._ask(session, "GET", f"/account/{customer}")
        else:
            await self._ask(session, "GET", "/")

    async def _buy(self, session: aiohttp.ClientSession, customer: int) -> None:
        products = self._random.sample(range(1, 61), self._random.choice([1, 1, 2, 3, 4]))
        basket = {
            "customer": customer,
            "area": AREAS[customer % len(AREAS)],
            "card": f"{self._random.randrange(10**15, 10**16)}",
            "lines": [
                {"product": product, "quantity": self._random.choice([1, 1, 2])} for product in products
            ],
        }
        status = await self._ask(session, "POST", "/checkout", basket)
        if status >= 500 and self._random.random() < 0.3:
            await asyncio.sleep(self._random.uniform(2, 6))
            await self._ask(session, "POST", "/checkout", basket)

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, body: dict | None = None
    ) -> int:
        url = f"http://127.0.0.1:{self._port()}{path}"
        try:
            async with session.request(method, url, json=body) as response:
                await response.read()
                status = response.status
        except (TimeoutError, aiohttp.ClientError):
            status = 599
        self.answers[f"{method} {status}"] += 1
        return status
