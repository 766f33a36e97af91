"""The catalogue: every tool server, what it offers, what is approved, and under which public name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from gateway.caller import Caller
from gateway.canonical import digest
from gateway.connection import Connection
from gateway.errors import NotYet, Refusal, RpcError, UpstreamFailed, UsageError
from gateway.ledger import Ledger, now
from gateway.names import collisions, public_name
from gateway.pins import Pin, Pins, difference
from gateway.schemas import Check, compile_schema
from gateway.server import Server, make_tool
from gateway.servers_file import ServerEntry, ServersFile
from gateway.types import Subject, Tool
from gateway.upstream import CHANGED, CLIENT_INFO, Background, Upstream
from gateway.wire import lowest, ttl_of

log = logging.getLogger("gateway.catalogue")
OPERATOR = Subject("user:operator", ("operator",))
OURSELVES = Subject("gateway:service")
LONGEST_WAIT = 30.0
MOST_PAGES, MOST_TOOLS = 100, 5_000
RELIST_SECONDS = 60  # a server that does not tell of changes is looked at this often
Maker = Callable[[ServerEntry, Upstream | None, Any], tuple[Upstream, Any]]


class Catalogue:
    """Keeps the servers connected in the background and answers from what is pinned."""

    def __init__(
        self, pins: Pins, ledger: Ledger, make: Maker, *, connect_seconds: float, call_seconds: float
    ) -> None:
        self._pins = pins
        self._ledger = ledger
        self._make = make
        self._connect_seconds = connect_seconds
        self._call_seconds = call_seconds
        self._leaving = Background()
        self._kept: dict[str, dict[str, Pin]] = {}
        self._running = False
        self.servers: dict[str, Server] = {}
        self.builtin: dict[str, Tool] = {}
        self.tools: dict[str, Tool] = {}  # by public name, in order
        self.by_server: dict[str, dict[str, Tool]] = {}
        self.blocked: dict[str, str] = {}  # public name → why it is not served
        self.checks: dict[str, tuple[Check, Check | None]] = {}
        self.changed: list[
            Callable[[str, str], None]
        ] = []  # told what has changed (tools, …) of which server
        self.version = 0
        self._told: dict[tuple[str, str], bool] = {}  # changes told this second: said again since?

    async def prepare(self) -> Catalogue:
        """Read the pins."""
        await self._read_pins()
        return self

    async def reload(self) -> None:
        """Read the pins again, as after another gateway on the same database has approved or dropped some."""
        await self._read_pins()
        for server in self.servers.values():
            kept = self._kept.get(server.name, {})
            if kept != server.pins:
                server.pins, server.examined = dict(kept), None
        self._rebuild()

    async def _read_pins(self) -> None:
        kept: dict[str, dict[str, Pin]] = {}
        for pin in await self._pins.all():
            kept.setdefault(pin.server, {})[pin.tool] = pin
        self._kept = kept

    # -- which servers there are -------------------------------------------------------------------

    async def apply(self, file: ServersFile, by: Subject = OPERATOR) -> None:
        """Make the servers those of the file; calls under way end where they are, new ones go the new way."""
        await self._record_registrations(file, by)
        gone = []
        for name, server in list(self.servers.items()):
            entry = file.servers.get(name)
            if entry is not None and entry.reached == server.entry.reached:
                if entry != server.entry:
                    server.revise(entry)
            else:
                gone.append(self.servers.pop(name))
                server.state = "stopped"
        for name, entry in file.servers.items():
            if name not in self.servers:
                server = self.servers[name] = Server(entry, pins=dict(self._kept.get(name, {})))
                if self._running:
                    self._start(server)
        self._rebuild()
        for server in gone:
            if server.name not in self.servers:
                self._tell_offered(server)
            self._leaving.start(self._leave(server))

    async def _record_registrations(self, file: ServersFile, by: Subject) -> None:
        """Record which servers came, went or moved, whoever changed the file and whenever that was."""
        known = await self._pins.registered()
        standing = {name: digest(entry.identity) for name, entry in file.servers.items()}
        for name in sorted(known.keys() | standing.keys()):
            if known.get(name) == standing.get(name):
                continue
            change = "added" if name not in known else "removed" if name not in standing else "moved"
            where = file.servers[name].identity if name in standing else {}
            await self._ledger.append("registration", by, server=name, change=change, identity=where)
            await self._pins.register(name, standing.get(name, ""))

    async def _leave(self, server: Server, *, at_once: bool = False) -> None:
        """Let go of a server; its calls under way may end, within the time a call may take."""
        server.state = "stopped"
        if server.task is not None:
            server.task.cancel()
            with suppress(asyncio.CancelledError):
                await server.task
        if server.connection is not None:
            await server.connection.leave(0 if at_once else server.entry.timeout or self._call_seconds)

    async def forget(self, name: str) -> None:
        """Forget what was approved of a server that is being removed."""
        self._kept.pop(name, None)
        await self._pins.drop(name)

    def start(self) -> None:
        """Connect to every server in the background."""
        self._running = True
        for server in self.servers.values():
            if server.task is None:
                self._start(server)

    async def stop(self) -> None:
        """Let go of every server."""
        self._running = False
        await self._leaving.stop()
        await asyncio.gather(*(self._leave(server, at_once=True) for server in self.servers.values()))

    def get(self, name: str) -> Server:
        """A server by its name."""
        if name not in self.servers:
            raise UsageError(f"no server {name!r}: registered are {', '.join(self.servers) or 'none'}")
        return self.servers[name]

    # -- keeping them connected --------------------------------------------------------------------

    def _start(self, server: Server) -> None:
        server.task = asyncio.create_task(self._keep(server), name=f"server {server.name}")

    async def _keep(self, server: Server) -> None:
        wait = 0.5
        while True:
            server.wake.clear()
            announced, server.announced, before = server.announced, False, self.version
            if await self.refresh(server):
                wait = 0.5
                if announced and before == self.version:
                    self._tell("tools", server.name)
                with suppress(TimeoutError):
                    async with asyncio.timeout(RELIST_SECONDS):
                        await server.wake.wait()
                await asyncio.sleep(max(0.0, server.listed_at + 1 - asyncio.get_running_loop().time()))
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await server.wake.wait()
                wait = min(wait * 2, LONGEST_WAIT)

    async def refresh(self, server: Server) -> bool:
        """Connect if need be and list the tools again; when that fails, the server says at which stage."""
        async with server.refreshing:
            return await self._refresh(server)

    async def _refresh(self, server: Server) -> bool:
        if server.state == "stopped":
            raise UsageError(f"server {server.name!r} has just been removed or changed: look again")
        server.state = "connecting" if server.state != "ready" else server.state
        try:
            async with asyncio.timeout(self._connect_seconds + 5):
                await self._list(server)
            server.state, server.stage, server.error = "ready", "", ""
        except NotYet as waiting:
            server.state, server.stage, server.error = "connecting", "start", str(waiting)
            return False
        except UpstreamFailed as failed:
            server.state, server.stage, server.error = "failed", failed.stage, failed.reason
        except RpcError as error:
            stage = "list" if server.upstream is not None and server.upstream.info else "initialize"
            server.state, server.stage, server.error = "failed", stage, str(error)
        except UsageError as error:
            server.state, server.stage, server.error = "failed", "resolve", str(error)
        except TimeoutError:
            stage = "connect"
            if server.upstream is not None and server.upstream.modern is not None:
                stage = "list" if server.upstream.info else "initialize"
            server.state, server.stage = "failed", stage
            server.error = f"no answer within {self._connect_seconds + 5:g} s"
        server.listed_at = asyncio.get_running_loop().time()
        server.listed.set()
        if server.error:
            log.warning("server %s: %s: %s", server.name, server.stage, server.error)
        return not server.error

    async def _list(self, server: Server) -> None:
        before = server.connection
        made = self._make(server.entry, server.upstream, before.made_of if before is not None else None)
        fresh = before is None or made[0] is not before.upstream
        if fresh:
            server.connection = Connection(*made)
            server.connection.upstream.on_changed = lambda method: self._on_changed(server, method)
            if before is not None:
                self._leaving.start(before.leave(server.entry.timeout or self._call_seconds))
        upstream = made[0]
        if fresh or upstream.modern is None or server.state != "ready":
            await upstream.connect()
        if "tools" in (upstream.info.get("capabilities") or {"tools": {}}):
            definitions, server.ttl_ms = await self._definitions(upstream)
            await self._take(server, definitions)
        else:
            await self._take(server, {})
        if fresh:
            self._tell_offered(server)

    async def _definitions(self, upstream: Upstream) -> tuple[dict[str, dict[str, Any]], int | None]:
        """The tools it offers, and how long it says that the list may be kept."""
        caller = Caller(OURSELVES, "modern" if upstream.modern else "legacy", info=CLIENT_INFO)
        found: dict[str, dict[str, Any]] = {}
        twice: set[str] = set()
        params: dict[str, Any] = {}
        ttl: int | None = None
        for _ in range(MOST_PAGES):
            page = await upstream.request("tools/list", params, caller)
            ttl = lowest(ttl, ttl_of(page))
            tools = page.get("tools")
            if not isinstance(tools, list):
                raise UpstreamFailed("list", "its tools/list has no list of tools")
            for tool in tools:
                name = tool.get("name") if isinstance(tool, dict) else None
                if not isinstance(name, str):
                    raise UpstreamFailed("list", "a tool has no name")
                if name in found:
                    twice.add(name)
                found[name] = tool
            if len(found) > MOST_TOOLS:
                raise UpstreamFailed("list", f"it offers more than {MOST_TOOLS} tools")
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str):
                return {name: tool for name, tool in found.items() if name not in twice}, ttl
            if cursor == params.get("cursor"):
                raise UpstreamFailed("list", "its tools/list leads from a page to the same page")
            params = {"cursor": cursor}
        raise UpstreamFailed("list", f"its tools/list has more than {MOST_PAGES} pages")

    async def _take(self, server: Server, offers: dict[str, dict[str, Any]]) -> None:
        before = {name: server.standing(name) for name in server.names()} if server.offers is not None else {}
        server.offers, server.examined = offers, None
        if server.entry.trusted:
            await self._trust(server)
        if (
            server.examined is None
        ):  # trusting it may have looked already; what changed is blocked from here on
            self._rebuild()
        for name in server.names():
            standing = server.standing(name)
            if standing == "changed" and before.get(name) != "changed":
                lines = difference(server.pins[name].definition, offers.get(name, {}))
                await self._ledger.append(
                    "registration",
                    OURSELVES,
                    server=server.name,
                    change="definition changed",
                    name=name,
                    diff=lines,
                )

    async def _trust(self, server: Server) -> None:
        fresh = [n for n in server.offers or {} if server.standing(n) != "approved"]
        if fresh:
            await self.approve(server, fresh, OPERATOR, "the operator trusts this server's definitions")

    def _on_changed(self, server: Server, method: str) -> None:
        what = CHANGED.get(method) if server.state != "stopped" else None
        if what == "tools":
            server.announced = True
            server.wake.set()
        elif what:
            self._tell_seldom((what, server.name))

    def _tell_seldom(self, change: tuple[str, str]) -> None:
        """Tell of a change, but of the same one at most once a second, however often a server says it."""
        if change in self._told:
            self._told[change] = True
            return
        self._told[change] = False
        self._tell(*change)
        asyncio.get_running_loop().call_later(1, self._second_passed, change)

    def _second_passed(self, change: tuple[str, str]) -> None:
        if self._told.pop(change):
            self._tell_seldom(change)

    def _tell(self, what: str, server: str) -> None:
        for listener in self.changed:
            listener(what, server)

    def _tell_offered(self, server: Server) -> None:
        """With a server its prompts and resources come and go; of its tools the catalogue itself tells."""
        told = server.upstream.info.get("capabilities") if server.upstream is not None else None
        for what in ("prompts", "resources"):
            if isinstance(told, dict) and what in told:
                self._tell(what, server.name)

    # -- approving ---------------------------------------------------------------------------------

    async def approve(self, server: Server, names: Iterable[str], by: Subject, reason: str = "") -> list[str]:
        """Pin these tools as they are offered now."""
        names = list(names)
        missing = [name for name in names if name not in (server.offers or {})]
        if missing or server.offers is None:
            raise UsageError(
                f"server {server.name!r} offers no {', '.join(missing) or 'tools'} now: nothing to approve"
            )
        pins = [Pin(server.name, n, server.offer_digest(n), server.offers[n], by.id, now()) for n in names]
        await self._ledger.append(
            "registration",
            by,
            server=server.name,
            change="approved",
            tools={pin.tool: pin.digest for pin in pins},
            reason=reason,
        )
        await self._pins.put(pins)
        for pin in pins:
            self._kept.setdefault(server.name, {})[pin.tool] = pin
            for known in (server, self.servers.get(server.name, server)):  # it may have changed meanwhile
                known.pins[pin.tool] = pin
                known.examined = None
        self._rebuild()
        return names

    def candidates(self, server: Server, *, unflagged: bool) -> list[str]:
        """The tools that wait for approval; `unflagged` leaves out those the definition check marks."""
        waiting = [name for name in server.names() if server.standing(name) in ("new", "changed")]
        others = self.others(server)
        return [
            n for n in waiting if n in (server.offers or {}) and not (unflagged and server.flags(n, others))
        ]

    def others(self, server: Server) -> frozenset[str]:
        """The names of every other server's tools, for which those of this one may try to pass."""
        every = (s.names() for s in self.servers.values() if s.name != server.name)
        return frozenset(name for names in every for name in names) | {t.name for t in self.builtin.values()}

    def offered_tools(self, server: Server) -> list[dict[str, Any]]:
        """A server's tools as the operator sees them before approving."""
        return server.offered_tools(self.others(server))

    # -- finding -----------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        every: dict[str, Tool] = dict(self.builtin)
        blocked: dict[str, str] = {}
        by_server: dict[str, dict[str, Tool]] = {}
        for tool in self.builtin.values():
            by_server.setdefault(tool.server, {})[tool.name] = tool
        named: list[tuple[str, Tool | None, str]] = []
        for server in self.servers.values():
            if server.examined is None:
                server.examined = [self._examine(server, name) for name in server.names()]
            named += server.examined
        taken = collisions([*(public for public, _, _ in named), *self.builtin])
        for public, tool, trouble in named:
            if trouble:
                blocked[public] = trouble
            if tool is None:
                continue
            by_server.setdefault(tool.server, {})[tool.name] = tool
            if public in taken:
                blocked[public] = "another tool's name differs from it only in case: both are blocked on /mcp"
            else:
                every[public] = tool
        before = (self.tools, self.by_server)
        self.tools = dict(sorted(every.items()))
        self.by_server = {name: dict(sorted(tools.items())) for name, tools in by_server.items()}
        self.blocked = blocked
        if before != (self.tools, self.by_server) or not self.version:  # also what is served apart only
            self.version += 1
            self._tell("tools", "")

    def _examine(self, server: Server, name: str) -> tuple[str, Tool | None, str]:
        """A tool's public name, the tool if it may be served, and why not if it may not."""
        public, standing = public_name(server.name, name), server.standing(name)
        if standing == "gone":
            return public, None, ""
        if standing != "approved":
            why = "is not approved yet" if standing == "new" else "has changed since it was approved"
            return public, None, f"its definition {why}: see `pointsman servers diff {server.name}`"
        pin = server.pins[name]
        tool = make_tool(server.entry, name, public, pin.definition, pin.digest)
        trouble = self._compiled(tool)
        return public, None if trouble else tool, trouble

    def _compiled(self, tool: Tool) -> str:
        if tool.digest not in self.checks:
            try:
                output = tool.definition.get("outputSchema")
                inputs = compile_schema(tool.definition.get("inputSchema"))
                self.checks[tool.digest] = (inputs, compile_schema(output) if output is not None else None)
            except ValueError as error:
                return f"its schema cannot be used: {error}"
        return ""

    def serve_builtin(self, tools: list[Tool]) -> None:
        """Take in the tools of the gateway's own servers."""
        for tool in tools:
            if trouble := self._compiled(tool):
                raise ValueError(f"{tool.public}: {trouble}")
        self.builtin = {tool.public: tool for tool in tools}
        self._rebuild()

    def has(self, name: str, endpoint: str) -> bool:
        """Whether an approved tool has this name."""
        return name in (self.by_server.get(endpoint, {}) if endpoint else self.tools)

    def find(self, name: str, endpoint: str) -> Tool:
        """The approved tool of this name, public on /mcp and the server's own on its endpoint."""
        tool = self.by_server.get(endpoint, {}).get(name) if endpoint else self.tools.get(name)
        if tool is not None:
            return tool
        public = public_name(endpoint, name) if endpoint else name
        if public in self.blocked:
            raise Refusal("quarantined", f"{name} is not served: {self.blocked[public]}")
        raise Refusal("unknown_tool", f"there is no tool {name!r} here: tools/list shows what there is")

    async def first_seen(self, names: Iterable[str]) -> None:
        """Wait, as long as connecting may take, for servers that start and of which nothing is known."""
        servers = [self.servers[name] for name in names if name in self.servers]
        fresh = [s for s in servers if s.task is not None and not s.pins and not s.listed.is_set()]
        if fresh:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._connect_seconds):
                    await asyncio.gather(*(server.listed.wait() for server in fresh))

    def listed(self, endpoint: str) -> list[Tool]:
        """The tools of an endpoint, in order; what hosted models may use is asked for, not listed."""
        if endpoint:
            return list(self.by_server.get(endpoint, {}).values())
        return [tool for tool in self.tools.values() if tool.server != "hosted"]

    def approved(self) -> list[Tool]:
        """Every approved tool, also those whose public name is blocked."""
        return [tool for tools in self.by_server.values() for tool in tools.values()]

    def labels(self) -> set[str]:
        """Every label that a server or one of its tools is given, approved or not."""
        entries = [server.entry for server in self.servers.values()]
        return {label for entry in entries for label in entry.all_labels()}

    def upstream(self, name: str) -> Upstream:
        """What answers for a server just now; raises UpstreamFailed when there is nothing."""
        return self.connected(name).upstream

    def connected(self, name: str) -> Connection:
        """The connection to a server, to be entered for a request; raises UpstreamFailed without one."""
        server = self.servers.get(name)
        if server is None or server.connection is None:
            reason = (
                f"{server.stage}: {server.error}" if server and server.error else "it is not connected yet"
            )
            raise UpstreamFailed("connect", reason)
        return server.connection

    async def connection(self, tool: Tool) -> Connection:
        """Where a call on this tool goes now; raises UpstreamFailed when it may not go there any more."""
        server = self.servers.get(tool.server)
        if server is not None and server.connection is None:
            await self._first_listed(server)
        if not self._stands(tool):
            raise UpstreamFailed("changed", "it was changed or removed meanwhile", refusal="quarantined")
        return self.connected(tool.server)

    async def _first_listed(self, server: Server) -> None:
        if server.task is not None and not server.listed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._connect_seconds):
                    await server.listed.wait()

    def _stands(self, tool: Tool) -> bool:
        """Whether what was decided about is still what is there: the definition, and the server behind it."""
        known = self.by_server.get(tool.server, {}).get(tool.name)
        if known is not None and known.digest == tool.digest:
            return True
        server = self.servers.get(tool.server)
        return server is not None and server.stands == tool.digest

    def count(self, name: str, ms: float, ok: bool) -> None:
        """Take a call into a server's figures."""
        server = self.servers.get(name)
        if server is not None:
            server.count(ms, ok)

    def broken(self, name: str) -> None:
        """A call could not reach this server: look at it again."""
        server = self.servers.get(name)
        if (
            server is not None and server.state == "ready"
        ):  # else it is looked at already, less and less often
            server.state = "failed"
            server.wake.set()
