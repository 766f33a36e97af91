"""Small real things for the tests of the gateway's records: tools, subjects, calls, the parts, open."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from gateway.approvals import Approvals
from gateway.canonical import digest
from gateway.checkpoints import Checkpoints
from gateway.ledger import Ledger
from gateway.redaction import Redactor
from gateway.store import Store
from gateway.tokens import Tokens
from gateway.types import Call, Decision, Rule, Subject, Tool
from gateway.writing import Writing

ANA = Subject("user:ana", ("oncall",))
BOB = Subject("user:bob", ("oncall",))
LOGS = Subject(
    "agent:logs", ("specialist",), ("user:ana", "agent:coordinator"), "case-1", "run-1", "task-1", "ab" * 8
)
FIXER = Subject("agent:remediation", ("specialist",), ("user:ana", "agent:coordinator"), "case-1", "run-1")
GO = Decision("call", (Rule("specialists-read"),), policy="p1")
ASK = Decision(
    "request", (Rule("remediation-asks", "It may once a person agrees.", "Wait.", "a.cedar:3"),), policy="p1"
)
PLACES: dict[Path, str] = {}  # the homes whose records are in PostgreSQL, and where
_numbers = count(1)


def place(home: Path) -> str | Path:
    """Where the records of this home are."""
    return PLACES.get(home, home / "ledger.db")


def tool(server: str, name: str, schema: dict[str, Any] | None = None, **hints: Any) -> Tool:
    """A tool as pinned; it writes unless told otherwise."""
    definition = {"name": name, "inputSchema": schema or {"type": "object"}}
    return Tool(server, name, f"{server}__{name}", definition, digest(definition), **hints)


GET = tool("kubernetes", "get", read_only=True, destructive=False, idempotent=True)
ROLLBACK = tool("actions", "rollback")


def call(tool: Tool = GET, subject: Subject = LOGS, key: str = "", **arguments: Any) -> Call:
    """A call with an id of its own."""
    return Call(f"c{next(_numbers)}", "call", subject, tool, arguments, digest(arguments), key)


def text(words: str) -> dict[str, Any]:
    """A tool result that says this."""
    return {"content": [{"type": "text", "text": words}]}


@dataclass
class Parts:
    """The parts that keep records, open."""

    store: Store
    ledger: Ledger
    approvals: Approvals
    tokens: Tokens

    async def run(self, call: Call, words: str = "done", decision: Decision = GO, approval: str = "") -> None:
        """Record an intent and its outcome."""
        await self.ledger.intent(call, decision, approval)
        await self.ledger.outcome(call, text(words), status="ok", ms=1.5)


@asynccontextmanager
async def parts(home: Path, secrets: tuple[str, ...] = (), expiry: float = 900) -> AsyncIterator[Parts]:
    """Everything that keeps records in this directory, with checkpoints in a second place beside it."""
    async with Store(place(home)) as store:
        ledger = await Ledger(store, Redactor(secrets), second_place(home)).prepare()
        approvals = await Approvals(store, ledger, expiry_seconds=expiry).prepare()
        yield Parts(store, ledger, approvals, await Tokens(store).prepare())


@contextmanager
def directly(home: Path) -> Iterator[Writing]:
    """The records themselves, past all that guards them."""
    store = Store(place(home))
    connection = store.connect()
    try:
        yield connection
    finally:
        connection.close()


def second_place(home: Path) -> Checkpoints:
    """The checkpoints of the ledger in this directory."""
    return Checkpoints.beside(place(home), home.parent / "second-place")
