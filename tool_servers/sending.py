"""What was sent already (STATE/delivery.db): a key is sent once, also over a crash."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tool_servers.errors import BadInput, NotSent, Unavailable
from tool_servers.types import Sent

SCHEMA = """
CREATE TABLE IF NOT EXISTS sent (
    destination TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (destination, key)
);
"""


class Outbox:
    """Sends under keys. A row without an answer was being sent: it may have arrived, so it is left alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def once(self, sent: Sent, repeatable: bool, send: Callable[[], Sent]) -> Sent:
        """Send, or say what was sent under this key; `repeatable` where doing it twice does no harm."""
        where = (sent.to, sent.key)
        if (before := self._begin(sent, repeatable)) is not None:
            return before.model_copy(update={"again": True})
        try:
            done = send()
        except (Unavailable, BadInput):  # it certainly did not arrive: the key is free again
            with self._open() as database:
                database.execute("DELETE FROM sent WHERE destination = ? AND key = ?", where)
            raise
        with self._open() as database:
            database.execute(
                "UPDATE sent SET answer = ? WHERE destination = ? AND key = ?",
                (done.model_dump_json(), *where),
            )
        return done

    def _begin(self, sent: Sent, repeatable: bool) -> Sent | None:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            row = database.execute(
                "SELECT digest, answer FROM sent WHERE destination = ? AND key = ?", (sent.to, sent.key)
            ).fetchone()
            if row is None:
                database.execute("INSERT INTO sent VALUES (?, ?, ?, '')", (sent.to, sent.key, sent.digest))
                database.execute("COMMIT")
                return None
        digest, answer = row
        if digest != sent.digest:
            raise BadInput("key", sent.key, "another key: this one was used for something else")
        if answer:
            return Sent.model_validate_json(answer)
        if repeatable:
            return None
        raise NotSent(
            f"it may have reached {sent.to} already, when sending it was cut off, and is not sent again: "
            "look there, and send it under another key if it is missing"
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(SCHEMA)
            yield database
        finally:
            database.close()


def digest_of(*parts: object) -> str:
    """The SHA-256 of what is sent."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
