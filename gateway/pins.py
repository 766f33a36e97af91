"""Pins: the definitions a person has approved, kept over restarts."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.canonical import canonical, digest
from gateway.store import Store
from gateway.writing import Connection, Writing

TABLES = """
CREATE TABLE IF NOT EXISTS pins (
    server TEXT NOT NULL, tool TEXT NOT NULL, digest TEXT NOT NULL, definition TEXT NOT NULL,
    approved_by TEXT NOT NULL, approved TEXT NOT NULL, PRIMARY KEY (server, tool));
CREATE TABLE IF NOT EXISTS registered (server TEXT PRIMARY KEY, identity TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Pin:
    """One approved definition."""

    server: str
    tool: str
    digest: str
    definition: dict[str, Any]
    approved_by: str = ""
    approved: str = ""


def pin_digest(identity: dict[str, Any], definition: dict[str, Any]) -> str:
    """What a pin binds: the whole canonical definition and where the server stands."""
    return digest({"server": identity, "tool": definition})


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The lines in which two definitions differ, as a unified diff."""
    old, new = (
        json.dumps(d, indent=2, sort_keys=True, ensure_ascii=True).splitlines() for d in (before, after)
    )
    return list(difflib.unified_diff(old, new, "approved", "offered", lineterm="", n=2))


class Pins:
    """The pins in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def prepare(self) -> Pins:
        """Create the tables."""
        await self._store.prepare(TABLES)
        return self

    async def all(self) -> list[Pin]:
        """Every pin there is."""

        def job(connection: Connection) -> list[Pin]:
            rows = connection.execute(
                "SELECT server, tool, digest, definition, approved_by, approved FROM pins"
            )
            return [Pin(s, t, d, orjson.loads(definition), by, at) for s, t, d, definition, by, at in rows]

        return await self._store.read(job)

    async def put(self, pins: list[Pin]) -> None:
        """Remember these, in place of what was pinned under the same names."""
        rows = [
            (p.server, p.tool, p.digest, canonical(p.definition).decode(), p.approved_by, p.approved)
            for p in pins
        ]

        def job(connection: Writing) -> None:
            for row in rows:
                connection.execute("DELETE FROM pins WHERE server = ? AND tool = ?", row[:2])
                connection.execute("INSERT INTO pins VALUES (?, ?, ?, ?, ?, ?)", row)
            connection.tell("pins")

        await self._store.write(job)

    async def drop(self, server: str) -> None:
        """Forget a server's pins."""

        def job(connection: Writing) -> None:
            connection.execute("DELETE FROM pins WHERE server = ?", (server,))
            connection.tell("pins")

        await self._store.write(job)

    async def registered(self) -> dict[str, str]:
        """The servers whose registration the ledger knows, each with the digest of where it stands."""
        rows = await self._store.read(
            lambda c: c.execute("SELECT server, identity FROM registered").fetchall()
        )
        return dict(rows)

    async def register(self, server: str, identity: str) -> None:
        """Remember a server as registered; without an identity, as removed."""

        def job(connection: Writing) -> None:
            connection.execute("DELETE FROM registered WHERE server = ?", (server,))
            if identity:
                connection.execute("INSERT INTO registered VALUES (?, ?)", (server, identity))

        await self._store.write(job)
