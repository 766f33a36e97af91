"""The database: a small pool, counted queries, spans."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from kit.telemetry import Telemetry

POOL_SIZE = 5
POOL_TIMEOUT = 1.5


class PoolExhausted(Exception):
    """No database connection became free in time."""


class Session:
    """One borrowed connection, inside one transaction."""

    def __init__(self, telemetry: Telemetry, connection: AsyncConnection) -> None:
        self._telemetry = telemetry
        self._connection = connection

    async def query(self, sql: str, *arguments: object) -> list[dict]:
        """Run one statement and return its rows."""
        begin = time.perf_counter()
        with self._telemetry.span(" ".join(sql.split()[:4]), kind="db", statement=" ".join(sql.split())):
            cursor = await self._connection.execute(sql, arguments)
            rows = await cursor.fetchall() if cursor.description else []
        self._telemetry.counters["db_queries_total"] += 1
        self._telemetry.observe("db_query_duration_ms", (time.perf_counter() - begin) * 1000)
        return rows


class Database:
    """The pool of one service."""

    def __init__(self, telemetry: Telemetry, url: str) -> None:
        self._telemetry = telemetry
        self.schema: list[str] = []
        self._pool = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=POOL_TIMEOUT,
            open=False,
            kwargs={"row_factory": dict_row},
        )

    async def open(self) -> None:
        """Fill the pool and lay the tables."""
        await self._pool.open(wait=True, timeout=20)
        async with self._pool.connection() as connection:
            for statement in self.schema:
                await connection.execute(statement)

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Borrow a connection for one transaction."""
        begin = time.perf_counter()
        try:
            with self._telemetry.span("acquire connection", kind="pool"):
                connection = await self._pool.getconn()
        except PoolTimeout:
            self._telemetry.counters["db_pool_timeouts_total"] += 1
            raise PoolExhausted(f"no connection within {POOL_TIMEOUT:g} s") from None
        finally:
            self._telemetry.observe("db_pool_wait_ms", (time.perf_counter() - begin) * 1000)
        try:
            async with connection:
                yield Session(self._telemetry, connection)
        finally:
            await self._pool.putconn(connection)

    def measure(self) -> None:
        """Take the state of the pool into the metrics."""
        stats = self._pool.get_stats()
        self._telemetry.gauges["db_pool_size"] = POOL_SIZE
        self._telemetry.gauges["db_pool_in_use"] = stats["pool_size"] - stats["pool_available"]
        self._telemetry.gauges["db_pool_waiting"] = stats["requests_waiting"]
        self._telemetry.counters["db_pool_timeouts_total"] += 0
        self._telemetry.counters["db_queries_total"] += 0
