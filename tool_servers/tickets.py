"""The tickets server: create, comment, list and read tickets in a SQLite file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from mcp.types import CallToolResult
from pydantic import Field

from tool_servers.errors import BadInput, NotFound
from tool_servers.toolkit import (
    ADDS,
    ADDS_ONCE,
    READ,
    Cursor,
    Limit,
    ToolServer,
    format_time,
    listing,
    page,
    reply,
)
from tool_servers.types import Comment, Ticket, Tickets
from tool_servers.world import World

STATUSES = ("open", "closed")

Title = Annotated[str, Field(description="One line.", min_length=1, max_length=300)]
Body = Annotated[str, Field(description="Markdown.", min_length=1, max_length=60_000)]
Word = Annotated[str, Field(description="A word of your choice; may be empty.", max_length=100)]
TicketId = Annotated[str, Field(description="A ticket's id, such as T-1.", min_length=1, max_length=40)]
Key = Annotated[str, Field(description="Yours: under the same key it is done once.", max_length=200)]
Status = Annotated[str, Field(description="open or closed; empty = all.")]

NewStatus = Annotated[str, Field(description="open or closed.")]


def build(world: World) -> ToolServer:
    """The tickets server for a world."""
    server = ToolServer("tickets", "Tickets of this installation.")
    desk = Desk(world.state_directory / "tickets.db")

    @server.tool(annotations=ADDS)
    def create(
        title: Title, body: Body, severity: Word = "", service: Word = "", key: Key = ""
    ) -> Annotated[CallToolResult, Ticket]:
        """Open a ticket."""
        ticket = desk.create(title, body, severity, service, key)
        return reply(f"Created {_ticket_line(ticket)}", ticket)

    @server.tool(annotations=ADDS)
    def comment(id: TicketId, body: Body, key: Key = "") -> Annotated[CallToolResult, Ticket]:
        """Add a comment to a ticket."""
        ticket = desk.comment(id, body, key)
        return reply(f"Commented on {_ticket_line(ticket)}", ticket)

    @server.tool(annotations=ADDS_ONCE)
    def set_status(id: TicketId, status: NewStatus) -> Annotated[CallToolResult, Ticket]:
        """Close a ticket, or open it again."""
        if status not in STATUSES:
            raise BadInput("status", status, ", ".join(STATUSES))
        return reply(f"Now {_ticket_line(desk.set_status(id, status))}", desk.ticket(id))

    @server.tool(annotations=READ)
    def list_tickets(
        status: Status = "", limit: Limit = 50, cursor: Cursor = ""
    ) -> Annotated[CallToolResult, Tickets]:
        """List tickets, newest first, without their comments."""
        if status and status not in STATUSES:
            raise BadInput("status", status, ", ".join(STATUSES))
        tickets = desk.tickets(status)
        chosen, lines, after = page(tickets, limit, cursor, ["tickets", status], _ticket_line)
        found = Tickets(tickets=chosen, next_cursor=after)
        return reply(listing(f"{len(tickets)} tickets", lines, after), found)

    @server.tool(annotations=READ)
    def get(id: TicketId) -> Annotated[CallToolResult, Ticket]:
        """Read a ticket with its comments."""
        ticket = desk.ticket(id)
        comments = "".join(f"\n\n{one.timestamp}\n{one.body}" for one in ticket.comments)
        return reply(f"{_ticket_line(ticket)}\n\n{ticket.body}{comments}", ticket)

    return server


class Desk:
    """The tickets in one SQLite file, made when the first ticket is."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, title: str, body: str, severity: str, service: str, key: str = "") -> Ticket:
        """Store a new ticket; under a key that was used, the one it was used for."""
        now = format_time(time.time())
        with self._open() as database:
            if key and (known := _used(database, f"create {key}")):
                return _ticket(database.execute("SELECT * FROM ticket WHERE number = ?", (known,)).fetchone())
            row = database.execute(
                "INSERT INTO ticket (title, body, severity, service, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
                (title, body, severity, service, now, now),
            ).fetchone()
            if key:
                database.execute("INSERT INTO used VALUES (?, ?)", (f"create {key}", row["number"]))
            return _ticket(row)

    def comment(self, id: str, body: str, key: str = "") -> Ticket:
        """Store a comment on a ticket, once under a key."""
        now = format_time(time.time())
        with self._open() as database:
            number = self._number(database, id)
            if key and _used(database, f"comment {key}"):
                return self.ticket(id)
            if key:
                database.execute("INSERT INTO used VALUES (?, ?)", (f"comment {key}", number))
            database.execute("INSERT INTO comment VALUES (?, ?, ?)", (number, now, body))
            database.execute("UPDATE ticket SET updated = ? WHERE number = ?", (now, number))
        return self.ticket(id)

    def set_status(self, id: str, status: str) -> Ticket:
        """Close a ticket, or open it again."""
        with self._open() as database:
            number = self._number(database, id)
            database.execute(
                "UPDATE ticket SET status = ?, updated = ? WHERE number = ? AND status != ?",
                (status, format_time(time.time()), number, status),
            )
        return self.ticket(id)

    def tickets(self, status: str) -> list[Ticket]:
        """The tickets of a status, or all; newest first."""
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM ticket WHERE ? IN ('', status) ORDER BY number DESC", (status,)
            ).fetchall()
        return [_ticket(row) for row in rows]

    def ticket(self, id: str) -> Ticket:
        """One ticket with its comments."""
        with self._open() as database:
            number = self._number(database, id)
            ticket = _ticket(database.execute("SELECT * FROM ticket WHERE number = ?", (number,)).fetchone())
            rows = database.execute(
                "SELECT created, body FROM comment WHERE number = ? ORDER BY rowid", (number,)
            ).fetchall()
        ticket.comments = [Comment(timestamp=row["created"], body=row["body"]) for row in rows]
        return ticket

    @staticmethod
    def _number(database: sqlite3.Connection, id: str) -> int:
        known = {f"T-{row['number']}": row["number"] for row in database.execute("SELECT number FROM ticket")}
        if id not in known:
            raise NotFound("id", id, known, "ticket")
        return known[id]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=10)
        try:
            database.row_factory = sqlite3.Row
            database.executescript(_SCHEMA)
            with database:
                yield database
        finally:
            database.close()


_SCHEMA = """
CREATE TABLE IF NOT EXISTS ticket (
    number INTEGER PRIMARY KEY, title TEXT, body TEXT, severity TEXT, service TEXT,
    status TEXT DEFAULT 'open', created TEXT, updated TEXT
);
CREATE TABLE IF NOT EXISTS comment (number INTEGER REFERENCES ticket, created TEXT, body TEXT);
CREATE TABLE IF NOT EXISTS used (key TEXT PRIMARY KEY, number INTEGER REFERENCES ticket);
"""


def _used(database: sqlite3.Connection, key: str) -> int:
    """The number of the ticket that a key was used for; 0 for a new key."""
    database.execute("BEGIN IMMEDIATE")
    row = database.execute("SELECT number FROM used WHERE key = ?", (key,)).fetchone()
    return int(row["number"]) if row else 0


def _ticket(row: sqlite3.Row) -> Ticket:
    fields = {key: row[key] for key in row.keys() if key != "number"}  # noqa: SIM118 (a Row iterates values)
    return Ticket(id=f"T-{row['number']}", **fields)


def _ticket_line(ticket: Ticket) -> str:
    about = " ".join(word for word in (ticket.severity, ticket.service) if word)
    return f"{ticket.id} {ticket.status} {ticket.created}{' ' + about if about else ''}: {ticket.title}"


if __name__ == "__main__":
    from tool_servers.cli import serve_one

    serve_one("tickets")
