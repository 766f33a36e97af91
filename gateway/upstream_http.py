"""A tool server over HTTP: one pool, modern requests alone, legacy sessions mirrored per caller."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

import orjson

from gateway import strictjson
from gateway.bridge import Bridge
from gateway.caller import Caller
from gateway.credentials import Credential
from gateway.errors import RpcError, UpstreamFailed
from gateway.http_client import Address, Pool, Response, forbidden_address, written
from gateway.http_session import HttpSession
from gateway.servers_file import ServerEntry
from gateway.types import Subject
from gateway.upstream import (
    ASKS,
    CLIENT_INFO,
    LONGEST_BREAK,
    PER_LINE,
    Background,
    Breaker,
    Pace,
    answers,
    hello,
    hello_of,
    in_rounds,
    message_of,
    outgoing,
    result_of,
    shared_key,
)
from gateway.wire import MODERN, NAMED, EventReader, encode_header

log = logging.getLogger("gateway.upstream")
AGENT = "pointsman-gateway/0.1"
MOST_WRITTEN = 1_000
ACCEPT = "application/json, text/event-stream"
OURSELVES = Subject("gateway:service")
AGAIN_SECONDS = 1.0  # between two streams of change notifications; doubled where they break off


class HttpUpstream:
    """One tool server at a URL."""

    def __init__(
        self,
        entry: ServerEntry,
        url: str,
        headers: dict[str, str],
        http: Pool,
        limit: int,
        credential: Credential | None = None,
    ) -> None:
        self.entry = entry
        self._credential = credential
        self.url = url
        self._address = Address.of(url, AGENT)
        self.http = http
        self.limit = limit
        self.info: dict[str, Any] = {}
        self.modern: bool | None = None
        self.legacy: bool | None = None  # None: not tried yet
        self.on_changed: Callable[[str], None] = lambda what: None
        self.background = Background()
        self.pace = Pace()
        self._breaker = Breaker()
        self.bridge = Bridge()
        self.ids = itertools.count(1)
        self.sessions: dict[str, HttpSession] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._listener: asyncio.Task[Any] | None = None
        self._written: dict[tuple[str, str | None], str] = {}  # the headers of what is asked again and again
        self._own = {"Content-Type": "application/json", "Accept": ACCEPT, **headers}

    # -- reaching it -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Learn the server's era and what it offers."""
        host = self._address.host
        if forbidden_address(host):
            raise UpstreamFailed("resolve", f"{host} is an address no tool server may have")
        caller = Caller(OURSELVES, info=CLIENT_INFO)
        try:
            self.info = hello_of(await self._modern_request("server/discover", {}, caller))
            self.modern = MODERN in self.info.get("supportedVersions", ())
        except RpcError:
            self.modern = False
        except UpstreamFailed as failed:
            if failed.stage not in ("http", "read"):
                raise
            self.modern = False  # servers of the old era answer an unknown request in many ways
        if self.modern:
            self._watch_modern()
            return
        session = await self._session(Caller(OURSELVES, "legacy", info=CLIENT_INFO))
        if session is None:
            raise UpstreamFailed("initialize", "it answers neither server/discover nor initialize")
        self.info = session.hello
        session.listen()

    def _watch_modern(self) -> None:
        told = self.info.get("capabilities") or {}
        kinds = ("tools", "prompts", "resources")
        wanted = {f"{k}ListChanged": True for k in kinds if (told.get(k) or {}).get("listChanged")}
        if wanted and (self._listener is None or self._listener.done()):
            self._listener = self.background.start(self._listen(wanted))

    async def _listen(self, wanted: dict[str, Any]) -> None:
        caller, wait = _Listener(self.on_changed), AGAIN_SECONDS
        while True:
            caller.request_id = f"watch-{next(self.ids)}"
            try:
                await self._modern_request("subscriptions/listen", {"notifications": wanted}, caller)
                wait = AGAIN_SECONDS
            except RpcError as error:
                log.info("%s: no change notifications (%s)", self.entry.name, error)
                return
            except UpstreamFailed as failed:  # it may be another when it comes back
                log.info("%s: change notifications ended (%s)", self.entry.name, failed)
                self.on_changed("notifications/tools/list_changed")
                wait = min(2 * wait, LONGEST_BREAK)
            await asyncio.sleep(wait)

    # -- asking it ---------------------------------------------------------------------------------

    async def request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """The server's result, in the caller's era where the server has it."""
        if self.modern is None:
            await self.connect()
        if caller.era == "modern" and self.modern:
            return await self._modern_request(method, params, caller)
        session = await self._session(caller)
        if session is not None:
            return await self._in_session(session, method, params, caller)
        return await in_rounds(lambda p: self._modern_request(method, p, caller), params, caller)

    async def _in_session(
        self, session: HttpSession, method: str, params: dict[str, Any], caller: Caller
    ) -> dict[str, Any]:
        async def send(wanted: dict[str, Any], asker: Caller) -> dict[str, Any]:
            return await session.request(method, outgoing(wanted, asker, self.entry, modern=False), asker)

        bridged = caller.era == "modern" and bool(self.entry.open & ASKS)
        return await (self.bridge.run(send, params, caller) if bridged else send(params, caller))

    async def _modern_request(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, Any]:
        body = outgoing(params, caller, self.entry, modern=True)
        headers = self._head(method, params, caller)
        number = caller.request_id if method == "subscriptions/listen" else next(self.ids)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": body}
        with await self.exchange("POST", headers, message, caller.subject) as response:
            answer = await self.read(response, number, caller.notify)
        if answer is None:
            raise UpstreamFailed("read", "it closed the stream before it answered", sent=True)
        return result_of(answer)

    def _head(self, method: str, params: dict[str, Any], caller: Caller) -> dict[str, str] | str:
        """The headers of a modern request, written once where nothing in them is the caller's own."""
        field = NAMED.get(method)
        named = params.get(field) if field else None
        about = (method, named if isinstance(named, str) else None)
        own = self._credential is not None or bool(caller.headers)
        if not own and (known := self._written.get(about)) is not None:
            return known
        headers = {**self._own, "MCP-Protocol-Version": MODERN, "Mcp-Method": method, **caller.headers}
        if about[1] is not None:
            headers["Mcp-Name"] = encode_header(about[1])
        if own:
            return headers
        if len(self._written) >= MOST_WRITTEN:
            self._written.clear()
        return self._written.setdefault(about, written(headers))

    async def exchange(
        self,
        verb: str,
        headers: dict[str, str] | str,
        message: dict[str, Any] | None = None,
        subject: Subject = OURSELVES,
    ) -> Response:
        """Send one request over the pool for this subject; its answer, to be left when it is read."""
        if self._credential is not None and not isinstance(headers, str):
            headers = {**headers, **await self._credential.headers(subject)}
        body = orjson.dumps(message) if message is not None else b""
        self._breaker.check()
        try:
            response = await self.http.request(verb, self._address, headers, body)
        except UpstreamFailed as failed:
            if failed.stage == "connect":
                self._breaker.failed(failed.reason)
            raise
        self._breaker.worked()
        if response.status == 401 and self._credential is not None and not isinstance(headers, str):
            self._credential.refused(headers)
        if 300 <= response.status < 400:
            with response:
                raise UpstreamFailed(
                    "connect", f"it redirects (HTTP {response.status}): register the new address"
                )
        return response

    async def read(
        self, response: Response, number: Any, take: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any] | None:
        """The answer to request `number`; what comes before goes to `take`. None: the stream ended first."""
        kind = response.content_type
        if response.headers.get("content-encoding", "identity") != "identity":
            raise UpstreamFailed("read", "it compresses its answer although nobody asked it to", sent=True)
        if kind == "text/event-stream" and response.status == 200:
            return await self.read_events(response, number, take)
        raw = await self._body(response)
        if kind != "application/json":
            if response.status in (401, 403):
                raise UpstreamFailed(
                    "auth", f"it answers HTTP {response.status}: check the headers of its entry"
                )
            raise UpstreamFailed("http", f"it answers HTTP {response.status} with {kind}", sent=True)
        answer = message_of(self.parse(raw))
        unread = answer.get("id") is None and "error" in answer  # it could not read which one it was
        if not answers(answer, number) and not unread:
            raise UpstreamFailed(
                "read", f"HTTP {response.status} with an answer to something else", sent=True
            )
        if response.status in (401, 403) and "error" not in answer:
            raise UpstreamFailed("auth", f"it answers HTTP {response.status}: check the headers of its entry")
        return answer

    async def read_events(
        self,
        response: Response,
        number: Any,
        take: Callable[[dict[str, Any]], Any],
        mark: Callable[[str, int | None], None] = lambda number, retry: None,
    ) -> dict[str, Any] | None:
        """The answer to request `number` out of a stream of events."""
        reader = EventReader(self.limit)
        async for chunk in response.chunks():
            try:
                events = list(reader.feed(chunk))
            except ValueError as error:
                raise UpstreamFailed("read", str(error), sent=True, refusal="result_too_large") from None
            for data, last, retry in events:
                mark(last, retry)
                if not data:
                    continue
                message = message_of(self.parse(data))
                if "method" not in message and number is not None and answers(message, number):
                    return message
                await self.pace.spend(self.pace.count(len(data)))
                if "method" in message:
                    await take(message)
            await self.pace.spend(chunk.count(b"\n") * PER_LINE)
        return None

    async def _body(self, response: Response) -> bytes:
        if response.content_length > self.limit:
            raise self._too_large(f"{response.content_length} bytes")
        if (whole := response.whole()) is None:
            parts, size = [], 0
            async for chunk in response.chunks():
                size += len(chunk)
                if size > self.limit:
                    raise self._too_large(f"more than {self.limit} bytes")
                parts.append(chunk)
            whole = b"".join(parts)
        if len(whole) > self.limit:
            raise self._too_large(f"{len(whole)} bytes")
        return whole

    def _too_large(self, size: str) -> UpstreamFailed:
        return UpstreamFailed("read", f"{size} are too many", sent=True, refusal="result_too_large")

    def parse(self, raw: bytes) -> Any:
        """One message of the server, read strictly."""
        try:
            return strictjson.read(raw, limit=self.limit)
        except RpcError as error:
            raise UpstreamFailed("read", str(error), sent=True) from None

    # -- legacy sessions ---------------------------------------------------------------------------

    async def open_session(self, caller: Caller) -> dict[str, Any] | None:
        """Open the caller's own session; what the server said."""
        session = await self._session(caller)
        return session.hello if session is not None else None

    async def _session(self, caller: Caller) -> HttpSession | None:
        if self.legacy is False:
            return None
        key = caller.session.id if caller.session is not None else shared_key(caller, self.entry)
        if self._credential is not None and caller.session is None:  # else it is one person's anyway
            key += self._credential.person(caller.subject)
        session = self.sessions.get(key)
        if session is not None and not session.gone:
            return session
        async with self._opening.setdefault(key, asyncio.Lock()):
            session = self.sessions.get(key)
            if session is not None and not session.gone:
                return session
            session = HttpSession(self, self._own, caller.subject, caller.session)
            try:
                await session.open(hello(caller, self.entry))
            except RpcError:
                if self.legacy is None and self.modern:
                    self.legacy = False
                    return None
                raise
            self.legacy = True
            self.sessions[key] = session
            if caller.session is not None:
                session.listen()
            return session

    async def notify(self, method: str, params: dict[str, Any], caller: Caller) -> None:
        """Pass a legacy client's notification to its own session, if it has one."""
        session = self.sessions.get(caller.session.id) if caller.session is not None else None
        if session is not None and not session.gone:
            await session.tell(method, params)

    async def close_session(self, key: str) -> None:
        """Close what was opened for this downstream session."""
        self._opening.pop(key, None)
        session = self.sessions.pop(key, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Close every session and stop listening."""
        await self.bridge.close()
        await asyncio.gather(*(self.close_session(key) for key in list(self.sessions)))
        await self.background.stop()


class _Listener(Caller):
    """Takes the change notifications of a modern server."""

    __slots__ = ("_changed",)

    def __init__(self, changed: Callable[[str], None]) -> None:
        super().__init__(OURSELVES, info=CLIENT_INFO)
        self._changed = changed

    async def notify(self, message: dict[str, Any]) -> None:
        """Pass on that a list has changed."""
        self._changed(message.get("method", ""))
