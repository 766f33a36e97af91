"""One POST for each request, to an endpoint known to speak a version of MCP in which each stands alone.

The session stays the SDK's, which stamps requests and checks answers; what it runs on here needs no
handshake, no task and no streams between tasks, so that a toolbox for two calls costs two calls.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2
from mcp import MCPError
from mcp.client.session import ClientSession
from mcp.types import CONNECTION_CLOSED, INTERNAL_ERROR, DiscoverResult, Implementation, ServerCapabilities

from specialists import tracing

if TYPE_CHECKING:
    from mcp.shared.dispatcher import CallOptions

ACCEPTED = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class Posts:
    """What an MCP session sends its requests with; `status` is that of the last answer."""

    def __init__(self, url: str, token: str, transport: httpx2.AsyncBaseTransport, connect: float) -> None:
        self._headers = ACCEPTED | ({"authorization": f"Bearer {token}"} if token else {})
        self._url, self._transport = httpx2.URL(url), transport
        self._timeout = httpx2.Timeout(connect, read=None).as_dict()
        self._numbers = itertools.count(1)
        self.status = 0

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Send one request and give its result; MCPError as answered, httpx2.HTTPError when the way is shut.

        To leave before the answer closes the connection, which tells the other side that nobody waits.
        """
        told, given = opts or {}, dict(params or {})
        with tracing.request(method, given) as carried:
            if carried:
                given["_meta"] = {**(given.get("_meta") or {}), **carried}
            async with asyncio.timeout(told.get("timeout")):
                return await self._asked(method, given, told.get("headers") or {})

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Nothing: in these versions a client tells a server nothing that is no request."""

    async def run(self, *_: Any, **__: Any) -> None:
        """Nothing: nobody speaks but in answer to a request."""

    async def _asked(self, method: str, params: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        request = httpx2.Request(
            "POST",
            self._url,
            headers={**self._headers, **headers},
            content=json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(),
            extensions={"timeout": self._timeout},
        )
        response = await self._transport.handle_async_request(request)
        response.request = request
        self.status = response.status_code
        try:
            return _result(await _answer(response, message["id"]), response.status_code)
        finally:
            await response.aclose()


async def _answer(response: httpx2.Response, number: int) -> Any:
    """The message that answers, from a body of JSON or from the stream that ends with it."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        async for event in httpx2.EventSource(response, None):
            message = json.loads(event.data) if event.data else {}
            if message.get("id") == number and "method" not in message:
                return message
        raise MCPError(CONNECTION_CLOSED, "the stream ended without an answer")
    body = await response.aread()
    try:
        return json.loads(body)
    except ValueError:
        return None


def _result(message: Any, status: int) -> dict[str, Any]:
    if isinstance(message, dict) and isinstance(error := message.get("error"), dict):
        raise MCPError(
            int(error.get("code", INTERNAL_ERROR)), str(error.get("message", "")), error.get("data")
        )
    if not isinstance(message, dict) or not isinstance(message.get("result"), dict):
        raise MCPError(INTERNAL_ERROR, f"no answer in the protocol's words (HTTP {status})")
    return message["result"]


def session_on(posts: Posts, version: str, about: Implementation, **callbacks: Any) -> ClientSession:
    """A session that speaks this version without having asked for it; it is used without being entered."""
    session = ClientSession(dispatcher=posts, client_info=about, **callbacks)
    session.adopt(
        DiscoverResult(
            supported_versions=[version],
            capabilities=ServerCapabilities(),
            result_type="complete",
            ttl_ms=0,
            cache_scope="public",
        )
    )
    return session
