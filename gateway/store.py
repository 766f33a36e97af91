"""One SQLite file with one writer: what is asked for together is written together, by one fsync."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from gateway.errors import LedgerError, LedgerUnavailable
from gateway.writing import Writing

T = TypeVar("T")
Durability = Literal["full", "async"]
Job = tuple[Callable[[Writing], Any], "asyncio.Future[Any]"]
Settled = tuple["asyncio.Future[Any]", Any, BaseException | None]

BUSY_MS = 5_000
BATCH = 500
NOTE_EVERY = 1.0


class Store:
    """The gateway's state: writes go through a single thread and are durable when `write` returns."""

    def __init__(
        self,
        path: str | Path,
        *,
        durability: Durability = "full",
        busy_ms: int = BUSY_MS,
        readonly: bool = False,
    ) -> None:
        self.path = Path(path)
        self.readonly = readonly
        self.durability = durability
        self._busy_ms = busy_ms
        self._asked: list[Job] = []  # in this turn of the loop
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self.after_writing: list[Callable[[sqlite3.Connection], None]] = []  # at most once a second
        self._noted = 0.0
        self._dirty = False

    async def __aenter__(self) -> Store:
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-read")
        if self.readonly:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._writer = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._writer.start()
        try:
            await self.write(lambda connection: None)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        writer, readers, self._writer, self._readers = self._writer, self._readers, None, None
        if readers is not None:
            await asyncio.to_thread(readers.shutdown)
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        if writer is not None:  # last, since only a writer can fold the write-ahead log into the file
            self._hand_over()
            self._jobs.put(None)  # what was asked for before is still written
            await asyncio.to_thread(writer.join)

    async def prepare(self, statements: str) -> None:
        """Create tables that are not there yet."""

        def create(connection: Writing) -> None:
            for statement in statements.split(";\n"):
                if statement.strip():
                    connection.execute(statement)

        await self.write(create)

    async def write(self, fn: Callable[[Writing], T]) -> T:
        """Run `fn` in the writer thread; durable when this returns, undone when it raises."""
        if self._writer is None:
            raise LedgerUnavailable("the store is closed: open it before writing to it")
        return await self.write_soon(fn)

    def write_soon(self, fn: Callable[[Writing], T]) -> asyncio.Future[T]:
        """Have `fn` run after everything asked for so far; nobody has to wait for what is returned."""
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._asked:  # one hand-over for everything that is asked in this turn of the loop
            self._loop.call_soon(self._hand_over)
        self._asked.append((fn, future))
        return future

    def _hand_over(self) -> None:
        if self._asked:
            self._jobs.put(self._asked)
            self._asked = []

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` on a read-only connection beside the writer."""
        if self._readers is None:
            raise LedgerUnavailable("the store is closed: open it before reading from it")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, fn)

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self.connect(readonly=True)
                self._opened.append(connection)
            return fn(connection)
        except sqlite3.Error as error:
            raise self._unavailable("read", error) from error

    def connect(self, *, readonly: bool = False) -> Writing:
        """A connection of its own to the same file, with the store's settings."""
        mode = "ro" if readonly else "rwc"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self._busy_ms / 1000,
            cached_statements=512,
            factory=Writing,
        )
        if not readonly:
            self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if self.durability == 'full' else 'NORMAL'}")
            connection.execute("PRAGMA journal_size_limit=67108864")
        return connection

    # -- the writer thread -------------------------------------------------------------------------

    def _run(self) -> None:
        connection: Writing | None = None
        running = True
        while running:
            batch, running = self._drain()
            outcomes: list[Settled] = []
            try:
                connection = connection or self.connect()
                if batch:
                    outcomes = self._commit(connection, batch)
                self._note(connection, closing=not running)
            except Exception as error:
                # Nothing of this batch was kept. The next one tries again on a fresh connection.
                refusal = self._unavailable("write", error)
                outcomes = outcomes or [(future, None, refusal) for _, future in batch]
                if connection is not None:
                    connection.close()
                connection = None
            self._resolve(outcomes)
        if connection is not None:
            connection.close()

    def _drain(self) -> tuple[list[Job], bool]:
        """Everything that waits, and whether to go on; an empty batch when it is time to note the head."""
        batch: list[Job] = []
        try:
            jobs = self._jobs.get(timeout=NOTE_EVERY if self._dirty else None)
            while jobs is not None:
                batch += jobs
                if len(batch) >= BATCH:
                    return batch, True
                jobs = self._jobs.get_nowait()
        except queue.Empty:
            return batch, True
        return batch, False

    def _note(self, connection: Writing, *, closing: bool) -> None:
        now = time.monotonic()
        if self._dirty and (closing or now - self._noted >= NOTE_EVERY):
            self._noted, self._dirty = now, False
            for hook in self.after_writing:
                hook(connection)

    def _commit(self, connection: Writing, batch: list[Job]) -> list[Settled]:
        """All of the batch in one transaction; if one job fails, all again with a savepoint for each."""
        connection.forget()
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes: list[Settled] = [(future, fn(connection), None) for fn, future in batch]
            connection.flush()
        except Exception as error:
            if _disk(error):
                raise
            connection.forget()
            connection.execute("ROLLBACK")
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._guarded(connection, fn, future) for fn, future in batch]
        connection.execute("COMMIT")
        self._dirty = True
        return outcomes

    def _guarded(
        self,
        connection: Writing,
        fn: Callable[[Writing], Any],
        future: asyncio.Future[Any],
    ) -> Settled:
        connection.execute("SAVEPOINT job")
        try:
            settled: Settled = (future, fn(connection), None)
            connection.flush()
        except Exception as error:
            if _disk(error):
                raise
            connection.forget()
            connection.execute("ROLLBACK TO job")
            settled = (future, None, error)
        connection.execute("RELEASE job")
        return settled

    def _resolve(self, outcomes: list[Settled]) -> None:
        def settle() -> None:
            for future, value, error in outcomes:
                if future.done():  # the caller has gone; what it asked for is written all the same
                    continue
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

        self._loop.call_soon_threadsafe(settle)

    def _unavailable(self, verb: str, error: Exception) -> LedgerError:
        return LedgerUnavailable(
            f"cannot {verb} {self.path}: {error}; check that the disk has room and the file may be written"
        )


def _disk(error: Exception) -> bool:
    """Whether it is the file that fails (full, locked, gone) and not the job's own SQL."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR
