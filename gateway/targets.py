"""Finds what a request is about: the approved tool, or the server behind a resource or a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.caller import Caller
from gateway.catalogue import Catalogue
from gateway.errors import InvalidParams, Refusal
from gateway.index import Index
from gateway.types import Tool, Verb
from gateway.wire import check_param_headers, param_headers

VERBS: dict[str, Verb] = {
    "tools/call": "call",
    "resources/read": "read",
    "resources/subscribe": "read",
    "resources/unsubscribe": "read",
    "prompts/get": "prompt",
    "completion/complete": "complete",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about, and what of it policy judges."""

    method: str
    tool: Tool
    arguments: dict[str, Any]
    name: str = ""  # what the server itself calls it, where callers use another name


class Targets:
    """Turns public names, URIs and references into targets."""

    def __init__(self, catalogue: Catalogue, index: Index) -> None:
        self._catalogue = catalogue
        self._index = index
        self._headers: dict[str, Any] = {}  # by tool digest: which arguments are repeated in headers

    async def find(self, caller: Caller, method: str, params: dict[str, Any]) -> Target:
        """What this request is about; refuses what is unknown, not approved, or does not fit its schema."""
        if method == "tools/call":
            name = _text(params, "name")
            if not self._catalogue.has(name, caller.endpoint):
                await self._catalogue.first_seen((caller.endpoint or name.partition("__")[0],))
            return self._tool(caller, method, params)
        if method.startswith("resources/"):
            uri = _text(params, "uri")
            server = await self._index.server_of_uri(uri, caller)
            return Target(method, self._stand_in(server, uri), {"uri": uri})
        if method == "prompts/get":
            server, name = await self._index.server_of_prompt(_text(params, "name"), caller)
            given = params.get("arguments")
            return Target(
                method, self._stand_in(server, name), given if isinstance(given, dict) else {}, name
            )
        reference = params.get("ref")
        if not isinstance(reference, dict):
            raise InvalidParams("params.ref must say what to complete")
        if "uri" in reference:
            uri = _text(reference, "uri")
            server = await self._index.server_of_uri(uri, caller)
            return Target(method, self._stand_in(server, uri), {"uri": uri})
        server, name = await self._index.server_of_prompt(_text(reference, "name"), caller)
        return Target(method, self._stand_in(server, name), {"name": name}, name)

    def _tool(self, caller: Caller, method: str, params: dict[str, Any]) -> Target:
        name = _text(params, "name")
        arguments = params.get("arguments")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise InvalidParams("params.arguments must be an object")
        tool = self._catalogue.find(name, caller.endpoint)
        if caller.era == "modern":
            self._check_headers(tool, arguments, caller)
        if trouble := self._catalogue.checks[tool.digest][0].problem(arguments):
            raise Refusal("invalid_arguments", f"{name} did not run: {trouble}")
        return Target(method, tool, arguments, tool.name)

    def _check_headers(self, tool: Tool, arguments: dict[str, Any], caller: Caller) -> None:
        wanted = self._headers.get(tool.digest)
        if wanted is None:
            wanted = self._headers[tool.digest] = param_headers(tool.definition.get("inputSchema") or {})
        if wanted:
            check_param_headers(wanted, arguments, caller.headers)

    def _stand_in(self, server: str, name: str) -> Tool:
        """What policy and ledger see in place of a tool, for a resource or a prompt."""
        behind = self._catalogue.servers.get(server)
        stands = behind.stands if behind is not None else ""
        public = f"{server}:{name}"[:300]
        return Tool(
            server,
            name,
            public,
            {},
            stands,
            read_only=True,
            destructive=False,
            idempotent=True,
            labels=behind.entry.labels if behind is not None else (),
        )

    def outgoing(self, target: Target, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters under the server's own names."""
        if target.method == "completion/complete":
            return {**params, "ref": {**params["ref"], "name": target.name}} if target.name else params
        return (
            {**params, "name": target.name} if target.name and params.get("name") != target.name else params
        )

    def cleaned(self, target: Target, result: dict[str, Any]) -> dict[str, Any]:
        """The result without the `_meta` keys a server may not pass on."""
        meta = result.get("_meta")
        server = self._catalogue.servers.get(target.tool.server)
        if not isinstance(meta, dict) or (server is not None and "meta" in server.entry.open):
            return result
        kept = {key: value for key, value in meta.items() if key.startswith("io.modelcontextprotocol/")}
        rest = {key: value for key, value in result.items() if key != "_meta"}
        return {**rest, "_meta": kept} if kept else rest


def _text(params: dict[str, Any], name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str):
        raise InvalidParams(f"params.{name} must be a string")
    return value
