"""What each MCP method does: lists from pins and servers, all that acts through the one road."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.caller import Caller
from gateway.errors import InvalidParams, MethodNotFound, RpcError, UpstreamFailed
from gateway.index import LISTS, Index
from gateway.listen import Listeners
from gateway.names import public_name
from gateway.pipeline import Gateway
from gateway.refusals import denied, refusal_error
from gateway.targets import VERBS
from gateway.types import Call, Tool
from gateway.wire import MODERN, SERVER_KEY, lowest, ttl_of

SERVER_INFO = {"name": "pointsman", "title": "Pointsman gateway", "version": "0.1.0"}
TTL_MS = 5_000  # how long a list may be kept at most: servers of the old era do not say, and policy changes
LEGACY_ONLY = ("resources/subscribe", "resources/unsubscribe")
NO_ENVELOPE = ("resultType", "ttlMs", "cacheScope")


class Methods:
    """Answers requests; one method of ours for each kind of MCP method."""

    def __init__(self, gateway: Gateway, index: Index) -> None:
        self._gateway = gateway
        self._catalogue = gateway.catalogue
        self._index = index
        self._lists: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        self.listeners = Listeners(gateway.catalogue)

    async def answer(self, caller: Caller, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one request; raises RpcError."""
        if method in VERBS and (caller.era == "legacy" or method not in LEGACY_ONLY):
            return await self._gateway.call(caller, method, params)
        try:
            if method == "tools/list":
                trusted = (n for n, s in self._catalogue.servers.items() if s.entry.trusted)
                await self._catalogue.first_seen((caller.endpoint,) if caller.endpoint else trusted)
                return self._enveloped(caller, self._tools(caller))
            if method in LISTS:
                return self._enveloped(caller, await self._list(caller, method, params))
            if method == "server/discover" and caller.era == "modern":
                return self._enveloped(caller, await self.discover(caller))
            if method == "subscriptions/listen" and caller.era == "modern":
                self._permitted(caller, caller.endpoint or "gateway", method)
                return await self.listeners.listen(caller, params)
            if method == "ping" and caller.era == "legacy":
                return {}
            if method == "logging/setLevel" and caller.era == "legacy":
                return await self._set_level(caller, params)
        except UpstreamFailed as failed:
            raise RpcError(f"{method} failed: {failed}", number=-32011) from None
        except TimeoutError:
            raise RpcError(f"{method} failed: no answer of the server in time", number=-32011) from None
        raise MethodNotFound(f"method {method!r} is not served here")

    def _enveloped(self, caller: Caller, result: dict[str, Any]) -> dict[str, Any]:
        if caller.era == "legacy":
            return {k: v for k, v in result.items() if k not in NO_ENVELOPE}
        meta = {SERVER_KEY: SERVER_INFO, **(result.get("_meta") or {})}
        # Whatever the servers say, policy chose what this caller sees: nobody else may be shown it.
        cached = {"ttlMs": min(ttl_of(result) or 0, TTL_MS), "cacheScope": "private"}
        return {**result, **cached, "resultType": "complete", "_meta": meta}

    # -- lists -------------------------------------------------------------------------------------

    def _tools(self, caller: Caller) -> dict[str, Any]:
        policy, subject = self._gateway.policy, caller.subject
        key = (caller.endpoint, subject.id, subject.roles, policy.digest, self._catalogue.version)
        tools = self._lists.get(key)
        if tools is None:
            shown = [t for t in self._catalogue.listed(caller.endpoint) if not policy.hidden(subject, t)]
            tools = [t.definition if caller.endpoint else {**t.definition, "name": t.public} for t in shown]
            if len(self._lists) >= 1_000:
                self._lists.clear()
            self._lists[key] = tools
        servers = self._catalogue.servers
        behind = [servers.get(caller.endpoint)] if caller.endpoint else servers.values()
        told = (server.ttl_ms for server in behind if server is not None)
        result: dict[str, Any] = {"tools": tools, "ttlMs": lowest(TTL_MS, *told)}
        down = sorted(name for name, server in self._catalogue.servers.items() if server.state == "failed")
        if down and not caller.endpoint:
            result["_meta"] = {"pointsman/unavailable": down}
        return result

    async def _list(self, caller: Caller, method: str, params: dict[str, Any]) -> dict[str, Any]:
        _, field, _ = LISTS[method]
        if caller.endpoint:
            self._permitted(caller, caller.endpoint, method)
            with self._catalogue.connected(caller.endpoint) as upstream:
                async with asyncio.timeout(self._gateway.settings.call_seconds):
                    return await upstream.request(method, params, caller)
        found = []
        items, ttl = await self._index.merged(method, caller)
        for server, item in items:
            if self._may(caller, server, method):
                if method == "prompts/list":
                    item = {**item, "name": public_name(server, str(item.get("name")))}
                found.append(item)
        return {field: found, "ttlMs": TTL_MS if ttl is None else ttl}

    def _may(self, caller: Caller, server: str, method: str) -> bool:
        tool = _stand_in(server, method)
        return self._gateway.policy.decide(caller.subject, "list", tool, {}, {}).verdict == "call"

    def _permitted(self, caller: Caller, server: str, method: str) -> None:
        tool = _stand_in(server, method)
        decision = self._gateway.policy.decide(caller.subject, "list", tool, {}, {})
        if decision.verdict != "call" and server != "gateway":
            call = Call("", "list", caller.subject, tool, {}, "")
            raise refusal_error(denied(call, decision), None)

    # -- who we are --------------------------------------------------------------------------------

    def capabilities(self, endpoint: str, *, modern: bool) -> dict[str, Any]:
        """What this endpoint offers: everything the servers behind it do."""
        found: dict[str, Any] = {"tools": {"listChanged": True}}
        names = [endpoint] if endpoint else list(self._catalogue.servers)
        for name in names:
            server = self._catalogue.servers.get(name)
            told = (
                server.upstream.info.get("capabilities") if server is not None and server.upstream else None
            )
            for kind in ("prompts", "resources"):
                if isinstance(told, dict) and isinstance(told.get(kind), dict):
                    found.setdefault(kind, {"listChanged": True}).update(
                        {k: v for k, v in told[kind].items() if v and k != "listChanged"}
                    )
            for kind in ("completions", "logging"):
                if isinstance(told, dict) and kind in told:
                    found.setdefault(kind, {})
        return found

    async def discover(self, caller: Caller) -> dict[str, Any]:
        """The answer to `server/discover`."""
        result: dict[str, Any] = {"supportedVersions": [MODERN]}
        server = self._catalogue.servers.get(caller.endpoint)
        if server is not None and server.upstream is not None:
            told = server.upstream.info
            extra = (
                ("capabilities", "instructions") if "instructions" in server.entry.open else ("capabilities",)
            )
            result |= {name: told[name] for name in extra if name in told}
            if isinstance(told.get("_meta"), dict) and SERVER_KEY in told["_meta"]:
                result["_meta"] = {SERVER_KEY: told["_meta"][SERVER_KEY]}
        result["capabilities"] = {
            **result.get("capabilities", {}),
            **self.capabilities(caller.endpoint, modern=True),
        }
        return {**result, "ttlMs": TTL_MS}

    async def initialize(self, caller: Caller) -> dict[str, Any]:
        """The answer to `initialize`; on a server's own endpoint what that server says."""
        own = {
            "protocolVersion": caller.version,
            "capabilities": self.capabilities(caller.endpoint, modern=False),
            "serverInfo": SERVER_INFO,
        }
        server = self._catalogue.servers.get(caller.endpoint)
        if server is None:
            return own
        try:
            async with asyncio.timeout(self._gateway.settings.connect_seconds):
                told = await self._catalogue.upstream(caller.endpoint).open_session(caller)
        except (UpstreamFailed, RpcError, TimeoutError):
            return own
        if told is None:
            return own
        result = {**told, "capabilities": {**told.get("capabilities", {}), **own["capabilities"]}}
        if "instructions" not in server.entry.open:
            result.pop("instructions", None)
        return result

    async def _set_level(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        level = params.get("level")
        if not isinstance(level, str):
            raise InvalidParams("params.level must be a string")
        names = [caller.endpoint] if caller.endpoint else list(self._catalogue.servers)
        if caller.session is not None:
            caller.session.log_level = level
        wanted = []
        for name in names:
            server = self._catalogue.servers.get(name)
            upstream = server.upstream if server is not None else None
            if upstream is not None and "logging" in (upstream.info.get("capabilities") or {}):
                wanted.append(upstream.request("logging/setLevel", {"level": level}, caller))
        async with asyncio.timeout(self._gateway.settings.connect_seconds):
            told = await asyncio.gather(*wanted, return_exceptions=True)
        if caller.endpoint and told and isinstance(told[0], RpcError) and told[0].number == -32602:
            raise told[0]
        return {}


def _stand_in(server: str, method: str) -> Tool:
    return Tool(
        server, method, f"{server}:{method}", {}, "", read_only=True, destructive=False, idempotent=True
    )
