"""Which server a resource URI or a prompt belongs to, learned from the servers' own lists."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

from gateway.caller import Caller
from gateway.catalogue import Catalogue
from gateway.errors import Refusal, RpcError, UpstreamFailed
from gateway.names import public_name
from gateway.wire import lowest, ttl_of

SECONDS = 5.0
KEPT_SECONDS = 1.0
MOST_PAGES = 50
LISTS = {
    "resources/list": ("resources", "resources", "uri"),
    "resources/templates/list": ("resources", "resourceTemplates", "uriTemplate"),
    "prompts/list": ("prompts", "prompts", "name"),
}
Item = tuple[str, dict[str, Any]]  # server, definition


class Listing(NamedTuple):
    """What the servers list."""

    then: float  # when they were asked
    items: list[Item]
    ttl_ms: int | None  # how long it may be kept: the lowest that a server says; None where none does


class Index:
    """Asks the servers for their lists and remembers, for a moment, what stood in them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._found: dict[tuple[str, str], Listing] = {}
        catalogue.changed.append(self._forget)

    def _forget(self, what: str, server: str) -> None:
        self._found.clear()

    def _servers(self, capability: str) -> list[str]:
        """The servers that offer this kind of thing, in order."""
        found = []
        for name, server in sorted(self._catalogue.servers.items()):
            told = server.upstream.info.get("capabilities") if server.upstream is not None else None
            if isinstance(told, dict) and capability in told:
                found.append(name)
        return found

    async def items(self, method: str, caller: Caller) -> list[Item]:
        """Everything the servers list, in order of server; a server that fails offers nothing just now."""
        return (await self._listing(method, caller)).items

    async def _listing(self, method: str, caller: Caller) -> Listing:
        key = (method, caller.subject.id + (caller.session.id if caller.session else ""))
        found = self._found.get(key)
        now = asyncio.get_running_loop().time()
        if found is not None and now - found.then < KEPT_SECONDS:
            return found
        names = self._servers(LISTS[method][0])
        lists = await asyncio.gather(*(self._list(name, method, caller) for name in names))
        items = [(name, item) for name, (own, _) in zip(names, lists, strict=True) for item in own]
        found = self._found[key] = Listing(now, items, lowest(*(ttl for _, ttl in lists)))
        if len(self._found) > 1_000:
            self._found.pop(next(iter(self._found)))
        return found

    async def _list(self, name: str, method: str, caller: Caller) -> tuple[list[dict[str, Any]], int | None]:
        """What one server lists, and for how long; nothing, and not to be kept, where it fails."""
        items: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        ttl: int | None = None
        try:
            async with asyncio.timeout(SECONDS):
                for _ in range(MOST_PAGES):
                    with self._catalogue.connected(name) as upstream:
                        page = await upstream.request(method, params, caller)
                    found = page.get(LISTS[method][1])
                    items += [i for i in found if isinstance(i, dict)] if isinstance(found, list) else []
                    ttl = lowest(ttl, ttl_of(page))
                    if not isinstance(page.get("nextCursor"), str):
                        break
                    params = {"cursor": page["nextCursor"]}
        except (UpstreamFailed, RpcError, TimeoutError):
            return [], 0
        return items, ttl

    async def merged(self, method: str, caller: Caller) -> tuple[list[Item], int | None]:
        """What /mcp lists: everything that only one server offers; and how long it may be kept."""
        then, items, ttl = await self._listing(method, caller)
        if ttl is not None:  # it may be a moment old
            ttl = max(0, ttl - round((asyncio.get_running_loop().time() - then) * 1000))
        field = LISTS[method][2]
        if field == "name":
            return items, ttl
        offered: dict[str, set[str]] = {}
        for server, item in items:
            offered.setdefault(str(item.get(field)), set()).add(server)
        return [(server, item) for server, item in items if len(offered[str(item.get(field))]) == 1], ttl

    async def server_of_uri(self, uri: str, caller: Caller) -> str:
        """The one server that offers this URI, as itself or by a template."""
        if caller.endpoint:
            return caller.endpoint
        resources, templates = await asyncio.gather(
            self.items("resources/list", caller), self.items("resources/templates/list", caller)
        )
        servers = {server for server, item in resources if item.get("uri") == uri}
        if not servers:
            servers = {server for server, item in templates if _fits(str(item.get("uriTemplate", "")), uri)}
        if len(servers) > 1:
            raise Refusal(
                "quarantined",
                f"{uri} is offered by {', '.join(sorted(servers))}: "
                "read it on /servers/NAME/mcp of the one you mean",
            )
        if not servers:
            raise Refusal("unknown_tool", f"no server offers {uri!r}: resources/list shows what there is")
        return servers.pop()

    async def server_of_prompt(self, name: str, caller: Caller) -> tuple[str, str]:
        """The server of a prompt and the server's own name for it."""
        if caller.endpoint:
            return caller.endpoint, name
        server, _, own = name.partition("__")
        if server in self._catalogue.servers:
            if public_name(server, own) == name:
                return server, own
            for other, item in await self.items("prompts/list", caller):
                if other == server and public_name(server, str(item.get("name"))) == name:
                    return server, str(item["name"])
        raise Refusal("unknown_tool", f"there is no prompt {name!r} here: prompts/list shows what there is")


def _fits(template: str, uri: str) -> bool:
    if template == uri:  # a completion refers to the template itself
        return True
    parts = re.split(r"\{[^{}]*\}", template)
    if len(parts) == 1 or not uri.startswith(parts[0]) or not uri.endswith(parts[-1]):
        return False
    at = 0
    for part in parts:
        found = uri.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True
