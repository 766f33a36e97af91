"""The store: written together, durable when told, and back by itself after a failure."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import psycopg
import pytest

from gateway.errors import LedgerUnavailable
from gateway.store import Store
from gateway.writing import Writing

pytestmark = pytest.mark.anyio
NUMBERS = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY)"


def add(n: int):
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (n,)).rowcount


async def numbers(store: Store) -> list[int]:
    return [
        n for (n,) in await store.read(lambda c: c.execute("SELECT n FROM numbers ORDER BY n").fetchall())
    ]


async def test_what_is_asked_together_is_written_by_few_commits(place: str | Path) -> None:
    async with Store(place) as store:
        await store.prepare(NUMBERS)
        commits: list[int] = []

        def count(connection: Writing) -> None:
            commit = connection.commit_all
            connection.commit_all = lambda: commits.append(1) or commit()

        await store.write(count)
        await asyncio.gather(*(store.write(add(n)) for n in range(400)))
        assert await numbers(store) == list(range(400))
    assert 1 <= len(commits) <= 40


async def test_a_job_that_fails_undoes_only_itself(place: str | Path) -> None:
    async with Store(place) as store:
        await store.prepare(NUMBERS)

        def fails(connection: Writing) -> None:
            connection.execute("INSERT INTO numbers VALUES (100)")
            raise ValueError("changed my mind")

        jobs = [
            store.write(add(1)),
            store.write(fails),
            store.write(add(2)),
            store.write(add(1)),
            store.write(add(3)),
        ]
        done = await asyncio.gather(*jobs, return_exceptions=True)
        twice = (sqlite3.IntegrityError, psycopg.IntegrityError)
        assert [type(done[n]) for n in (0, 1, 2, 4)] == [int, ValueError, int, int]
        assert isinstance(done[3], twice)
        assert await numbers(store) == [1, 2, 3]


async def test_a_mistake_in_one_jobs_sql_is_that_jobs_alone(place: str | Path) -> None:
    async with Store(place) as store:
        await store.prepare(NUMBERS)
        wrong = store.write(lambda c: c.execute("INSERT INTO nowhere VALUES (1)"))
        done = await asyncio.gather(wrong, store.write(add(7)), return_exceptions=True)
        assert isinstance(done[0], sqlite3.OperationalError | psycopg.ProgrammingError)
        assert await numbers(store) == [7]


async def test_a_locked_database_refuses_and_then_serves_again(tmp_path: Path) -> None:
    async with Store(tmp_path / "s.db", busy_ms=50) as store:
        await store.prepare(NUMBERS)
        other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match=r"locked.*check that"):
            await store.write(add(1))
        assert await numbers(store) == []  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        await store.write(add(2))
        assert await numbers(store) == [2]


async def test_a_full_disk_refuses_and_then_serves_again(tmp_path: Path) -> None:
    async with Store(tmp_path / "s.db") as store:
        await store.prepare(NUMBERS)
        await store.prepare("CREATE TABLE IF NOT EXISTS big (body BLOB)")

        def fill(connection: sqlite3.Connection) -> None:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(
                f"PRAGMA max_page_count = {pages + 2}"
            )  # this connection's own disk is full now

        await store.write(fill)
        with pytest.raises(LedgerUnavailable, match="full"):
            await store.write(lambda c: c.execute("INSERT INTO big VALUES (zeroblob(1000000))"))
        await store.write(add(5))
        assert await numbers(store) == [5]


async def test_what_a_gone_caller_asked_for_is_written_all_the_same(place: str | Path) -> None:
    async with Store(place) as store:
        await store.prepare(NUMBERS)
        started, go_on = threading.Event(), threading.Event()

        def slow(connection: Writing) -> None:
            started.set()
            go_on.wait(10)

        first = asyncio.create_task(store.write(slow))
        await asyncio.to_thread(started.wait, 10)
        gone = asyncio.create_task(store.write(add(1)))
        await asyncio.sleep(0)  # it has asked now
        gone.cancel()
        go_on.set()
        await first
        await store.write(add(2))
        assert await numbers(store) == [1, 2]


async def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "home" / "s.db"
    async with Store(path) as store:
        await store.prepare(NUMBERS)
        assert [oct(p.stat().st_mode & 0o777) for p in (path.parent, path)] == ["0o700", "0o600"]


async def test_a_closed_store_says_so(place: str | Path) -> None:
    async with Store(place) as store:
        await store.prepare(NUMBERS)
    with pytest.raises(LedgerUnavailable, match="closed"):
        await store.write(add(1))
    with pytest.raises(LedgerUnavailable, match="closed"):
        await numbers(store)


async def test_a_place_that_cannot_hold_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.db").mkdir()
    with pytest.raises(LedgerUnavailable, match=r"s\.db"):
        async with Store(tmp_path / "s.db"):
            pass
