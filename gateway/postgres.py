"""The store in a PostgreSQL database: several gateways share one ledger, whose head row they lock in turn."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit
from weakref import WeakSet, ref

from gateway.errors import UsageError
from gateway.writing import PATIENCE, Rows, Writing

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("gateway.postgres")

# A server that hangs must not hang us: what is sent is answered for within these.
SESSION = {
    "application_name": "pointsman",
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
LOCK_SECONDS = 5  # of waiting for the head row; a gateway that holds it longer loses its session
RETRY_SECONDS = 0.5
HEAD = "CREATE TABLE IF NOT EXISTS head (one INTEGER PRIMARY KEY, seq BIGINT NOT NULL, hash TEXT NOT NULL)"
VERSION = "ALTER TABLE head ADD COLUMN version BIGINT NOT NULL DEFAULT 0"
CHANNEL = "'pointsman ' || current_schema()"
TYPES = (
    (" INTEGER", " BIGINT"),
    (" BLOB", " BYTEA"),
    (" REAL", " DOUBLE PRECISION"),
    (" WITHOUT ROWID", ""),
)


def is_url(place: object) -> bool:
    """Whether this names a PostgreSQL database and not a file."""
    return str(place).startswith(("postgres://", "postgresql://"))


class PostgresConnection(Writing):
    """A connection to the database; a writing one holds this process's advisory lock."""

    shared = True

    def __init__(self, raw: psycopg.Connection[Any], owner: int) -> None:
        super().__init__()
        self.raw = raw
        self.owner = owner
        self.asked = 0.0  # when the statement that is under way was sent; 0: none is
        self.patience = PATIENCE
        self.hung = False
        self._shapes: dict[str, str] = {}
        self._before: tuple[int, str] = (0, "")

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run one statement."""
        if not parameters:
            return self._run(sql)
        return self._run(_marked(sql), [_storable(value) for value in parameters])

    def _run(self, sql: str, parameters: Sequence[Any] | None = None, **options: Any) -> psycopg.Cursor[Any]:
        """One statement, which is given up when the server does not answer in time."""
        self.asked = time.monotonic()
        try:
            return self.raw.execute(cast(Any, sql), parameters, **options)
        finally:
            self.asked = 0.0

    def give_up(self) -> None:
        """End the connection from another thread: whoever waits for an answer gets an error."""
        self.hung = True
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(self.raw.pgconn.socket)) as ours:
            ours.shutdown(socket.SHUT_RDWR)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> None:
        """Run one statement for each row of parameters."""
        for row in parameters:
            self.execute(sql, row)

    def begin(self) -> None:
        """Start a transaction and lock the head of the chain."""
        rows = self._run("BEGIN; SELECT seq, hash, version FROM head FOR UPDATE")
        rows.nextset()
        seq, hashed, self.version = rows.fetchone() or (0, "", 0)
        self._before = self.head = (seq, hashed)
        self.news = False

    def commit_all(self) -> None:
        """Move the head and end the transaction."""
        moved = ""
        if self.head is not None and (self.head != self._before or self.news):
            version = self.version + 1 if self.news else self.version
            moved = (
                f"UPDATE head SET seq = {int(self.head[0])}, hash = '{self.head[1]}', version = {version}; "
            )
        self._run(moved + "COMMIT")

    def snapshot(self) -> None:
        """Begin a transaction that sees one moment of the database."""
        self._run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def create(self, statements: str) -> None:
        """Create tables that are not there yet, in this database's types."""
        for statement in statements.split(";\n"):
            for sqlite, ours in TYPES:
                statement = statement.replace(sqlite, ours)
            if statement.strip():
                self.raw.execute(cast(Any, statement))

    def columns(self, table: str) -> list[str]:
        """The names of a table's columns."""
        found = self.raw.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
            "AND NOT attisdropped ORDER BY attnum",
            (table,),
        )
        return [row[0] for row in found]

    def stream(self, sql: str) -> Iterable[Any]:
        """The rows of a query, a few thousand at a time; inside a transaction."""
        with self.raw.cursor(name="stream") as cursor:
            cursor.itersize = 5_000
            cursor.execute(cast(Any, sql))
            yield from cursor

    def told(self) -> int:
        """The version of what gateways on this database tell each other."""
        row = self._run("SELECT version FROM head").fetchone()
        return row[0] if row else 0

    def tell(self, topic: str) -> None:
        """Have other gateways hear of a change when the transaction ends."""
        self._run(f"SELECT pg_notify({CHANNEL}, %s)", (f"{self.owner} {topic}",))

    def gone(self, owner: int) -> bool:
        """Whether no session of another process holds its lock any more; inside a transaction."""
        row = self._run("SELECT pg_try_advisory_xact_lock(%s)", (owner,)).fetchone()
        return bool(row and row[0])

    def settle(self) -> None:
        """Have everything that was committed so far reach the server's disk."""
        self._run("BEGIN; SET LOCAL synchronous_commit = on; UPDATE head SET seq = seq; COMMIT")

    def close(self) -> None:
        """Let go of the database."""
        self.raw.close()

    # Rows go in as one array for each column: one statement, prepared once, however many rows.

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        shape = self._shapes.get(table)
        if shape is None:
            shape = self._shapes[table] = self._shape(table)
        columns = [[_storable(value) for value in column] for column in zip(*rows, strict=True)]
        self._run(shape, columns, prepare=True)

    def _shape(self, table: str) -> str:
        found = self.raw.execute(
            "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = %s::regclass "
            "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            (table,),
        )
        return f"INSERT INTO {table} SELECT * FROM unnest({', '.join(f'%s::{row[0]}[]' for row in found)})"

    def _delete(self, column: str, values: list[str]) -> int:
        table, _, name = column.partition(".")
        statement = f"DELETE FROM {table} WHERE {name} = ANY(%s::text[])"
        return self._run(statement, (values,), prepare=True).rowcount


class Postgres:
    """One PostgreSQL database."""

    shared = True

    def __init__(self, url: str, durability: str = "full") -> None:
        try:
            import psycopg
        except ImportError:
            raise UsageError(
                "a database by URL needs psycopg: install pointsman[postgres], or leave `database` empty"
            ) from None
        self._psycopg = psycopg
        self._open: WeakSet[PostgresConnection] = WeakSet()
        self._guard: threading.Thread | None = None
        self.url = url
        self.name = _without_secrets(url)
        self.advice = "check that the server runs, has room and lets us in"
        self.errors = (psycopg.Error,)
        self.owner = secrets.randbits(62)  # of open intents, and the advisory lock that says we live
        self._durability = durability

    def prepare(self) -> None:
        """There is nothing to make on this side."""

    def connect(self, *, readonly: bool = False) -> PostgresConnection:
        """A connection of its own to the database."""
        raw = self._psycopg.connect(self.url, autocommit=True, prepare_threshold=5, **cast(Any, SESSION))
        try:
            connection = PostgresConnection(raw, self.owner)
            self._watch(connection)
            return self._opened(connection, readonly)
        except BaseException:
            raw.close()
            raise

    def _opened(self, connection: PostgresConnection, readonly: bool) -> PostgresConnection:
        execute = connection.execute
        if readonly:
            execute("SET default_transaction_read_only = on")
            return connection
        execute(f"SET synchronous_commit = {'on' if self._durability == 'full' else 'off'}")
        execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        execute(f"SET idle_in_transaction_session_timeout = '{2 * LOCK_SECONDS}s'")
        execute("SET client_min_messages = warning")  # "already exists, skipping" tells nobody anything
        execute("SELECT pg_advisory_lock_shared(?)", (self.owner,))  # beside an earlier session of ours
        # Two gateways that start at once must not both make the tables.
        execute("BEGIN; SELECT pg_advisory_xact_lock(7015000)")
        execute(HEAD)
        if "version" not in connection.columns("head"):  # begun by an earlier version of ours
            execute(VERSION)
        execute("INSERT INTO head VALUES (1, 0, '') ON CONFLICT DO NOTHING")
        execute("COMMIT")
        return connection

    def _watch(self, connection: PostgresConnection) -> None:
        self._open.add(connection)
        if self._guard is None:
            self._guard = threading.Thread(target=_guard, args=(ref(self),), name="store-guard", daemon=True)
            self._guard.start()

    def impatient(self) -> None:
        """Give up the connections on which the server has not answered in time."""
        now = time.monotonic()
        for connection in list(self._open):
            if (asked := connection.asked) and now - asked > connection.patience and not connection.hung:
                log.warning("%s has not answered for %.0f s: giving it up", self.name, now - asked)
                connection.give_up()

    def member(self, column: str, name: str) -> str:
        """How a member of a column's JSON object is written in a query."""
        return f"({column}::json ->> '{name}')"

    def failed(self, error: Exception) -> bool:
        """Whether it is the server that fails (gone, full, read-only, locked) and not the job's own SQL."""
        psycopg = self._psycopg
        gone = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
        return isinstance(error, gone)

    def listen(self, heard: Callable[[str], object]) -> Callable[[], None]:
        """Call `heard` for every topic other processes tell of, and "" after a gap; returns how to stop."""
        stop = threading.Event()
        thread = threading.Thread(target=self._listen, args=(heard, stop), name="store-listen", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        return end

    def _listen(self, heard: Callable[[str], object], stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with self._psycopg.connect(self.url, autocommit=True, **cast(Any, SESSION)) as raw:
                    channel = raw.execute(f"SELECT {CHANNEL}").fetchone()
                    raw.execute(cast(Any, f'LISTEN "{channel[0] if channel else ""}"'))
                    heard("")  # whatever was told before is to be read again
                    while not stop.is_set():
                        for note in raw.notifies(timeout=0.5, stop_after=1):
                            sender, _, topic = note.payload.partition(" ")
                            if sender != str(self.owner):
                                heard(topic)
            except self._psycopg.Error as error:
                log.warning("%s: not listening: %s; trying again", self.name, str(error).strip())
                stop.wait(RETRY_SECONDS)


def _guard(database: ref[Postgres]) -> None:
    while (here := database()) is not None:
        here.impatient()
        del here
        time.sleep(RETRY_SECONDS)


def place_of(url: str) -> str:
    """What a database is known by: host, port, name and options, and nothing of who comes to it."""
    parts = urlsplit(url)
    return "\0".join((parts.hostname or "", str(parts.port or 5432), parts.path, parts.query))


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    options: dict[str, list[str]] = parse_qs(parts.query)
    where = parts.hostname or options.get("host", [""])[0]
    port = f":{parts.port}" if parts.port else ""
    return f"postgres://{where}{port}{parts.path}"


@lru_cache(1024)
def _marked(sql: str) -> str:
    """The statement with this database's marks for parameters; no statement of ours has them as text."""
    return sql.replace("%", "%%").replace("?", "%s")


def _storable(value: Any) -> Any:
    """Text as this database can hold it: without the NUL character."""
    return value.replace("\0", "\u2400") if type(value) is str and "\0" in value else value
