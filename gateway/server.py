"""One registered tool server: how it stands, what it offers, and what of that is approved."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from gateway.canonical import digest
from gateway.connection import Connection
from gateway.definition_check import flags
from gateway.pins import Pin, pin_digest
from gateway.servers_file import ServerEntry
from gateway.types import Tool
from gateway.upstream import Upstream

State = Literal["idle", "connecting", "ready", "failed", "stopped"]
Standing = Literal["approved", "new", "changed", "gone"]


@dataclass
class Server:
    """A tool server as the catalogue keeps it."""

    entry: ServerEntry
    state: State = "idle"
    stage: str = ""  # where it failed
    error: str = ""
    connection: Connection | None = None
    offers: dict[str, dict[str, Any]] | None = None  # the definitions it offers now; None: not listed yet
    pins: dict[str, Pin] = field(default_factory=dict)
    examined: list[tuple[str, Tool | None, str]] | None = None  # the catalogue's view of it; None: look again
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    listed: asyncio.Event = field(default_factory=asyncio.Event)  # set after every attempt to list
    listed_at: float = 0.0
    ttl_ms: int | None = None  # how long its list of tools may be kept, where it says so
    announced: bool = False  # it said that its tools have changed
    task: asyncio.Task[Any] | None = None
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)
    calls: int = 0
    failures: int = 0
    times: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The operator's name for it."""
        return self.entry.name

    @property
    def upstream(self) -> Upstream | None:
        """What answers for it just now; None before the first attempt to reach it."""
        return self.connection.upstream if self.connection is not None else None

    @cached_property
    def stands(self) -> str:
        """The digest of its name and where it stands."""
        return digest(self.entry.identity)

    def revise(self, entry: ServerEntry) -> None:
        """Take over an entry that differs only in what needs no new connection."""
        self.entry, self.examined = entry, None
        if self.upstream is not None:
            self.upstream.entry = entry
        self.wake.set()

    def offer_digest(self, name: str) -> str:
        """The digest of what it offers under this name now; empty when it offers nothing."""
        definition = (self.offers or {}).get(name)
        return pin_digest(self.entry.identity, definition) if definition is not None else ""

    def standing(self, name: str) -> Standing:
        """Whether a tool is approved, new, changed since, or gone."""
        pin = self.pins.get(name)
        if pin is None:
            return "new"
        if pin.digest != pin_digest(self.entry.identity, pin.definition):
            return "changed"  # the server itself stands elsewhere now
        if self.offers is None:
            return "approved"
        if name not in self.offers:
            return "gone"
        return "approved" if pin.digest == self.offer_digest(name) else "changed"

    def names(self) -> list[str]:
        """Every tool known of this server, in order."""
        return sorted({*self.pins, *(self.offers or {})})

    def count(self, ms: float, ok: bool) -> None:
        """Take a call into the figures `servers list` shows."""
        self.calls += 1
        self.failures += not ok
        self.times.append(ms)
        if len(self.times) > 200:
            del self.times[:100]

    def p95(self) -> float | None:
        """The 95th percentile of the last calls, in milliseconds."""
        ordered = sorted(self.times)
        return round(ordered[int(len(ordered) * 0.95)], 1) if ordered else None

    def summary(self) -> dict[str, Any]:
        """The server as `servers list` shows it."""
        standing = [self.standing(name) for name in self.names()]
        waiting = sum(s in ("new", "changed") for s in standing)
        state = "quarantined" if self.state == "ready" and waiting else self.state
        return {
            "name": self.name,
            "transport": self.entry.transport,
            "target": self.entry.url or " ".join((self.entry.command, *self.entry.args)),
            "state": state,
            "stage": self.stage,
            "error": self.error,
            "era": {True: "modern", False: "legacy", None: ""}[
                self.upstream.modern if self.upstream else None
            ],
            "tools": len(standing),
            "approved": standing.count("approved"),
            "waiting": waiting,
            "open": sorted(self.entry.open),
            "trusted": self.entry.trusted,
            "calls": self.calls,
            "failures": self.failures,
            "p95_ms": self.p95(),
        }

    def flags(self, name: str, others: frozenset[str]) -> list[str]:
        """What the definition check says about a tool it offers, beside the tools of `others`."""
        return flags((self.offers or {}).get(name) or self.pins[name].definition, others, self.names())

    def offered_tools(self, others: frozenset[str]) -> list[dict[str, Any]]:
        """Every tool with its standing, risk and flags, as the operator sees it before approving."""
        shown = []
        for name in self.names():
            definition = (self.offers or {}).get(name) or self.pins[name].definition
            tool = make_tool(self.entry, name, "", definition, "")
            risk = "reads" if tool.read_only else "destructive" if tool.destructive else "writes"
            text = str(definition.get("description", ""))
            shown.append(
                {
                    "name": name,
                    "standing": self.standing(name),
                    "risk": risk,
                    "flags": self.flags(name, others),
                    "description": text[:200],
                }
            )
        return shown


def make_tool(entry: ServerEntry, name: str, public: str, definition: dict[str, Any], digest: str) -> Tool:
    """The tool with its risk: the operator's word, else the server's, else the worst."""
    told = definition.get("annotations")
    hints = told if isinstance(told, dict) else {}
    over = entry.tools.get(name, {})
    read_only = bool(over.get("readOnly", hints.get("readOnlyHint") is True))
    destructive = bool(over.get("destructive", not read_only and hints.get("destructiveHint") is not False))
    return Tool(
        server=entry.name,
        name=name,
        public=public,
        definition=definition,
        digest=digest,
        read_only=read_only,
        destructive=destructive,
        idempotent=bool(over.get("idempotent", read_only or hints.get("idempotentHint") is True)),
        open_world=bool(over.get("openWorld", hints.get("openWorldHint") is not False)),
        labels=(*entry.labels, *over.get("labels", ())),
        undo=str(over.get("undo", "")),
        at_once=int(over.get("atOnce", 0)),
        per_minute=int(over.get("perMinute", 0)),
    )


def now_ms() -> float:
    """A clock for durations, in milliseconds."""
    return time.perf_counter() * 1000
