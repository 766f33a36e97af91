"""Where the coordinator keeps its tables: a SQLite file in HOME, or PostgreSQL by URL."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from coordinator.errors import DatabaseDown
from specialists.errors import SettingsError

SECONDS = 10


class Database(Protocol):
    """Statements with `?` for values; rows are read by column name."""

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """What a statement answers."""
        ...

    def write(self, sql: str, *values: Any) -> int:
        """How many rows a statement changed."""
        ...

    def script(self, sql: str) -> None:
        """Several statements without values, such as a schema."""
        ...

    def alone(self, key: str) -> Any:
        """A block of statements that happen together or not at all, one block of this key at a time."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


def open_database(url: str, file: Path) -> Database:
    """The database of this URL; the SQLite file when there is none."""
    return Postgres(url) if url else Sqlite(file)


def is_postgres(url: str) -> bool:
    """Whether a setting names a PostgreSQL database."""
    return bool(re.match(r"^postgres(ql)?://", url))


class Sqlite:
    """A file that several processes may write; a connection lives as long as a block."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._block = threading.local()

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """What a statement answers."""
        with self._connection() as db:
            return db.execute(sql, values).fetchall()

    def write(self, sql: str, *values: Any) -> int:
        """How many rows a statement changed."""
        with self._connection() as db:
            return db.execute(sql, values).rowcount

    def script(self, sql: str) -> None:
        """Several statements without values."""
        with self._connection() as db:
            db.executescript(sql)

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """A block that happens alone; a file has one writer, whatever the key."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            self._block.db = db
            try:
                yield
            except BaseException:
                db.execute("ROLLBACK")
                raise
            finally:
                self._block.db = None
            db.execute("COMMIT")

    def close(self) -> None:
        """Nothing is held open."""

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if (held := getattr(self._block, "db", None)) is not None:
            yield held
            return
        db = sqlite3.connect(self.file, timeout=SECONDS, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode=WAL")
            yield db
        finally:
            db.close()


class Postgres:
    """One connection, made when it is first needed and again when it was lost."""

    def __init__(self, url: str) -> None:
        if not is_postgres(url):
            raise SettingsError(
                f"[coordinator] database is {masked(url)!r}: write postgres://USER@HOST/NAME, or leave it out"
            )
        self.url = url
        self._lock = threading.RLock()
        self._db: Any = None
        self._within = False

    def rows(self, sql: str, *values: Any) -> list[Any]:
        """What a statement answers."""
        return self._run(sql, values).fetchall()

    def write(self, sql: str, *values: Any) -> int:
        """How many rows a statement changed."""
        return self._run(sql, values).rowcount

    def script(self, sql: str) -> None:
        """Several statements without values."""
        self._run(sql, ())

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """A transaction; no other of the same key runs meanwhile, in any process."""
        with self._lock, self._told():
            db = self._connected()
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (key,))
                self._within = True
                try:
                    yield
                finally:
                    self._within = False

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _run(self, sql: str, values: Sequence[Any]) -> Any:
        text = sql.replace("%", "%%").replace("?", "%s") if values else sql
        with self._lock, self._told():
            try:
                return self._connected().execute(text, values or None)
            except self._lost:
                if self._within:
                    raise
                self.close()
                return self._connected().execute(text, values or None)

    def _connected(self) -> Any:
        import psycopg
        from psycopg.rows import dict_row

        if self._db is None or self._db.closed:
            self._db = psycopg.connect(self.url, autocommit=True, connect_timeout=SECONDS)
            self._db.row_factory = dict_row
        return self._db

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        import psycopg

        return psycopg.OperationalError, psycopg.InterfaceError

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._lost as error:
            with suppress(Exception):
                self.close()
            raise DatabaseDown(
                f"the database {masked(self.url)} does not answer: {' '.join(str(error).split())[:200]}; "
                "see that it runs and that [coordinator] database names it"
            ) from None


def masked(url: str) -> str:
    """A database URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:…@", url)


def marks(values: Iterable[Any]) -> str:
    """As many `?` as there are values."""
    return ", ".join("?" for _ in values)
