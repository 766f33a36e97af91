"""One database with one writer a process: what is asked for together is written together, by one fsync."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gateway import postgres
from gateway.errors import LedgerError, LedgerUnavailable
from gateway.postgres import Postgres
from gateway.sqlite import BUSY_MS, Sqlite
from gateway.writing import PATIENCE, Connection, Writing

log = logging.getLogger("gateway.store")
T = TypeVar("T")
Job = tuple[Callable[[Writing], Any], "asyncio.Future[Any]"]
Settled = tuple["asyncio.Future[Any]", Any, BaseException | None]

BATCH = 500
NOTE_EVERY = 1.0


class Database(Protocol):
    """Where the store's tables lie; knows what is this database's own way and nothing of the tables."""

    shared: bool  # whether other processes write to it at the same time
    name: str  # as errors name it, without credentials
    advice: str  # what to look at when it fails

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...

    def prepare(self) -> None: ...
    def connect(self, *, readonly: bool = False) -> Writing: ...
    def member(self, column: str, name: str) -> str: ...
    def failed(self, error: Exception) -> bool: ...
    def listen(self, heard: Callable[[str], object]) -> Callable[[], None]: ...


class Store:
    """The gateway's state: writes go through a single thread and are durable when `write` returns."""

    def __init__(
        self,
        place: str | Path,
        *,
        durability: str = "full",
        busy_ms: int = BUSY_MS,
        readonly: bool = False,
    ) -> None:
        self.database: Database = (
            Postgres(str(place), durability) if postgres.is_url(place) else Sqlite(place, durability, busy_ms)
        )
        self.readonly = readonly
        self.durability = durability
        self._asked: list[Job] = []  # in this turn of the loop
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._opened: list[Writing] = []
        self._deaf: Callable[[], None] = lambda: None
        self._topics: dict[str, list[Callable[[], Awaitable[object]]]] = {}
        self._reloads: set[asyncio.Task[None]] = set()
        self.after_writing: list[Callable[[Writing], None]] = []  # at most once a second
        self.measure: Callable[[int, float], object] = _nothing  # writes of a transaction, seconds it took
        self._noted = 0.0
        self._dirty = False

    async def __aenter__(self) -> Store:
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-read")
        if self.readonly:
            return self
        self.database.prepare()
        self._writer = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._writer.start()
        try:
            await self.write(lambda connection: None)
        except BaseException:
            await self.__aexit__()
            raise
        self._deaf = self.database.listen(lambda topic: self._loop.call_soon_threadsafe(self._heard, topic))
        return self

    async def __aexit__(self, *exc: object) -> None:
        writer, readers, self._writer, self._readers = self._writer, self._readers, None, None
        deaf, self._deaf = self._deaf, lambda: None
        await asyncio.to_thread(deaf)
        for task in self._reloads:
            task.cancel()
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
        await self.write(lambda connection: connection.create(statements))

    def on(self, topic: str, reload: Callable[[], Awaitable[object]]) -> None:
        """Have `reload` run whenever another process has told of this topic (`Writing.tell`)."""
        self._topics.setdefault(topic, []).append(reload)

    def _heard(self, topic: str) -> None:
        for name, reloads in self._topics.items():
            for reload in reloads if topic in ("", name) else ():
                task = asyncio.create_task(self._reload(reload))
                self._reloads.add(task)
                task.add_done_callback(self._reloads.discard)

    async def _reload(self, reload: Callable[[], Awaitable[object]]) -> None:
        try:
            await reload()
        except LedgerError as error:
            if self._readers is not None:  # else we are closing, and nobody will ask any more
                log.warning("%s; what other processes have changed is read again once it answers", error)

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

    @property
    def waiting(self) -> int:
        """How many hand-overs of writes the writer has not begun."""
        return self._jobs.qsize()

    def _hand_over(self) -> None:
        if self._asked:
            self._jobs.put(self._asked)
            self._asked = []

    async def read(self, fn: Callable[[Connection], T], patience: float = PATIENCE) -> T:
        """Run `fn` on a read-only connection beside the writer; each statement within `patience` seconds."""
        if self._readers is None:
            raise LedgerUnavailable("the store is closed: open it before reading from it")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, fn, patience)

    def _read(self, fn: Callable[[Connection], T], patience: float) -> T:
        kept: Writing | None = getattr(self._local, "connection", None)
        if kept is not None:
            kept.patience = patience
            try:
                return fn(kept)
            except self.database.errors as error:
                if not kept.shared:
                    raise self._unavailable("read", error) from error
                self._opened.remove(kept)  # the server may have ended it: once more on a fresh one
                self._local.connection = None
                kept.close()
                if kept.hung:
                    raise self._unavailable("read", error) from error
        try:
            fresh = self._local.connection = self.connect(readonly=True)
            self._opened.append(fresh)
            fresh.patience = patience
            return fn(fresh)
        except self.database.errors as error:
            raise self._unavailable("read", error) from error

    def connect(self, *, readonly: bool = False) -> Writing:
        """A connection of its own to the same database, with the store's settings."""
        return self.database.connect(readonly=readonly)

    @contextmanager
    def reading(self) -> Iterator[Writing]:
        """A read-only connection of its own, for reading long; in any thread."""
        connection: Writing | None = None
        try:
            connection = self.connect(readonly=True)
            yield connection
        except self.database.errors as error:
            raise self._unavailable("read", error) from error
        finally:
            if connection is not None:
                connection.close()

    # -- the writer thread -------------------------------------------------------------------------

    def _run(self) -> None:
        connection: Writing | None = None
        running = True
        while running:
            batch, running = self._drain()
            outcomes: list[Settled] = []
            try:
                began = time.perf_counter()
                connection = self._begun(connection) if batch else connection or self.connect()
                if batch:
                    outcomes = self._commit(connection, batch)
                    self.measure(len(batch), time.perf_counter() - began)
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
            if self.durability == "async" and self.after_writing:
                connection.settle()  # what is noted elsewhere must not be lost here
            for hook in self.after_writing:
                hook(connection)
            self._noted, self._dirty = now, False

    def _begun(self, connection: Writing | None) -> Writing:
        """A connection in a transaction; a fresh one when the server has ended ours since the last."""
        if connection is not None:
            connection.forget()
            try:
                connection.begin()
                return connection
            except self.database.errors:
                if not connection.shared or connection.hung:
                    raise
                connection.close()
        connection = self.connect()
        connection.begin()
        return connection

    def _commit(self, connection: Writing, batch: list[Job]) -> list[Settled]:
        """All of the batch in one transaction; if one job fails, all again with a savepoint for each."""
        try:
            outcomes: list[Settled] = [(future, fn(connection), None) for fn, future in batch]
            connection.flush()
        except Exception as error:
            if self.database.failed(error):
                raise
            connection.undo()
            connection.begin()
            outcomes = [self._guarded(connection, fn, future) for fn, future in batch]
        connection.commit_all()
        self._dirty = True
        return outcomes

    def _guarded(
        self,
        connection: Writing,
        fn: Callable[[Writing], Any],
        future: asyncio.Future[Any],
    ) -> Settled:
        head = connection.head
        connection.execute("SAVEPOINT job")
        try:
            settled: Settled = (future, fn(connection), None)
            connection.flush()
        except Exception as error:
            if self.database.failed(error):
                raise
            connection.forget()
            connection.head = head
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
        what = str(error).strip() or type(error).__name__
        return LedgerUnavailable(f"cannot {verb} {self.database.name}: {what}; {self.database.advice}")


def _nothing(writes: int, seconds: float) -> None:
    """Nobody measures."""
