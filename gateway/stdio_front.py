"""The way in over stdio: lines of a client go to the gateway's own endpoint, its answers back, as they are.

There is no second road: this is a client of the HTTP front like any other, under a token of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from gateway import strictjson
from gateway.errors import GatewayError, InvalidRequest, RpcError, UpstreamFailed, UsageError
from gateway.http_client import Address, Pool, Response
from gateway.upstream import Background
from gateway.wire import (
    NAMED,
    VERSION_KEY,
    EventReader,
    checked_message,
    encode_header,
    make_param_headers,
    param_headers,
)

log = logging.getLogger("gateway.stdio")
AGENT = "pointsman-stdio/0.1"
LAST_SECONDS = 1.0  # for what is under way when the client closes its end
AGAIN_SECONDS = 1.0
LOST = -32011
MISMATCH = -32020
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


class Door(Protocol):
    """Where the gateway is, and by which token it lets us in."""

    async def open(self) -> tuple[str, str]:
        """Its address without a path, and a token; asked again when the last ones are no good any more."""
        ...

    async def close(self) -> None:
        """We do not come again."""
        ...


@dataclass(frozen=True)
class Way:
    """An address and a token, and the session a client of the old era has there."""

    address: Address
    token: str
    session: str = ""
    version: str = ""


class StdioFront:
    """One client on stdio."""

    def __init__(self, door: Door, path: str, pool: Pool, out: asyncio.StreamWriter, limit: int) -> None:
        self._door = door
        self._path = path
        self._pool = pool
        self._out = out
        self._limit = limit
        self._way: Way | None = None
        self._joining = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._running: dict[Any, asyncio.Task[Any]] = {}
        self._background = Background()
        self._hello: dict[str, Any] | None = None  # the client's `initialize`, if it is of the old era
        self._stream: asyncio.Task[Any] | None = None
        self._repeated: dict[str, Any] = {}  # by tool: which arguments are repeated in headers
        self._ids = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Carry messages until the client closes its end; fails at once where there is no gateway."""
        await self._rejoin(None)
        try:
            async for line in lines(reader, self._limit):
                await self._take(line)
            if self._running:
                await asyncio.wait(self._running.values(), timeout=LAST_SECONDS)
        except (BrokenPipeError, ConnectionResetError):
            log.info("the client has gone")
        finally:
            await self._background.stop()
            await self._end_session()

    # -- what the client says ----------------------------------------------------------------------

    async def _take(self, line: bytes) -> None:
        number = None
        try:
            message = strictjson.read(line, limit=self._limit)
            number = checked_message(message)
            if "method" in message and number in self._running:
                raise InvalidRequest(f"a request with the id {number!r} is under way already")
        except RpcError as error:
            await self._refuse(number, error)
            return
        if "method" in message and "id" in message:
            task = self._running[number] = self._background.start(self._answered(message))
            if message["method"] == "initialize":
                await asyncio.wait((task,))  # what comes next belongs to the session it opens
        elif message.get("method") == "notifications/cancelled":
            params = message.get("params")
            task = self._running.get(params.get("requestId")) if isinstance(params, dict) else None
            if task is not None:
                task.cancel()  # closes its exchange, by which the gateway knows
        elif self._way is not None and self._way.session:
            await self._told(message)  # in the new era a client has nothing else to say

    async def _told(self, message: dict[str, Any]) -> None:
        try:
            with await self._exchange(message) as response:
                if response.status >= 300:
                    log.warning("%s was not taken: HTTP %d", message.get("method", "answer"), response.status)
        except GatewayError as error:
            log.warning("%s was not taken: %s", message.get("method", "answer"), error)

    async def _answered(self, message: dict[str, Any]) -> None:
        number = message["id"]
        try:
            await self._ask(message)
        except UpstreamFailed as failed:
            may = "; the request may have run" if failed.sent else ""
            await self._refuse(number, RpcError(f"the gateway cannot be reached: {failed}{may}", number=LOST))
        except GatewayError as error:
            await self._refuse(number, RpcError(str(error), number=LOST))
        finally:
            self._running.pop(number, None)

    # -- what the gateway says ---------------------------------------------------------------------

    async def _ask(self, message: dict[str, Any], *, again: bool = False) -> None:
        number = message["id"]
        with await self._exchange(message) as response:
            if response.content_type == "text/event-stream" and response.status == 200:
                await self._pass_events(response, number)
                return
            answer = self._parsed(await _body(response), response.status)
            if message["method"] == "initialize" and "result" in answer:
                self._keep_session(message, answer["result"], response)
        if not again and message["method"] == "tools/call" and await self._learnt(message, answer):
            await self._ask(message, again=True)
            return
        await self._say(orjson.dumps({**answer, "id": number}))

    async def _pass_events(self, response: Response, number: Any) -> None:
        async for data in _events(response):
            await self._say(data)
            said = orjson.loads(data)
            if "method" not in said and said.get("id") == number:
                return
        if number is not None:
            raise UpstreamFailed("read", "it closed the stream before it answered", sent=True)

    def _parsed(self, body: bytes, status: int) -> dict[str, Any]:
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise UpstreamFailed("http", f"it answers HTTP {status}: is this the address of a gateway?")
        return told

    async def _learnt(self, message: dict[str, Any], answer: dict[str, Any]) -> bool:
        """Whether the call failed for want of headers that stdio has not, and what they are is known now."""
        if (answer.get("error") or {}).get("code") != MISMATCH:
            return False
        params = message["params"]
        about: dict[str, Any] = {"_meta": {k: v for k, v in params["_meta"].items() if k != "progressToken"}}
        wanted = {"jsonrpc": "2.0", "id": f"tools-{next(self._ids)}", "method": "tools/list", "params": about}
        with await self._exchange(wanted) as response:
            told = self._parsed(await _body(response), response.status)
        for tool in (told.get("result") or {}).get("tools", ()):
            if tool.get("name") == params.get("name"):
                self._repeated[tool["name"]] = param_headers(tool.get("inputSchema") or {})
                return True
        return False

    # -- the way there -----------------------------------------------------------------------------

    async def _exchange(self, message: dict[str, Any]) -> Response:
        """Post a message; once more where the gateway, the token or the session is not the one it was."""
        way = self._way
        assert way is not None
        try:
            response = await self._post(way, message)
        except UpstreamFailed as failed:
            if failed.stage != "connect":
                raise
        else:
            lost = response.status == 401 or (response.status == 404 and way.session and not _modern(message))
            if not lost:
                return response
            with response:
                pass
        await self._rejoin(way)
        assert self._way is not None
        return await self._post(self._way, message)

    async def _post(self, way: Way, message: dict[str, Any]) -> Response:
        headers = {**HEADERS, "Authorization": f"Bearer {way.token}"}
        if (version := _modern(message)) is not None:
            params = message["params"]
            headers |= {"MCP-Protocol-Version": str(version), "Mcp-Method": message["method"]}
            named = params.get(NAMED.get(message["method"], ""))
            if isinstance(named, str):
                headers["Mcp-Name"] = encode_header(named)
                if (wanted := self._repeated.get(named)) and message["method"] == "tools/call":
                    headers |= make_param_headers(wanted, params.get("arguments") or {})
        elif way.session:
            headers |= {"Mcp-Session-Id": way.session, "MCP-Protocol-Version": way.version}
        return await self._pool.request("POST", way.address, headers, orjson.dumps(message))

    async def _rejoin(self, lost: Way | None) -> None:
        """Find the gateway again, and shake hands again for a client of the old era."""
        async with self._joining:
            if self._way is not lost:
                return  # somebody has, meanwhile
            url, token = await self._door.open()
            self._way = Way(Address.of(url + self._path, AGENT), token)
            if self._hello is None:
                return
            with await self._post(self._way, self._hello) as response:
                answer = self._parsed(await _body(response), response.status)
                if "result" not in answer:
                    raise GatewayError(f"the gateway does not open the session again: {answer.get('error')}")
                self._keep_session(self._hello, answer["result"], response)
            ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            with await self._post(self._way, ready):
                pass

    def _keep_session(self, hello: dict[str, Any], result: dict[str, Any], response: Response) -> None:
        assert self._way is not None
        self._hello = hello
        session, version = response.headers.get("mcp-session-id", ""), str(result.get("protocolVersion", ""))
        self._way = Way(self._way.address, self._way.token, session, version)
        if self._stream is not None:
            self._stream.cancel()
        self._stream = self._background.start(self._own_stream(self._way))

    async def _own_stream(self, way: Way) -> None:
        """What the gateway says to a client of the old era beside its answers."""
        headers = {
            **{"Accept": "text/event-stream", "Authorization": f"Bearer {way.token}"},
            **{"Mcp-Session-Id": way.session, "MCP-Protocol-Version": way.version},
        }
        while self._way is way:
            with (
                suppress(UpstreamFailed),
                await self._pool.request("GET", way.address, headers, b"") as response,
            ):
                if response.status == 200:
                    await self._pass_events(response, None)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _end_session(self) -> None:
        way = self._way
        if way is not None and way.session:
            headers = {"Authorization": f"Bearer {way.token}", "Mcp-Session-Id": way.session}
            with suppress(UpstreamFailed, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    with await self._pool.request("DELETE", way.address, headers, b""):
                        pass

    # -- out ---------------------------------------------------------------------------------------

    async def _refuse(self, number: Any, error: RpcError) -> None:
        await self._say(orjson.dumps({"jsonrpc": "2.0", "id": number, "error": error.body()}))

    async def _say(self, message: bytes) -> None:
        async with self._writing:
            self._out.write(message + b"\n")
            await self._out.drain()


def _modern(message: dict[str, Any]) -> Any:
    """The version a request of the new era names in itself; None for the old era."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta.get(VERSION_KEY) if isinstance(meta, dict) else None


async def _body(response: Response) -> bytes:
    return b"".join([chunk async for chunk in response.chunks()])


async def _events(response: Response) -> AsyncIterator[bytes]:
    reader = EventReader(sys.maxsize)  # it is our own gateway, which has its limits
    async for chunk in response.chunks():
        for data, _, _ in reader.feed(chunk):
            if data:
                yield data


async def lines(reader: asyncio.StreamReader, limit: int) -> AsyncIterator[bytes]:
    """The lines that come; of one that is too long its beginning, longer than `limit`, and never the rest."""
    held, skipping = b"", False
    while chunk := await reader.read(65_536):
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            if not skipping and line.strip():
                yield line
            skipping = False
        if skipping:
            held = b""
        elif len(held) > limit:
            yield held[: limit + 1]
            held, skipping = b"", True
    if held.strip() and not skipping:
        yield held


async def open_stdio() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """This process's stdin and stdout as streams."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), sys.stdout
        )
    except (ValueError, OSError):
        raise UsageError(
            "stdin and stdout must be pipes: an MCP client starts this command, see docs/gateway.md"
        ) from None
    return reader, asyncio.StreamWriter(transport, protocol, None, loop)


async def serve(door: Door, path: str, *, connect_seconds: float, limit: int) -> None:
    """Serve the client on stdin and stdout until it closes them or SIGTERM comes."""
    reader, out = await open_stdio()
    try:
        async with Pool(connect_seconds) as pool:
            await StdioFront(door, path, pool, out, limit).serve(reader)
    finally:
        await door.close()
