"""What jobs of the store work with: a connection that puts off rows that are only added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol

from gateway.errors import LedgerError

PATIENCE = 8.0  # seconds for a statement; a server that is stopped keeps its sockets open and says nothing
MOST = 32  # rows of one statement; each number of rows is a statement of its own, prepared once


class Rows(Protocol):
    """What a statement answers."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection to read by: SQL that both SQLite and PostgreSQL take, with `?` for parameters."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows: ...
    def told(self) -> int: ...


class Writing:
    """A connection to write by, which can put off additions until the end of the transaction."""

    shared = False  # whether other processes write to the same database
    patience = PATIENCE
    hung = False  # whether the server did not answer in time
    owner = 0  # of the intents that are open through this store
    version = 0  # of what gateways on one database tell each other, when this transaction began
    news = False  # whether this transaction tells something

    def __init__(self) -> None:
        self.head: tuple[int, str] | None = None  # the last record's number and hash, once it is known
        self._added: dict[str, list[tuple[Any, ...]]] = {}
        self._removed: dict[str, list[str]] = {}

    # -- what each database does in its own way ----------------------------------------------------

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run one statement."""
        raise NotImplementedError

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each row of parameters."""
        raise NotImplementedError

    def begin(self) -> None:
        """Start a transaction that nobody else writes beside."""
        raise NotImplementedError

    def create(self, statements: str) -> None:
        """Create tables that are not there yet, written as SQLite has them."""
        raise NotImplementedError

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        raise NotImplementedError

    def told(self) -> int:
        """The version of what gateways on one database tell each other."""
        return 0

    def tell(self, topic: str) -> None:
        """Have other processes hear of a change when the transaction ends."""

    def gone(self, owner: int) -> bool:
        """Whether another process that held the database under this number has ended."""
        return True

    def settle(self) -> None:
        """Have everything that was committed so far reach the disk."""

    def snapshot(self) -> None:
        """Begin a transaction that sees one moment of the database, for reading it through."""
        raise NotImplementedError

    def stream(self, sql: str) -> Iterable[Any]:
        """The rows of a query, in constant memory."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the database."""
        raise NotImplementedError

    # -- transactions --------------------------------------------------------------------------------

    def commit_all(self) -> None:
        """End the transaction; what was put off has been flushed."""
        self.execute("COMMIT")

    def undo(self) -> None:
        """End the transaction as if it had not been."""
        self.forget()
        self.execute("ROLLBACK")

    def add(self, table: str, row: tuple[Any, ...]) -> None:
        """Insert a whole row when the transaction ends."""
        self._added.setdefault(table, []).append(row)

    def remove(self, column: str, value: str) -> None:
        """Delete one row by its `TABLE.COLUMN` when the transaction ends; fails when it is not there."""
        self._removed.setdefault(column, []).append(value)

    def flush(self) -> None:
        """Do now what was put off."""
        added, self._added = self._added, {}
        for table, rows in added.items():
            self._insert(table, rows)
        removed, self._removed = self._removed, {}
        for column, values in removed.items():
            if self._delete(column, values) != len(values):
                raise LedgerError(
                    f"{', '.join(values)}: no open intent; an outcome is recorded once, after its intent"
                )

    def forget(self) -> None:
        """Drop what was put off, and what is known of a transaction that is undone or over."""
        self.head = None
        self._added.clear()
        self._removed.clear()

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        for at in range(0, len(rows), MOST):
            part = rows[at : at + MOST]
            self.execute(_insert(table, len(part), len(part[0])), [*chain.from_iterable(part)])

    def _delete(self, column: str, values: list[str]) -> int:
        gone = 0
        for at in range(0, len(values), MOST):
            part = values[at : at + MOST]
            gone += self.execute(_delete(column, len(part)), part).rowcount
        return gone


def before(connection: Connection, moment: float) -> int:
    """The last record before a moment, found by halving: numbers and times go up together."""
    low, high = 0, connection.execute("SELECT COALESCE(MAX(seq), 0) FROM records").fetchone()[0]
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute("SELECT time FROM records WHERE seq = ?", (middle,)).fetchone()
        if row is None or seconds(row[0]) < moment:
            low = middle
        else:
            high = middle - 1
    return low


def seconds(moment: str) -> float:
    """A moment as the ledger writes it, as seconds since 1970."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).astimezone(UTC).timestamp()


@lru_cache
def _insert(table: str, rows: int, columns: int) -> str:
    marks = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([marks] * rows)}"


@lru_cache
def _delete(column: str, rows: int) -> str:
    table, _, name = column.partition(".")
    return f"DELETE FROM {table} WHERE {name} IN ({', '.join('?' * rows)})"
