"""The store in one SQLite file: one writer, a write-ahead log, readers beside it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gateway.writing import Writing

BUSY_MS = 5_000


class SqliteConnection(sqlite3.Connection, Writing):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A connection to the file."""

    def __init__(self, *args: Any, **options: Any) -> None:
        sqlite3.Connection.__init__(self, *args, **options)
        Writing.__init__(self)
        self.wal: Path | None = None

    def begin(self) -> None:
        """Start a transaction as the only writer."""
        self.execute("BEGIN IMMEDIATE")

    def snapshot(self) -> None:
        """Begin a transaction that sees one moment of the file."""
        self.execute("BEGIN")

    def create(self, statements: str) -> None:
        """Create tables that are not there yet."""
        for statement in statements.split(";\n"):
            if statement.strip():
                self.execute(statement)

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        return [row[1] for row in self.execute(f"PRAGMA table_info({table})")]

    def stream(self, sql: str) -> Iterable[Any]:
        """The rows of a query, one after the other."""
        return self.execute(sql)

    def settle(self) -> None:
        """Have the write-ahead log reach the disk."""
        if self.wal is not None and self.wal.exists():
            descriptor = os.open(self.wal, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


class Sqlite:
    """One SQLite file."""

    shared = False

    def __init__(self, path: str | Path, durability: str = "full", busy_ms: int = BUSY_MS) -> None:
        self.path = Path(path)
        self.name = str(self.path)
        self.advice = "check that the disk has room and the file may be written"
        self.errors = (sqlite3.Error,)
        self.owner = secrets.randbits(62)
        self._durability = durability
        self._busy_ms = busy_ms

    def prepare(self) -> None:
        """Make the directory the file lies in."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def connect(self, *, readonly: bool = False) -> SqliteConnection:
        """A connection of its own to the file."""
        mode = "ro" if readonly else "rwc"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=self._busy_ms / 1000,
            cached_statements=512,
            factory=SqliteConnection,
        )
        connection.owner = self.owner
        if not readonly:
            self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={'FULL' if self._durability == 'full' else 'NORMAL'}")
            connection.execute("PRAGMA journal_size_limit=67108864")
            connection.execute("PRAGMA secure_delete=ON")  # bodies that are pruned leave the file
            if self._durability != "full":
                connection.wal = self.path.with_name(self.path.name + "-wal")
        return connection

    def member(self, column: str, name: str) -> str:
        """How a member of a column's JSON object is written in a query."""
        return f"json_extract({column}, '$.{name}')"

    def failed(self, error: Exception) -> bool:
        """Whether it is the file that fails (full, locked, gone) and not the job's own SQL."""
        return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR

    def listen(self, heard: Callable[[str], object]) -> Callable[[], None]:
        """Nobody else changes what is in the file while a gateway holds the home."""
        return lambda: None
