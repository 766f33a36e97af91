"""The writer's connection: rows that are only added wait, and go in together by a few statements."""

from __future__ import annotations

import sqlite3
from functools import lru_cache
from itertools import chain
from typing import Any

from gateway.errors import LedgerError

MOST = 32  # rows of one statement; each number of rows is a statement of its own, prepared once


class Writing(sqlite3.Connection):
    """A connection that can put off additions until the end of the transaction."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.head: tuple[int, str] | None = None  # the last record's number and hash, once it is known
        self._added: dict[str, list[tuple[Any, ...]]] = {}
        self._removed: dict[str, list[str]] = {}

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
            for at in range(0, len(rows), MOST):
                part = rows[at : at + MOST]
                self.execute(_insert(table, len(part), len(part[0])), [*chain.from_iterable(part)])
        removed, self._removed = self._removed, {}
        for column, values in removed.items():
            for at in range(0, len(values), MOST):
                gone = values[at : at + MOST]
                if self.execute(_delete(column, len(gone)), gone).rowcount != len(gone):
                    raise LedgerError(
                        f"{', '.join(gone)}: no open intent; an outcome is recorded once, after its intent"
                    )

    def forget(self) -> None:
        """Drop what was put off, and what is known of a transaction that is undone or over."""
        self.head = None
        self._added.clear()
        self._removed.clear()


@lru_cache
def _insert(table: str, rows: int, columns: int) -> str:
    marks = f"({', '.join('?' * columns)})"
    return f"INSERT INTO {table} VALUES {', '.join([marks] * rows)}"


@lru_cache
def _delete(column: str, rows: int) -> str:
    table, _, name = column.partition(".")
    return f"DELETE FROM {table} WHERE {name} IN ({', '.join('?' * rows)})"
