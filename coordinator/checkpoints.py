"""Where the runs of cases are checkpointed: a SQLite file in HOME, or PostgreSQL by URL."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordinator.errors import DatabaseDown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECTIONS = 4
SECONDS = 10
SETUP = 7_021_977  # one process at a time makes the tables


@asynccontextmanager
async def open_saver(database: str, home: Path) -> AsyncIterator[Any]:
    """LangGraph's saver; with PostgreSQL every process of the same database sees the same runs."""
    if not database:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

        async with AsyncSqliteSaver.from_conn_string(str(home / "checkpoints.db")) as saver:
            yield saver
        return
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg_pool import AsyncConnectionPool, PoolTimeout
    except ImportError as error:
        raise DatabaseDown(
            f"PostgreSQL needs {error.name}: install it with `pip install 'pointsman[postgres]'`"
        ) from None
    from psycopg.rows import dict_row

    told = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: Any = AsyncConnectionPool(
        database, min_size=1, max_size=CONNECTIONS, open=False, kwargs=told, timeout=SECONDS
    )
    try:
        await pool.open(wait=True, timeout=SECONDS)
    except PoolTimeout as error:
        raise DatabaseDown(
            f"the database of the checkpoints does not answer: {error}; see that it runs and that "
            "[coordinator] database names it"
        ) from None
    async with pool:
        saver: Any = AsyncPostgresSaver(pool)
        saver.lock = asyncio.Semaphore(CONNECTIONS)  # not one at a time: each has a connection of its own
        async with _alone(pool):
            await saver.setup()
        yield saver


@asynccontextmanager
async def _alone(pool: Any) -> AsyncIterator[None]:
    """One process at a time; asked again and again, for a statement that waits would hold up an index."""
    async with pool.connection() as db:
        while not await _taken(db):  # noqa: ASYNC110 (another process gives it back)
            await asyncio.sleep(0.1)
        try:
            yield
        finally:
            await db.execute(f"SELECT pg_advisory_unlock({SETUP})")


async def _taken(db: Any) -> bool:
    row = await (await db.execute(f"SELECT pg_try_advisory_lock({SETUP}) AS taken")).fetchone()
    return bool(row["taken"])
