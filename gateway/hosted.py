"""Hosted models and their providers' own tools: what policy lets a task use, and what it reports of it.

The gateway cannot stand between a provider and the tools it hosts. What it can do is decide whether a task
may use a model, or offer it a hosted tool, at all: each is a tool of the built-in server `hosted`, and asking
is a call on the one road. And it can write down what the provider reports: that is `observed`, not enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.caller import Caller
from gateway.canonical import digest
from gateway.errors import InvalidParams, MethodNotFound
from gateway.servers_file import ServerEntry
from gateway.types import Subject, Tool

if TYPE_CHECKING:
    from gateway.app import App
    from gateway.ledger import Ledger

SERVER = "hosted"
MODEL = "hosted/model"
TEXT = {"type": "string", "maxLength": 500}
ASKED = {
    "type": "object",
    "properties": {"provider": TEXT, "model": TEXT, "endpoint": TEXT},
    "required": ["provider", "model", "endpoint"],
    "additionalProperties": False,
}

# name: (what using it means, what it brings into a run). A search sends words outwards too, but
# "outward" would let the rule on private and untrusted data overrule the permit written for just this tool.
TOOLS: dict[str, tuple[str, tuple[str, ...]]] = {
    "model": ("Send what this case has found so far to a hosted model.", ()),
    "web_search": ("Let the provider search the web in this task.", ("untrusted",)),
    "bing": ("Let the provider search the web with Bing in this task.", ("untrusted",)),
    "code_interpreter": ("Let the provider run code it writes, in a place of its own.", ()),
}

COUNT = {"type": "integer", "minimum": 0}
REPORTED = {
    "type": "object",
    "properties": {
        "tool": TEXT,
        "id": TEXT,
        "status": TEXT,
        "offered": {"type": "boolean"},
        "arguments": {"type": "object"},
        "sources": {"type": "array", "items": {"type": "object"}},
        "output": {"type": "string"},
    },
    "required": ["tool", "id", "status", "offered"],
    "additionalProperties": False,
}
RECORD_MODEL = {
    "type": "object",
    "properties": {
        "asked": TEXT,  # the call of `hosted/model` that let the request go out
        "provider": TEXT,
        "endpoint": TEXT,
        "model": TEXT,  # as it was asked for
        "version": TEXT,  # as the provider names what answered
        "prompt": TEXT,  # digest of the system prompt
        "status": {"enum": ["ok", "failed"]},
        "why": {"type": "string"},
        "response": TEXT,
        "waits_for": {"type": "array", "items": TEXT},  # calls the response still wants an answer to
        "input_tokens": COUNT,
        "output_tokens": COUNT,
        "hosted": {"type": "array", "items": REPORTED},
    },
    "required": ["asked", "provider", "endpoint", "model", "prompt", "status"],
    "additionalProperties": False,
}


def hosted_tools() -> list[Tool]:
    """What policy is asked about; none of it only reads, so that no general rule lets it through."""
    return [_tool(name, *about) for name, about in TOOLS.items()]


def _tool(name: str, description: str, labels: tuple[str, ...]) -> Tool:
    definition = {"name": name, "description": description, "inputSchema": ASKED}
    return Tool(
        server=SERVER,
        name=name,
        public=f"{SERVER}/{name}",  # no registered server's tool can be called so
        definition=definition,
        digest=digest({"server": SERVER, "tool": definition}),
        read_only=False,
        destructive=False,
        idempotent=True,  # asking twice is one answer
        open_world=True,
        labels=labels,
    )


class Hosted:
    """Answers what was let through: a hosted tool may be offered, a model may be asked."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.entry = ServerEntry(SERVER)
        self.info: dict[str, Any] = {"capabilities": {"tools": {}}}
        self.modern: bool | None = True
        self.on_changed: Callable[[str], None] = lambda method: None

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Say that it may be used; for a model also what the case has spent, and the thread to go on with."""
        if method != "tools/call":
            raise MethodNotFound(f"{method} is not served for hosted tools")
        if params["name"] not in TOOLS:
            raise InvalidParams(f"Unknown tool: {params['name']}")
        told: dict[str, Any] = {"allowed": True}
        if params["name"] == "model":
            told |= await account(self._app.ledger, caller.subject, params["arguments"])
        return {"content": [{"type": "text", "text": "allowed"}], "structuredContent": told}

    async def connect(self) -> None:
        """It is always here."""

    async def open_session(self, caller: Caller) -> dict[str, Any] | None:
        """It has no sessions."""
        return None

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """It needs no notifications."""

    async def close_session(self, key: str) -> None:
        """It has no sessions."""

    async def close(self) -> None:
        """It ends with the process."""


async def record(ledger: Ledger, subject: Subject, told: dict[str, Any]) -> dict[str, Any]:
    """Write one answer of a model and every hosted call in it; what the case has spent since."""
    reported = told.pop("hosted", [])
    versions = {"model": told.get("version") or told["model"], "prompt": told["prompt"]}
    await ledger.append(
        "model", subject, tool=MODEL, server=SERVER, control="observed", status=told["status"],
        versions=versions, body={**told, "hosted_calls": len(reported)},
    )  # fmt: skip
    for call in reported:
        await ledger.append(
            "hosted", subject, tool=f"{SERVER}/{call['tool']}", server=SERVER, control="observed",
            status=call["status"], versions=versions,
            body={"response": told.get("response", ""), **call},
        )  # fmt: skip
    return {**await account(ledger, subject, told), "recorded": [_named(call) for call in reported]}


def _named(call: dict[str, Any]) -> dict[str, Any]:
    """A reported call as it can be quoted from."""
    return {name: call[name] for name in ("tool", "id", "arguments", "sources", "output") if call.get(name)}


async def account(ledger: Ledger, subject: Subject, asked: dict[str, Any]) -> dict[str, Any]:
    """What this subject's models cost this case so far, and where its thread with this one stands."""
    spent = {"requests": 0, "tokens": 0}
    thread: dict[str, Any] = {}
    after: int | None = 0
    while subject.case and after is not None:
        page = await ledger.search(
            kind="model", case=subject.case, subject=subject.id, after=after, limit=500
        )
        after = page["next"]
        for body in (each.get("body", {}) for each in page["records"]):
            spent["requests"] += 1
            spent["tokens"] += body.get("input_tokens", 0) + body.get("output_tokens", 0)
            same = all(body.get(name) == asked[name] for name in ("provider", "model", "endpoint"))
            if same and body["status"] == "ok" and body.get("response"):
                thread = {"response": body["response"], "waits_for": body.get("waits_for", [])}
    return {"spent": spent, "thread": thread}
