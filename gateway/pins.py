"""Pins: the definitions a person has approved, kept over restarts."""

from __future__ import annotations

import difflib
import json
import sqlite3
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.canonical import canonical, digest
from gateway.store import Store

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

        def job(connection: sqlite3.Connection) -> list[Pin]:
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
        await self._store.write(
            lambda c: c.executemany("INSERT OR REPLACE INTO pins VALUES (?, ?, ?, ?, ?, ?)", rows) and None
        )

    async def drop(self, server: str) -> None:
        """Forget a server's pins."""
        await self._store.write(lambda c: c.execute("DELETE FROM pins WHERE server = ?", (server,)) and None)

    async def registered(self) -> dict[str, str]:
        """The servers whose registration the ledger knows, each with the digest of where it stands."""
        rows = await self._store.read(
            lambda c: c.execute("SELECT server, identity FROM registered").fetchall()
        )
        return dict(rows)

    async def register(self, server: str, identity: str) -> None:
        """Remember a server as registered; without an identity, as removed."""
        if identity:
            await self._store.write(
                lambda c: (
                    c.execute("INSERT OR REPLACE INTO registered VALUES (?, ?)", (server, identity)) and None
                )
            )
        else:
            await self._store.write(
                lambda c: c.execute("DELETE FROM registered WHERE server = ?", (server,)) and None
            )
